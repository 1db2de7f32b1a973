"""transformers' CLIPModel: the network that open_clip builds from its own ViTs, under other names.

Such a file is read as open_clip's, where queries, keys and values are one matrix and projections are transposed.
`config.json` next to it names the activation, which no tensor shows, and `preprocessor_config.json` the preprocessing.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mobileclip_deploy.base.files import read_json
from mobileclip_deploy.errors import REASON, CheckpointError, InvalidInput, reraising
from mobileclip_deploy.network.checkpoints.keymap import KeyMap, KeyRule, same, transposed
from mobileclip_deploy.network.checkpoints.tensor_files import Made, TensorFile
from mobileclip_deploy.network.checkpoints.weights_files import MODEL_CONFIG

FORM, ACTIVATION = "form", "activation"
"""Keys that are added to the metadata of a file that was read as open_clip's."""
NAME = "transformers"

KEYS = re.compile(r"(vision|text)_model\.(embeddings|encoder)\.")
APART = re.compile(r"^(.+\.layers\.\d+\.self_attn\.)([qkv])_proj\.(weight|bias)$")
NOT_WEIGHTS = re.compile(r"\.position_ids$")
RULES = [
    KeyRule(r"^logit_scale$", "logit_scale"),
    KeyRule(r"^visual_projection\.weight$", "visual.proj", transposed),
    KeyRule(r"^text_projection\.weight$", "text.text_projection", transposed),
    KeyRule(r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    KeyRule(r"^vision_model\.embeddings\.patch_embedding\.weight$", "visual.conv1.weight"),
    KeyRule(r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    KeyRule(r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # as transformers spells it
    KeyRule(r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    KeyRule(r"^text_model\.embeddings\.token_embedding\.weight$", "text.token_embedding.weight"),
    KeyRule(r"^text_model\.embeddings\.position_embedding\.weight$", "text.positional_embedding"),
    KeyRule(r"^text_model\.final_layer_norm\.", "text.ln_final."),
    KeyRule(r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    KeyRule(r"^text_model\.encoder\.layers\.", "text.transformer.resblocks."),
    KeyRule(r"(resblocks\.\d+)\.layer_norm([12])\.", r"\1.ln_\2."),
    KeyRule(r"(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    KeyRule(r"(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
    KeyRule(r"(resblocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.out_proj."),
    KeyRule(r"(resblocks\.\d+)\.self_attn\.[qkv]_proj\.", r"\1.attn.in_proj_"),
]


def as_open_clip(file: TensorFile) -> TensorFile:
    """Returns the same weights under open_clip's names.

    Raises:
        CheckpointError: a layer lacks its queries, keys or values, or config.json cannot be read.
    """
    made: dict[str, Made] = {}
    names = KeyMap([*RULES, KeyRule(r"^", "")])  # names without a rule stay
    for key, shape in file.shapes.items():
        if NOT_WEIGHTS.search(key):
            continue
        name, way = names.theirs(key)
        if (match := APART.match(key)) is not None:
            made[name] = stacked(file, match)
        else:
            turned = shape if way is same else tuple(reversed(shape))
            made[name] = turned, lambda key=key, way=way: way.ours(file.read(key))  # type: ignore[misc]
    metadata = {**file.metadata, FORM: NAME, **_activation(file.path)}
    note = "a CLIPModel of transformers, read by open_clip's names"
    return replace(file.remade(made), metadata=metadata, notes=(*file.notes, note))


def stacked(file: TensorFile, one: re.Match[str]) -> Made:
    """Returns queries, keys and values of a layer in one tensor. `one`: the match of `APART` with one of the three
    names.

    Raises:
        CheckpointError: one of the three is missing.
    """
    keys = {which: f"{one[1]}{which}_proj.{one[3]}" for which in "qkv"}
    if lacking := [which for which, key in keys.items() if key not in file.shapes]:
        raise CheckpointError(f"{file.path}: {one[0]} lacks its {', '.join(lacking)}; save the whole model")
    first = file.shapes[one[0]]
    return (3 * first[0], *first[1:]), lambda: torch.cat([file.read(key) for key in keys.values()])


def _activation(path: Path) -> Mapping[str, str]:
    """Returns the activation in the config.json next to the file; transformers leaves out its default."""
    config = path.parent / MODEL_CONFIG
    if not config.is_file():
        return {}
    damaged = f"{config} cannot be read ({REASON}); save the model again"
    with reraising(damaged, InvalidInput, ValueError, OSError, into=CheckpointError):
        config_json: Any = read_json(config)
    root = config_json if isinstance(config_json, dict) else {}
    tower_config = root.get("text_config") or root.get("vision_config") or {}
    if not isinstance(tower_config, dict):
        raise CheckpointError(damaged.replace(REASON, "its structure is not valid"))
    return {ACTIVATION: "QuickGELU" if tower_config.get("hidden_act", "quick_gelu") == "quick_gelu" else "GELU"}
