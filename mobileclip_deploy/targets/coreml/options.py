"""Options of the Core ML target: the oldest system that can run a package (precisions may raise it), and the compute
units that run it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.network.model.precision import PRECISIONS, precision_of
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import ComputeUnits

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")  # compared as text: older ones are smaller
DEFAULT_TARGET = "iOS16"
UNITS: tuple[ComputeUnits, ...] = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
UNITS_VARIABLE = "MOBILECLIP_COREML_UNITS"
# The first system that reads packages of several functions.
MULTIFUNCTION_TARGET = "iOS18"
# The oldest system that can run a precision, and the feature that needs it.
NEEDED = {
    "fp32": ("iOS15", "ML programs"),
    "fp16": ("iOS15", "ML programs"),
    "w8": ("iOS16", "8-bit weights"),
    "w8a8": ("iOS17", "8-bit activations"),
    "w6p": ("iOS16", "palettized weights"),
    "w4p": ("iOS16", "palettized weights"),
    "w4p-p50": ("iOS18", "weights both pruned and palettized"),
    "w4": ("iOS18", "4-bit weights in blocks"),
    "mixed": ("iOS18", "4-bit weights in blocks"),
}


def allowed_units() -> tuple[ComputeUnits, ...]:
    """Returns the compute units that Core ML may use: all, or those in MOBILECLIP_COREML_UNITS, separated by commas.

    The GPU of a virtual Mac kills the process that computes on it.

    Raises:
        UsageError: the variable has an unknown unit.
    """
    named = [name.strip() for name in os.environ.get(UNITS_VARIABLE, "").split(",") if name.strip()]
    for name in named:
        if name not in UNITS:
            raise UsageError(f"{UNITS_VARIABLE}={name} is not a compute unit; known: {', '.join(UNITS)}")
    return tuple(unit for unit in UNITS if unit in named or not named)


@dataclass(frozen=True)
class CoreMLOptions(TargetOptions):
    """Options of the Core ML target.

    Attributes:
        deployment_target: iOS15 to iOS18; None lets the precisions decide.
        multifunction: True to put both towers into one package, one function per tower, which iOS 18 can read.
    """

    deployment_target: str | None = option(
        "--deployment-target",
        "Oldest system to support. [default: iOS16, or newer if the precision needs it]",
        metavar="iOSNN",
    )
    multifunction: bool = option(
        "--multifunction", "Write both towers to one package, with a function for each (needs iOS18).", default=False
    )


def _parts(precisions: Iterable[str]) -> list[str]:
    """Returns the precisions without repetition, with a word table's precision separate from the rest's."""
    pairs = [precision_of(name) for name in precisions]
    return list(dict.fromkeys(name for pair in pairs for name in (pair.rest, pair.table) if name is not None))


def reported(precisions: Iterable[str]) -> str | None:
    """Returns a warning about others' reports of these precisions on devices, which cannot be tested here. None if
    there are no reports."""
    narrow = [name for name in _parts(precisions) if PRECISIONS[name].bits == 4]
    if not narrow:
        return None
    return (
        f"{' and '.join(narrow)}: 4-bit weights are reported to give wrong results or to crash on the Neural Engine of "
        "macOS 26 (coremltools 2688, 2716); run the bundle's golden answers on a device before you ship it."
    )


def needed_target(precisions: Iterable[str], wanted: str | None = None) -> str:
    """Returns the deployment target: `wanted`, or the default raised to the precisions' minimum.

    Args:
        precisions: precisions of the towers.
        wanted: the user's choice; None if there is none.

    Raises:
        UsageError: it is unknown, or too old for a precision.
    """
    if wanted is not None and wanted not in DEPLOYMENT_TARGETS:
        close = suggestion(wanted, DEPLOYMENT_TARGETS)
        raise UsageError(f"unknown deployment target {wanted!r}{close}; known: {', '.join(DEPLOYMENT_TARGETS)}")
    needed = max(_parts(precisions), key=lambda name: NEEDED[name][0])
    oldest, why = NEEDED[needed]
    if wanted is None:
        return max(DEFAULT_TARGET, oldest)
    if wanted < oldest:
        raise UsageError(
            f"precision {needed} needs {oldest} ({why}), but the deployment target is {wanted}; give {oldest} or leave "
            "it out"
        )
    return wanted
