"""Learned rounding: weights put on a target's grids so that outputs stay, not each number to the nearest."""

from mobileclip_deploy.learning.rounding.calibration_set import CalibrationSet, read_calibration_set
from mobileclip_deploy.learning.rounding.kept import forget
from mobileclip_deploy.learning.rounding.rounding import (
    LEARNABLE,
    METHODS,
    Learning,
    Rounded,
    RoundedTower,
    check_rounding,
    round_source,
)

__all__ = [
    "LEARNABLE",
    "METHODS",
    "CalibrationSet",
    "Learning",
    "Rounded",
    "RoundedTower",
    "check_rounding",
    "forget",
    "read_calibration_set",
    "round_source",
]
