"""FastVLM's layout (apple/ml-fastvlm, after LLaVA): the image tower in a language model's file, folded in part.

The tower is published in the form of Apple's `reparameterize_model`. MobileOne blocks, large kernels, RepMixers and
positional encodings are one convolution each; the feed-forwards keep their BatchNorm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mobileclip_deploy.network.checkpoints.apple import mci_rules
from mobileclip_deploy.network.checkpoints.keymap import KeyMap, Rule
from mobileclip_deploy.network.model.variants import MCiTower, Variant

NAME = "llava"
TOWERS = {"image": "vision_tower.", "text": "text_tower."}  # the language model is not a text tower
NOTE = "the language model, its projector and the tower's unused head are left out"

KEYS = re.compile(r"(model\.)?vision_tower\.vision_tower\.model\.")
UNUSED = "head."  # CLIP's projection: tokens leave before it

FOLDED = [
    Rule(r"\.ffn\.", ".convffn."),
    Rule(r"(proj\.0)\.conv\.", r"\1.lkb_reparam."),
    Rule(r"(proj\.1|patch_embed\.\d|token_mixer|conv_exp|network\.\d+)\.conv\.", r"\1.reparam_conv."),
]


def keymap(variant: Variant) -> KeyMap:
    """Returns the map from our keys to FastVLM's, below `vision_tower.`."""
    assert isinstance(variant.image, MCiTower)
    return KeyMap([*mci_rules(variant.image, "vision_tower."), Rule(r"^logit_scale$", "logit_scale"), *FOLDED])


def canonical_names(keys: Iterable[str]) -> dict[str, str]:
    """Returns the image tower's names as `keymap` uses them: {name to look up: name in the file}."""
    inside = {key[match.end() :]: key for key in keys if (match := KEYS.match(key))}
    return {f"vision_tower.{name}": key for name, key in inside.items() if not name.startswith(UNUSED)}
