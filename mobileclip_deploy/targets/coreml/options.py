"""What a user may choose of Core ML, the oldest system that a package needs then, and where in Core ML it runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.model.precision import PRECISIONS, precision_of
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import ComputeUnits, RuntimePlace

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
DEFAULT_TARGET = "iOS16"
UNITS: tuple[ComputeUnits, ...] = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
PLACES = tuple(RuntimePlace("coreml", compute_units=unit) for unit in UNITS)
UNITS_VARIABLE = "MOBILECLIP_COREML_UNITS"
# The first system that reads packages of several functions.
MULTIFUNCTION_TARGET = "iOS18"
# The oldest system that can run a precision, and what of it that one is needed for.
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
    """The compute units that Core ML is asked for: all, or those that MOBILECLIP_COREML_UNITS names, with commas.

    The GPU of a virtual Mac ends the process that computes on it.

    Raises:
        UsageError: one that is named there is none.
    """
    named = [name.strip() for name in os.environ.get(UNITS_VARIABLE, "").split(",") if name.strip()]
    for name in named:
        if name not in UNITS:
            raise UsageError(f"{UNITS_VARIABLE}={name} is no compute unit; known: {', '.join(UNITS)}")
    return tuple(unit for unit in UNITS if unit in named or not named)


@dataclass(frozen=True)
class CoreMLOptions(TargetOptions):
    """`deployment_target`: iOS15 to iOS18; None leaves it to the precisions. `multifunction` puts both towers into one
    package, one function per tower, which iOS 18 can read."""

    deployment_target: str | None = option(
        "--deployment-target", "The oldest system to run on [default: iOS16, or as needed].", metavar="iOSNN"
    )
    multifunction: bool = option(
        "--multifunction", "Both towers in one package, a function each (iOS18).", default=False
    )

    def oldest(self, precision: str) -> str:
        """The deployment target of a package of this precision, without functions."""
        return self.deployment_target or _needed([precision], None)

    def settled(self, precisions: Mapping[TowerName, str]) -> Self:
        """The options with the deployment target as it was given, or what precisions, and functions, need.

        Raises:
            UsageError: it is unknown, or older than what is needed; or functions are wanted of one tower alone.
        """
        wanted, functions = self.deployment_target, self.multifunction
        if functions and len(precisions) == 1:
            (tower,) = precisions
            alone = f"leave it out for the {tower} tower alone"
            raise UsageError(f"`multifunction` puts both towers into one package; {alone}")
        target = _needed(list(precisions.values()), wanted or (MULTIFUNCTION_TARGET if functions else None))
        if functions and is_older(target, MULTIFUNCTION_TARGET):
            raise UsageError(
                f"`multifunction` needs {MULTIFUNCTION_TARGET} (packages of several functions), and the deployment "
                f"target given is {target}; give {MULTIFUNCTION_TARGET} or leave one of the two out"
            )
        return replace(self, deployment_target=target)

    def advice(self, precisions: Mapping[TowerName, str]) -> str | None:
        """What raised the deployment target, and what others report of these precisions."""
        return " ".join(text for text in (self._raised(precisions), _reported(precisions.values())) if text) or None

    def _raised(self, precisions: Mapping[TowerName, str]) -> str | None:
        target = self.settled(precisions).deployment_target
        if target is None or self.deployment_target is not None or not is_older(DEFAULT_TARGET, target):
            return None
        raised = [
            name for name in dict.fromkeys(precisions.values()) if is_older(DEFAULT_TARGET, _needed([name], None))
        ]
        if self.multifunction:
            raised = ["`multifunction`"]
        return f"Deployment target raised from {DEFAULT_TARGET} to {target}, which {' and '.join(raised)} needs."


def _parts(precisions: Iterable[str]) -> list[str]:
    """The precisions themselves, a table's own apart, each once."""
    found = [precision_of(name) for name in precisions]
    return list(dict.fromkeys(name for one in found for name in (one.rest, one.table) if name is not None))


def _reported(precisions: Iterable[str]) -> str | None:
    """What others report of these precisions on devices, which nothing here can see; None for those without reports."""
    narrow = [name for name in _parts(precisions) if PRECISIONS[name].bits == 4]
    if not narrow:
        return None
    return (
        f"{' and '.join(narrow)}: 4-bit weights are reported to answer wrongly or to crash on the Neural Engine of "
        "macOS 26 (coremltools 2688, 2716); run the bundle's golden answers on a device before you ship it."
    )


def is_older(target: str, other: str) -> bool:
    """Whether a deployment target comes before another."""
    return DEPLOYMENT_TARGETS.index(target) < DEPLOYMENT_TARGETS.index(other)


def _needed(precisions: Sequence[str], wanted: str | None) -> str:
    """The deployment target: as wanted, or the default raised to what precisions need.

    Args:
        precisions: of the towers.
        wanted: what the user gave; None where nothing was given.

    Raises:
        UsageError: unknown, or older than a precision needs.
    """
    if wanted is not None and wanted not in DEPLOYMENT_TARGETS:
        close = suggestion(wanted, DEPLOYMENT_TARGETS)
        raise UsageError(f"unknown deployment target {wanted!r}{close}; known: {', '.join(DEPLOYMENT_TARGETS)}")
    needed = max(_parts(precisions), key=lambda name: DEPLOYMENT_TARGETS.index(NEEDED[name][0]))
    oldest, why = NEEDED[needed]
    if wanted is None:
        return max(DEFAULT_TARGET, oldest, key=DEPLOYMENT_TARGETS.index)
    if is_older(wanted, oldest):
        raise UsageError(
            f"precision {needed} needs {oldest} ({why}), and the deployment target given is {wanted}; "
            f"give {oldest} or leave it out"
        )
    return wanted
