"""The oldest system that can run a Core ML package of a precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.model.precision import PRECISIONS, precision_of

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName

__all__ = [
    "DEFAULT_TARGET",
    "DEPLOYMENT_TARGETS",
    "NEEDED",
    "is_older",
    "reported",
    "settle_multifunction",
    "settle_target",
]

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
DEFAULT_TARGET = "iOS16"
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


def _parts(precisions: Iterable[str]) -> list[str]:
    """The precisions themselves, a table's own apart, each once."""
    found = [precision_of(name) for name in precisions]
    return list(dict.fromkeys(name for one in found for name in (one.rest, one.table) if name is not None))


def reported(precisions: Iterable[str]) -> str | None:
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


def settle_target(precisions: Sequence[str], wanted: str | None) -> str:
    """The deployment target of a bundle: as wanted, or the default raised to what its precisions need.

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


def settle_multifunction(precisions: Mapping[TowerName, str], wanted: str | None) -> str:
    """The deployment target of a package with functions: as wanted, or what functions need.

    Raises:
        UsageError: older than functions or a precision need, or there is only one tower.
    """
    if len(precisions) == 1:
        (tower,) = precisions
        raise UsageError(f"`multifunction` puts both towers into one package; leave it out for the {tower} tower alone")
    target = settle_target(list(precisions.values()), wanted or MULTIFUNCTION_TARGET)
    if is_older(target, MULTIFUNCTION_TARGET):
        raise UsageError(
            f"`multifunction` needs {MULTIFUNCTION_TARGET} (packages of several functions), and the deployment target "
            f"given is {target}; give {MULTIFUNCTION_TARGET} or leave one of the two out"
        )
    return target
