"""transformers' CLIPModel: the network that open_clip builds from its own ViTs, under other names.

A file of it is read as open_clip's: queries, keys and values are one matrix there, and projections are transposed.
`config.json` beside it names the activation, which no tensor tells, and `preprocessor_config.json` the pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileclip_deploy.checkpoints.keymap import Rule, same, transposed
from mobileclip_deploy.checkpoints.tensor_files import TensorFile
from mobileclip_deploy.checkpoints.weights_files import MODEL_CONFIG
from mobileclip_deploy.errors import CheckpointError, InvalidInput, worded
from mobileclip_deploy.files import read_json

FORM, ACTIVATION = "form", "activation"
"""What the metadata of a file that was read as open_clip's say besides its own."""
NAME = "transformers"

LAYER = r"^(vision|text)_model\.encoder\.layers\.(\d+)\."
FUSED = re.compile(LAYER + r"self_attn\.([qkv])_proj\.(weight|bias)$")
NOT_WEIGHTS = re.compile(r"\.position_ids$")
SIDES = {"vision": "visual", "text": "text"}
RULES = [
    Rule(r"^logit_scale$", "logit_scale"),
    Rule(r"^visual_projection\.weight$", "visual.proj", transposed),
    Rule(r"^text_projection\.weight$", "text.text_projection", transposed),
    Rule(r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    Rule(r"^vision_model\.embeddings\.patch_embedding\.weight$", "visual.conv1.weight"),
    Rule(r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    Rule(r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # as transformers spells it
    Rule(r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    Rule(r"^text_model\.embeddings\.token_embedding\.weight$", "text.token_embedding.weight"),
    Rule(r"^text_model\.embeddings\.position_embedding\.weight$", "text.positional_embedding"),
    Rule(r"^text_model\.final_layer_norm\.", "text.ln_final."),
]
PARTS = {
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "self_attn.out_proj.": "attn.out_proj.",
}


def recognises(keys: Iterable[str]) -> bool:
    """Whether the keys are of a CLIPModel, or of one of its towers."""
    return any(re.match(r"(vision|text)_model\.(embeddings|encoder)\.", key) for key in keys)


def as_open_clip(file: TensorFile) -> TensorFile:
    """The same weights under open_clip's names.

    Raises:
        CheckpointError: a layer lacks its queries, keys or values, or config.json cannot be read.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, Callable[[], Tensor]] = {}
    fused: dict[str, dict[str, str]] = {}
    for key in file.shapes:
        if NOT_WEIGHTS.search(key):
            continue
        if (part := FUSED.match(key)) is not None:
            side, layer, which, kind = part.groups()
            fused.setdefault(f"{SIDES[side]}.transformer.resblocks.{layer}.attn.in_proj_{kind}", {})[which] = key
            continue
        name, shape = _named(key)
        shapes[name] = tuple(reversed(file.shapes[key])) if shape is transposed else file.shapes[key]
        readers[name] = lambda key=key, shape=shape: shape.ours(file.read(key))  # type: ignore[misc]
    for name, parts in fused.items():
        if set(parts) != set("qkv"):
            lacking = ", ".join(sorted(set("qkv") - set(parts)))
            raise CheckpointError(
                f"{file.path}: {parts.popitem()[1]} comes without its {lacking}; save the whole model"
            )
        keys = [parts[which] for which in "qkv"]
        first = file.shapes[keys[0]]
        shapes[name] = (3 * first[0], *first[1:])
        readers[name] = lambda keys=keys: torch.cat([file.read(key) for key in keys])  # type: ignore[misc]
    metadata = {**file.metadata, FORM: NAME, **_activation(file.path)}
    note = "a CLIPModel of transformers, read by open_clip's names"
    return replace(file, shapes=shapes, read=lambda name: readers[name](), metadata=metadata, notes=(*file.notes, note))


def _named(key: str) -> tuple[str, Any]:
    for rule in RULES:
        name, hits = re.subn(rule.ours, rule.theirs, key, count=1)
        if hits:
            return name, rule.shape
    if (layer := re.match(LAYER, key)) is not None:
        rest = key[layer.end() :]
        for theirs, ours in PARTS.items():
            if rest.startswith(theirs):
                return f"{SIDES[layer[1]]}.transformer.resblocks.{layer[2]}.{ours}{rest[len(theirs) :]}", same
    return key, same


def _activation(path: Path) -> Mapping[str, str]:
    """What the model's configuration says, if it lies beside the file; transformers leaves out what is usual."""
    config = path.parent / MODEL_CONFIG
    if not config.is_file():
        return {}
    try:
        told: Any = read_json(config)
    except (InvalidInput, ValueError, OSError) as error:
        raise CheckpointError(f"{config} cannot be read ({worded(error)}); save the model again") from error
    said = told.get("text_config") or told.get("vision_config") or {} if isinstance(told, dict) else {}
    return {ACTIVATION: "QuickGELU" if said.get("hidden_act", "quick_gelu") == "quick_gelu" else "GELU"}
