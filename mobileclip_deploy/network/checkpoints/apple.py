"""Apple's layout (apple/ml-mobileclip, v1): `image_encoder.model.*`, `text_encoder.*`, `logit_scale`."""

import re

from mobileclip_deploy.network.checkpoints.keymap import KeyMap, KeyRule, flatten_leading, transposed
from mobileclip_deploy.network.model.variants import MCiTower, Variant

NAME = "apple"
KEYS = re.compile(r"(image|text)_encoder\.")
TOWERS = {"image": "image_encoder.", "text": "text_encoder."}

TRANSFORMER = [
    KeyRule(r"\.norm1\.", ".pre_norm_mha.0."),
    KeyRule(r"\.attention\.qkv\.", ".pre_norm_mha.1.qkv_proj."),
    KeyRule(r"\.attention\.proj\.", ".pre_norm_mha.1.out_proj."),
    KeyRule(r"\.norm2\.", ".pre_norm_ffn.0."),
    KeyRule(r"(transformer\.\d+)\.fc1\.", r"\1.pre_norm_ffn.1."),
    # 2 and 3 are GELU and dropout.
    KeyRule(r"(transformer\.\d+)\.fc2\.", r"\1.pre_norm_ffn.4."),
]
BRANCHES = [
    KeyRule(r"\.branches\.", ".rbr_conv."),
    KeyRule(r"\.scale\.", ".rbr_scale."),
    KeyRule(r"\.skip\.", ".rbr_skip."),
    KeyRule(r"\.large\.", ".lkb_origin."),
    KeyRule(r"\.small\.", ".small_conv."),
    KeyRule(r"\.ffn\.", ".convffn."),
]
TEXT = [
    KeyRule(r"^text\.token_embedding\.", "text_encoder.embedding_layer."),
    # [L, C] here, [1, 1, L, C] in the file.
    KeyRule(
        r"^text\.positional_embedding$", "text_encoder.positional_embedding.pos_embed.pos_embed", flatten_leading(2)
    ),
    KeyRule(r"^text\.blocks\.", "text_encoder.transformer."),
    KeyRule(r"^text\.final_norm\.", "text_encoder.final_layer_norm."),
    # A bare matrix in the file, [C, D]: x @ p. nn.Linear holds [D, C].
    KeyRule(r"^text\.projection\.weight$", "text_encoder.projection_layer", transposed),
    KeyRule(r"^logit_scale$", "logit_scale"),
]
VIT = [
    # Our stem counts its GELUs as well: 0, 2, 4 here are 0, 1, 2 in the file.
    KeyRule(r"^image\.stem\.(\d)\.bn\.", lambda m: f"image_encoder.model.patch_emb.{int(m[1]) // 2}.block.norm."),
    KeyRule(r"^image\.stem\.(\d)\.(conv\.)?", lambda m: f"image_encoder.model.patch_emb.{int(m[1]) // 2}.block.conv."),
    KeyRule(r"^image\.class_token$", "image_encoder.model.cls_token", flatten_leading(2)),
    KeyRule(r"^image\.positional_embedding$", "image_encoder.model.pos_embed.pos_embed.pos_embed", flatten_leading(2)),
    KeyRule(r"^image\.blocks\.", "image_encoder.model.transformer."),
    KeyRule(r"^image\.final_norm\.", "image_encoder.model.post_transformer_norm."),
    KeyRule(r"^image\.projection\.weight$", "image_encoder.model.classifier.proj", transposed),
]


def keymap(variant: Variant) -> KeyMap:
    """Returns the map from our keys to Apple's for one variant."""
    image = mci_rules(variant.image, "image_encoder.model.") if isinstance(variant.image, MCiTower) else VIT
    return KeyMap([*image, *TEXT, *BRANCHES, *TRANSFORMER])


def mci_rules(spec: MCiTower, root: str) -> list[KeyRule]:
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
        KeyRule(r"^image\.stem\.", f"{root}patch_embed."),
        KeyRule(r"^image\.stages\.(\d+)\.(downsample|position|blocks)\.", network),
        KeyRule(r"^image\.expand\.se\.fc1\.", f"{root}conv_exp.se.reduce."),
        KeyRule(r"^image\.expand\.se\.fc2\.", f"{root}conv_exp.se.expand."),
        KeyRule(r"^image\.expand\.", f"{root}conv_exp."),
        KeyRule(r"^image\.projection\.weight$", f"{root}head.proj", transposed),
    ]
