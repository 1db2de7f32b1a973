"""Apple's layout (apple/ml-mobileclip, v1): `image_encoder.model.*`, `text_encoder.*`, `logit_scale`."""

from __future__ import annotations

import re

from mobileclip_deploy.network.checkpoints.keymap import KeyMap, Rule, flatten_leading, transposed
from mobileclip_deploy.network.model.variants import MCiTower, Variant

NAME = "apple"
KEYS = re.compile(r"(image|text)_encoder\.")
TOWERS = {"image": "image_encoder.", "text": "text_encoder."}

TRANSFORMER = [
    Rule(r"\.norm1\.", ".pre_norm_mha.0."),
    Rule(r"\.attention\.qkv\.", ".pre_norm_mha.1.qkv_proj."),
    Rule(r"\.attention\.proj\.", ".pre_norm_mha.1.out_proj."),
    Rule(r"\.norm2\.", ".pre_norm_ffn.0."),
    Rule(r"(transformer\.\d+)\.fc1\.", r"\1.pre_norm_ffn.1."),
    # 2 and 3 are GELU and dropout.
    Rule(r"(transformer\.\d+)\.fc2\.", r"\1.pre_norm_ffn.4."),
]
BRANCHES = [
    Rule(r"\.branches\.", ".rbr_conv."),
    Rule(r"\.scale\.", ".rbr_scale."),
    Rule(r"\.skip\.", ".rbr_skip."),
    Rule(r"\.large\.", ".lkb_origin."),
    Rule(r"\.small\.", ".small_conv."),
    Rule(r"\.ffn\.", ".convffn."),
]
TEXT = [
    Rule(r"^text\.token_embedding\.", "text_encoder.embedding_layer."),
    # [L, C] here, [1, 1, L, C] in the file.
    Rule(r"^text\.positional_embedding$", "text_encoder.positional_embedding.pos_embed.pos_embed", flatten_leading(2)),
    Rule(r"^text\.blocks\.", "text_encoder.transformer."),
    Rule(r"^text\.final_norm\.", "text_encoder.final_layer_norm."),
    # A bare matrix in the file, [C, D]: x @ p. nn.Linear holds [D, C].
    Rule(r"^text\.projection\.weight$", "text_encoder.projection_layer", transposed),
    Rule(r"^logit_scale$", "logit_scale"),
]
VIT = [
    # Our stem counts its GELUs as well: 0, 2, 4 here are 0, 1, 2 in the file.
    Rule(r"^image\.stem\.(\d)\.bn\.", lambda m: f"image_encoder.model.patch_emb.{int(m[1]) // 2}.block.norm."),
    Rule(r"^image\.stem\.(\d)\.(conv\.)?", lambda m: f"image_encoder.model.patch_emb.{int(m[1]) // 2}.block.conv."),
    Rule(r"^image\.class_token$", "image_encoder.model.cls_token", flatten_leading(2)),
    Rule(r"^image\.positional_embedding$", "image_encoder.model.pos_embed.pos_embed.pos_embed", flatten_leading(2)),
    Rule(r"^image\.blocks\.", "image_encoder.model.transformer."),
    Rule(r"^image\.final_norm\.", "image_encoder.model.post_transformer_norm."),
    Rule(r"^image\.projection\.weight$", "image_encoder.model.classifier.proj", transposed),
]


def keymap(variant: Variant) -> KeyMap:
    """Returns the map from our keys to Apple's for one variant."""
    image = mci_rules(variant.image, "image_encoder.model.") if isinstance(variant.image, MCiTower) else VIT
    return KeyMap([*image, *TEXT, *BRANCHES, *TRANSFORMER])


def mci_rules(spec: MCiTower, root: str) -> list[Rule]:
    """Returns rules for the parts of an MCi tower below `root`. Apple numbers patch embeddings, positional encodings
    and stages in one list, `network`."""
    index: dict[tuple[int, str], int] = {}
    for stage, positional in enumerate(spec.positional):
        present = (stage > 0, positional, True)
        for part, exists in zip(("downsample", "position", "blocks"), present, strict=True):
            if exists:
                index[stage, part] = len(index)

    def network(match: re.Match[str]) -> str:
        part = match[2]
        return f"{root}network.{index[int(match[1]), part]}." + ("proj." if part == "downsample" else "")

    return [
        Rule(r"^image\.stem\.", f"{root}patch_embed."),
        Rule(r"^image\.stages\.(\d+)\.(downsample|position|blocks)\.", network),
        Rule(r"^image\.expand\.se\.fc1\.", f"{root}conv_exp.se.reduce."),
        Rule(r"^image\.expand\.se\.fc2\.", f"{root}conv_exp.se.expand."),
        Rule(r"^image\.expand\.", f"{root}conv_exp."),
        Rule(r"^image\.projection\.weight$", f"{root}head.proj", transposed),
    ]
