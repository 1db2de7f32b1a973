"""What rounding can be learned for, and how: known before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target, targets

METHODS = ("nearest", "gptq", "tuned")
"""How weights get onto their grids; the first learns nothing, the last tunes the floats after the second."""

LEARNABLE = ("w8", "w8a8", "w8a16", "w6p", "w4p", "w4")
"""Precisions whose rounding can be learned, of everything but the table of words."""


def check_rounding(target: Target, precisions: Mapping[TowerName, str]) -> None:
    """Refuse by a UsageError a target whose exporter does not find the learned integers again, and precisions without
    any."""
    known = [name for name, one in targets().items() if one.abilities.recoverable or one.abilities.learns_rounding]
    if target.label not in known:
        raise UsageError(f"{target.label} takes no learned rounding ({', '.join(known)} do); leave `rounding` out")
    if not {precision_of(precision).rest for precision in precisions.values()} & set(LEARNABLE):
        names = " and ".join(dict.fromkeys(precisions.values()))
        raise UsageError(f"{names}: rounding is learned for {', '.join(LEARNABLE)}; leave `rounding` out")


def check_folder(folder: Path) -> None:
    """Refuse by a UsageError a folder to learn from that is not there."""
    if not folder.is_dir():
        raise UsageError(f"`calibration` {folder}: no such folder; give one with images and captions like the app's")
