"""What each precision does to a Core ML package, and the oldest system that can run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.model.precision import precision_of

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName

__all__ = [
    "DEFAULT_TARGET",
    "DEPLOYMENT_TARGETS",
    "RECIPES",
    "Recipe",
    "is_older",
    "recipe_of",
    "reported",
    "settle_multifunction",
    "settle_target",
]

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
DEFAULT_TARGET = "iOS16"
# The first system that reads packages of several functions.
MULTIFUNCTION_TARGET = "iOS18"


@dataclass(frozen=True)
class Recipe:
    """How the weights of a precision are stored.

    `weights`: as they are; `linear`: integers with one float16 scale an output channel (8 bits) or block (4 bits);
    `palette`: indices into tables of float16. `sparsity` is the share of each weight that is set to zero first and
    stored as a bit mask. `activations`: inputs and outputs of convolutions, linear layers, pools and additions are
    rounded to int8 as well. `oldest` is the deployment target that this needs, `why` what of it does.
    """

    oldest: str
    why: str
    weights: Literal["plain", "linear", "palette"] = "plain"
    bits: int = 16
    sparsity: float = 0.0
    activations: bool = False


RECIPES: dict[str, Recipe] = {
    "fp32": Recipe("iOS15", "ML programs", bits=32),
    "fp16": Recipe("iOS15", "ML programs"),
    "w8": Recipe("iOS16", "8-bit weights", "linear", 8),
    "w8a8": Recipe("iOS17", "8-bit activations", "linear", 8, activations=True),
    "w6p": Recipe("iOS16", "palettized weights", "palette", 6),
    "w4p": Recipe("iOS16", "palettized weights", "palette", 4),
    "w4p-p50": Recipe("iOS18", "weights both pruned and palettized", "palette", 4, sparsity=0.5),
    "w4": Recipe("iOS18", "4-bit weights in blocks", "linear", 4),
}


# Of the layers that TowerJob.four_bit names; the others have 8 bits. Chosen by a search, not by name.
MIXED = Recipe("iOS18", "4-bit weights in blocks", "linear", 4)


def recipe_of(precision: str) -> Recipe:
    """The recipe of a precision, "mixed" among them; of one with a table of its own that of the rest."""
    return MIXED if precision == "mixed" else RECIPES[precision_of(precision).rest]


def _parts(precisions: Iterable[str]) -> list[str]:
    """The precisions themselves, a table's own apart, each once."""
    found = [precision_of(name) for name in precisions]
    return list(dict.fromkeys(name for one in found for name in (one.rest, one.table) if name is not None))


def reported(precisions: Iterable[str]) -> str | None:
    """What others report of these precisions on devices, which nothing here can see; None for those without reports."""
    narrow = [name for name in _parts(precisions) if recipe_of(name).bits == 4]
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
    needed = max(_parts(precisions), key=lambda name: DEPLOYMENT_TARGETS.index(recipe_of(name).oldest))
    recipe = recipe_of(needed)
    if wanted is None:
        return max(DEFAULT_TARGET, recipe.oldest, key=DEPLOYMENT_TARGETS.index)
    if is_older(wanted, recipe.oldest):
        raise UsageError(
            f"precision {needed} needs {recipe.oldest} ({recipe.why}), and the deployment target given is {wanted}; "
            f"give {recipe.oldest} or leave it out"
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
