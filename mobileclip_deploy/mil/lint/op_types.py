"""Op types by what public sources say of them: ANEForge's catalog (sources.CATALOG), and what rules single out."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["GATHER", "NATIVE", "NO_HARDWARE", "RECURRENT", "SORTS"]

GATHER = {"gather", "gather_along_axis", "gather_nd"}
SORTS = {"topk", "argsort"}
RECURRENT = {"gru", "lstm", "rnn"}
_CATALOG = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
NATIVE, NO_HARDWARE = (frozenset(" ".join(_CATALOG[kind]).split()) for kind in ("native", "no_hardware"))
