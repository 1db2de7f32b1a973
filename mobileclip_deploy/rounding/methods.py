"""Methods of rounding, and the precisions that support them. Known before torch is imported."""

from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target, targets

METHODS = ("nearest", "gptq", "tuned")
"""Methods to put weights on their grids. The first learns nothing; the last also tunes the floats after the second."""

LEARNABLE = ("w8", "w8a8", "w8a16", "w6p", "w4p", "w4")
"""Precisions whose rounding can be learned, for all weights except the table of words."""


def check_rounding(target: Target, precisions: Mapping[TowerName, str]) -> None:
    """Raises UsageError if the target's exporter cannot keep learned integers, or no precision has any."""
    supported = [name for name, known in targets().items() if known.capabilities.storing.learns_rounding]
    if target.label not in supported:
        raise UsageError(f"{target.label} has no learned rounding ({', '.join(supported)} have); leave `rounding` out")
    if not {precision_of(precision).rest for precision in precisions.values()} & set(LEARNABLE):
        names = " and ".join(dict.fromkeys(precisions.values()))
        raise UsageError(f"{names}: rounding is learned for {', '.join(LEARNABLE)}; leave `rounding` out")


def check_folder(folder: Path) -> None:
    """Raises UsageError if the folder to learn from does not exist."""
    if not folder.is_dir():
        raise UsageError(f"`calibration` {folder}: no such folder; give one with images and captions like the app's")
