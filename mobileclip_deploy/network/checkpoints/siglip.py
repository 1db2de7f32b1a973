"""transformers' layout of SigLIP and SigLIP2 (`SiglipModel`): `vision_model.*` + `text_model.*`, a pooling head each.

A file has queries, keys and values as three tensors in the layers and as one in the head. This package does the
opposite. `joined` restacks them when a file is read, `parted` when one is written.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints.keymap import KeyMap, KeyRule, flatten_leading
from mobileclip_deploy.network.checkpoints.tensor_files import Made, TensorFile
from mobileclip_deploy.network.checkpoints.transformers import APART, NOT_WEIGHTS, stacked
from mobileclip_deploy.network.model.variants import Variant

NAME = "transformers"
KEYS = re.compile(r"(vision|text)_model\.head\.")
TOWERS = {"image": "vision_model.", "text": "text_model."}

PATCHES = "vision_model.embeddings.patch_embedding.weight"
TOGETHER = re.compile(r"^(.+\.layers\.\d+\.self_attn\.)qkv_proj\.(weight|bias)$")
STACKED = re.compile(r"^(vision_model\.head\.attention\.)in_proj_(weight|bias)$")
ASKED = re.compile(r"^(vision_model\.head\.attention\.)q_proj\.(weight|bias)$")

RULES = [
    KeyRule(r"^image\.stem\.", "vision_model.embeddings.patch_embedding."),
    KeyRule(r"^image\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    KeyRule(r"^image\.blocks\.", "vision_model.encoder.layers."),
    KeyRule(r"^image\.final_norm\.", "vision_model.post_layernorm."),
    KeyRule(r"^image\.pool\.latent$", "vision_model.head.probe", flatten_leading(2)),  # [C] here, [1, 1, C] in the file
    KeyRule(r"^image\.pool\.query\.", "vision_model.head.attention.q_proj."),
    KeyRule(r"^image\.pool\.key_value\.", "vision_model.head.attention.kv_proj."),
    KeyRule(r"^image\.pool\.proj\.", "vision_model.head.attention.out_proj."),
    KeyRule(r"^image\.pool\.norm\.", "vision_model.head.layernorm."),
    KeyRule(r"^image\.pool\.(fc[12])\.", r"vision_model.head.mlp.\1."),
    KeyRule(r"^text\.token_embedding\.weight$", "text_model.embeddings.token_embedding.weight"),
    KeyRule(r"^text\.positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    KeyRule(r"^text\.blocks\.", "text_model.encoder.layers."),
    KeyRule(r"^text\.final_norm\.", "text_model.final_layer_norm."),
    KeyRule(r"^text\.projection\.", "text_model.head."),
    KeyRule(r"^(logit_scale|logit_bias)$", r"\1"),
    KeyRule(r"(layers\.\d+)\.norm([12])\.", r"\1.layer_norm\2."),
    KeyRule(r"(layers\.\d+)\.attention\.qkv\.", r"\1.self_attn.qkv_proj."),
    KeyRule(r"(layers\.\d+)\.attention\.proj\.", r"\1.self_attn.out_proj."),
    KeyRule(r"(layers\.\d+)\.(fc[12])\.", r"\1.mlp.\2."),
]


def keymap(variant: Variant) -> KeyMap:
    """Returns the map from our keys to those of a file that `joined` has read."""
    return KeyMap(RULES)


def joined(file: TensorFile) -> TensorFile:
    """Restacks a file's weights: a layer's queries, keys and values in one tensor, the head's query in one of its own.

    Raises:
        CheckpointError: a layer lacks its queries, keys or values, or the model takes patches of any number.
    """
    if len(file.shapes.get(PATCHES, ())) == 2:
        raise CheckpointError(
            f"{file.path} is a Siglip2Model, which takes pictures of any shape as a list of patches (NaFlex); give a "
            "SigLIP2 checkpoint of a fixed size, such as google/siglip2-base-patch16-256"
        )
    made: dict[str, Made] = {}
    for key, shape in file.shapes.items():
        if NOT_WEIGHTS.search(key):
            continue
        if (match := APART.match(key)) is not None:
            made[f"{match[1]}qkv_proj.{match[3]}"] = stacked(file, match)
        elif (whole := STACKED.match(key)) is not None:
            third = shape[0] // 3
            for name, rows in (("q", slice(0, third)), ("kv", slice(third, None))):
                made[f"{whole[1]}{name}_proj.{whole[2]}"] = (
                    (third if name == "q" else shape[0] - third, *shape[1:]),
                    lambda key=key, rows=rows: file.read(key)[rows],  # type: ignore[misc]
                )
        else:
            made[key] = shape, lambda key=key: file.read(key)  # type: ignore[misc]
    return file.remade(made)


def parted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors by the names and in the stacks that transformers saves: the reverse of `joined`."""
    stored: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if (stack := TOGETHER.match(key)) is not None:
            names = [f"{stack[1]}{which}_proj.{stack[2]}" for which in "qkv"]
            stored |= {name: part.contiguous() for name, part in zip(names, value.chunk(3), strict=True)}
        elif (query := ASKED.match(key)) is not None:
            rest = tensors[f"{query[1]}kv_proj.{query[2]}"]
            stored[f"{query[1]}in_proj_{query[2]}"] = torch.cat((value, rest))
        elif ".head.attention.kv_proj." in key:
            continue  # written with the query
        else:
            stored[key] = value.reshape(1) if key in ("logit_scale", "logit_bias") else value
    return stored
