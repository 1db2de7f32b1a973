"""The papers' own runs as fields of a recipe.

From apple/ml-mobileclip, training/configs at commit 4144bb1: run_datacompdr12m.sh, run_datacompdr1b.sh,
run_dfndr12m.sh and run_dfndr2b.sh (`--distill-loss-weights` w0 w1 are 1 - `distillation` and `distillation`). They
train without an average of the weights.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

_V1 = [{"embed_dim": 768, "scale": 100.0}] * 2
_V2 = [{"embed_dim": 768, "scale": 70.0}, {"embed_dim": 768, "scale": 60.0}]
_ALL = {
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 1000,
    "betas": [0.9, 0.95],
    "weight_decay": 0.2,
    "gradient_norm": 1.0,
    "average": 0.0,
    "layer_scale": 1e-5,
    "distillation": 1.0,
    "datacompdr": {"teachers": _V1},
}
_12M = _ALL | {"steps": 30_000, "batch": 8192}
_1B = _ALL | {"steps": 200_000, "batch": 65_536}
PRESETS: dict[str, dict[str, Any]] = {
    "datacompdr-12m": _12M,
    "datacompdr-1b": _1B,
    "datacompdr-1b-vit": _1B | {"distillation": 0.75},
    "dfndr-12m": _12M | {"datacompdr": {"teachers": _V2}},
    "dfndr-2b": _1B | {"datacompdr": {"teachers": _V2, "captions": "^syn_text_dfn_mscoco38k$"}},
}
"""`datacompdr-1b` is that of the S variants, `datacompdr-1b-vit` that of ViT-B/16."""
