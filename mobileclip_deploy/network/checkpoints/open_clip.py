"""open_clip's layout: `visual.trunk.*` + `text.*` (timm towers), or OpenAI's `visual.*` + `transformer.*`."""

import re
from collections.abc import Iterable

from mobileclip_deploy.network.checkpoints.keymap import KeyMap, KeyRule, flatten_leading, pairs_apart, transposed
from mobileclip_deploy.network.model.variants import MCiTower, Variant, ViTTower

NAME = "open_clip"
TOWERS = {"image": "visual.", "text": "text."}

# Text towers at the top level, as in OpenAI's form.
PLAIN_TEXT = re.compile(r"^(transformer\.resblocks|token_embedding|ln_final|positional_embedding$|text_projection$)")
# A timm model saved on its own, with the projection as its classifier.
TIMM = re.compile(r"^(stem\.\d+\.conv_|stages\.\d+\.|patch_embed\.|blocks\.\d+\.attn\.|head\.|final_conv\.|norm_pre\.)")
KEYS = re.compile(rf"visual\.|text\.(transformer|ln_final)\.|{PLAIN_TEXT.pattern}|{TIMM.pattern}")
# Entries of OpenAI's state dicts and old open_clip versions that are not weights.
NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"}

TEXT = [
    KeyRule(r"^text\.blocks\.", "text.transformer.resblocks."),
    KeyRule(r"^text\.final_norm\.", "text.ln_final."),
    KeyRule(r"^text\.projection\.weight$", "text.text_projection", transposed),
    KeyRule(r"^text\.projection\.bias$", "text.text_projection.bias"),
    KeyRule(r"^text\.(token_embedding\.weight|positional_embedding)$", r"text.\1"),
    KeyRule(r"^(logit_scale|logit_bias)$", r"\1"),
]
# With a bias the projection is a linear layer in the file, whose weight has the same shape as ours.
BIASED_TEXT = KeyRule(r"^text\.projection\.weight$", "text.text_projection.weight")
RESBLOCKS = [
    KeyRule(r"(resblocks\.\d+)\.norm([12])\.", r"\1.ln_\2."),
    # nn.MultiheadAttention's names: in_proj_weight and in_proj_bias, without a dot.
    KeyRule(r"(resblocks\.\d+)\.attention\.qkv\.", r"\1.attn.in_proj_"),
    KeyRule(r"(resblocks\.\d+)\.attention\.proj\.", r"\1.attn.out_proj."),
    KeyRule(r"(resblocks\.\d+)\.fc1\.", r"\1.mlp.c_fc."),
    KeyRule(r"(resblocks\.\d+)\.fc2\.", r"\1.mlp.c_proj."),
]
MCI = [
    KeyRule(r"^image\.stem\.", "visual.trunk.stem."),
    KeyRule(r"^image\.(stages\.\d+)\.blocks\.", r"visual.trunk.\1.blocks."),
    KeyRule(r"^image\.(stages\.\d+)\.downsample\.", r"visual.trunk.\1.downsample.proj."),
    KeyRule(r"^image\.(stages\.\d+)\.position\.pe\.", r"visual.trunk.\1.pos_emb.pos_enc."),
    KeyRule(r"^image\.expand\.", "visual.trunk.final_conv."),
    KeyRule(r"^image\.projection\.", "visual.trunk.head.fc."),
    KeyRule(r"\.branches\.", ".conv_kxk."),
    KeyRule(r"\.scale\.", ".conv_scale."),
    KeyRule(r"\.skip\.", ".identity."),
    KeyRule(r"\.large\.", ".large_conv."),
    KeyRule(r"\.small\.", ".small_conv."),
    KeyRule(r"\.ffn\.", ".mlp."),
    KeyRule(r"\.(layer_scale(_\d)?)$", r".\1.gamma"),
]
TIMM_VIT = [
    KeyRule(
        r"^image\.stem\.(\d)\.",
        lambda m: f"visual.trunk.patch_embed.backbone.{int(m[1]) // 2}." + ("conv." if m[1] == "4" else ""),
    ),
    KeyRule(r"^image\.stem\.", "visual.trunk.patch_embed.proj."),
    KeyRule(r"^image\.class_token$", "visual.trunk.cls_token", flatten_leading(2)),  # [C] here, [1, 1, C] in the file
    KeyRule(r"^image\.positional_embedding$", "visual.trunk.pos_embed", flatten_leading(1)),  # [1, rows, C] in the file
    KeyRule(r"^image\.pre_norm\.", "visual.trunk.norm_pre."),
    KeyRule(r"^image\.blocks\.", "visual.trunk.blocks."),
    KeyRule(r"^image\.final_norm\.", "visual.trunk.norm."),
    KeyRule(r"^image\.pool\.latent$", "visual.trunk.attn_pool.latent", flatten_leading(2)),
    KeyRule(r"^image\.pool\.", "visual.trunk.attn_pool."),
    KeyRule(r"attn_pool\.query\.", "attn_pool.q."),
    KeyRule(r"attn_pool\.key_value\.", "attn_pool.kv."),
    KeyRule(r"attn_pool\.(fc[12])\.", r"attn_pool.mlp.\1."),
    KeyRule(r"^image\.projection\.", "visual.trunk.head."),
    KeyRule(r"(trunk\.blocks\.\d+)\.attention\.", r"\1.attn."),
    KeyRule(r"(trunk\.blocks\.\d+)\.(fc[12])\.", r"\1.mlp.\2."),
]
PLAIN_VIT = [
    KeyRule(r"^image\.stem\.", "visual.conv1."),
    KeyRule(r"^image\.class_token$", "visual.class_embedding"),
    KeyRule(r"^image\.positional_embedding$", "visual.positional_embedding"),
    KeyRule(r"^image\.pre_norm\.", "visual.ln_pre."),
    KeyRule(r"^image\.blocks\.", "visual.transformer.resblocks."),
    KeyRule(r"^image\.final_norm\.", "visual.ln_post."),
    KeyRule(r"^image\.projection\.weight$", "visual.proj", transposed),
]


def keymap(variant: Variant) -> KeyMap:
    """Returns the map from our keys to open_clip's for one variant, with the text tower under `text.`."""
    vit = PLAIN_VIT if is_plain(variant) else TIMM_VIT
    if isinstance(variant.image, ViTTower) and variant.image.rotary_grid is not None:
        turned = KeyRule(
            r"^image\.(blocks\.\d+\.attention\.qkv)\.", r"visual.trunk.\1.", pairs_apart(variant.image.heads)
        )
        vit = [turned, *vit]
    image = MCI if isinstance(variant.image, MCiTower) else vit
    text = [BIASED_TEXT, *TEXT] if variant.text.projection_bias else TEXT
    return KeyMap([*image, *text, *RESBLOCKS])


def is_plain(variant: Variant) -> bool:
    """Returns whether open_clip builds the variant from its own VisionTransformer and not from a timm model. The former
    projects without a bias and puts the text tower at the top level; a timm model's head has a bias."""
    image = variant.image
    bare = isinstance(image, ViTTower) and image.stem == "patch" and image.pooling != "attention"
    return bare and not image.projection_bias


def canonical_names(keys: Iterable[str]) -> dict[str, str]:
    """Returns the names as `keymap` uses them: {name to look up: name in the file}. A text tower at the top level goes
    under `text.`, a timm model under `visual.trunk.`."""
    names = [key for key in keys if key not in NOT_WEIGHTS]
    timm_alone = not any(key.startswith("visual.") for key in names) and any(map(TIMM.match, names))
    return {_canonical(key, timm_alone): key for key in names}


def _canonical(key: str, timm_alone: bool) -> str:
    if key in ("logit_scale", "logit_bias") or key.startswith(("visual.", "text.")):
        return key
    if timm_alone:
        return f"visual.trunk.{key}"
    return f"text.{key}" if PLAIN_TEXT.match(key) else key


def file_name(key: str, variant: Variant) -> str:
    """Returns the name under which open_clip saves a canonical key."""
    return key.removeprefix("text.") if is_plain(variant) else key
