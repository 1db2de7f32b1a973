"""Precisions: what a recipe does to weights and activations, its gate, and how the command line names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.model.variants import TOWERS, TowerName

__all__ = ["PRECISIONS", "Precision", "parse_precisions", "precision_label"]


@dataclass(frozen=True)
class Precision:
    """One recipe. `bits` is what a weight takes in the file; `metric` and `gate` are what the artifact must hold;
    `calibrated` ones measure activations on sample inputs."""

    name: str
    bits: int
    summary: str
    metric: Literal["relative", "cosine"]
    gate: float
    calibrated: bool = False


PRECISIONS: dict[str, Precision] = {
    recipe.name: recipe
    for recipe in (
        Precision("fp32", 32, "float32 weights and arithmetic", "relative", 1e-4),
        Precision("fp16", 16, "float16 weights and arithmetic, float32 input and output", "cosine", 0.999),
        Precision("w8", 8, "int8 weights, a scale a channel", "cosine", 0.99),
        Precision("w8a8", 8, "int8 weights and int8 activations", "cosine", 0.98, calibrated=True),
        Precision("w6p", 6, "weights palettized with 64 entries", "cosine", 0.98),
        Precision("w4p", 4, "weights palettized with 16 entries", "cosine", 0.98),
        Precision("w4p-p50", 3, "half of the weights zero, the rest palettized with 16 entries", "cosine", 0.98),
        Precision("mixed", 4, "int4 or int8 weights, layer by layer, as a search measured", "cosine", 0.98),
        Precision("w4", 4, "int4 weights, a scale a block of 32", "cosine", 0.98),
    )
}


def parse_precisions(
    text: str, towers: Sequence[TowerName] = TOWERS, others: Sequence[str] = ()
) -> dict[TowerName, str]:
    """`fp16` or `image=fp16,text=fp32`, in any capitals -> a precision for each of `towers`.

    Args:
        others: what the caller takes in the place of such a text, named where this one is refused.

    Raises:
        UsageError: unknown precision or tower, or a tower left out; the text lists what is known.
    """
    if "=" not in text:
        return {tower: _known(text, others) for tower in towers}
    pairs = [part.partition("=") for part in text.split(",")]
    chosen = {tower.strip().lower(): _known(name) for tower, _, name in pairs}
    if not set(towers) <= set(chosen) <= set(TOWERS) or len(pairs) != len(chosen):
        example = ",".join(f"{tower}=fp16" for tower in towers)
        raise UsageError(f"`precision` {text}: name {' and '.join(towers)}, each once, as in {example}")
    return {tower: chosen[tower] for tower in towers}


def precision_label(precisions: dict[TowerName, str]) -> str:
    """How a bundle's folder names its precisions: `fp16`, or `image-fp16-text-fp32` where towers differ."""
    if len(set(precisions.values())) == 1:
        return next(iter(precisions.values()))
    return "-".join(f"{tower}-{name}" for tower, name in precisions.items())


def _known(name: str, others: Sequence[str] = ()) -> str:
    found = name.strip().lower()
    if found not in PRECISIONS:
        known = [*(one for one in PRECISIONS if one != "mixed"), *others]  # which a search chooses, nobody names
        raise UsageError(f"unknown precision {name.strip()!r}{suggestion(found, known)}; known: {', '.join(known)}")
    return found
