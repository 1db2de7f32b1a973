"""Precisions: how weights and activations are stored, the gate that they must hold, and their names for users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.network.model.tower_names import TOWERS, TowerName

TABLE = "-table-"
"""Stands between two precisions, as in `w4p-table-w6p`: everything at the first, the table of words at the second."""

# A table is stored, not computed with: what rounds activations or prunes is none of one, and halves gain nothing.
TABLES = ("w8", "w6p", "w4p", "w4")
RESTS = ("w8", "w8a8", "w6p", "w4p", "w4")
RECOVERABLE = ("w8", "w8a8", "w6p", "w4p", "w4")
"""Precisions that `recover` can train a tower on."""


@dataclass(frozen=True)
class Precision:
    """How weights and activations are stored.

    Attributes:
        bits: of one number of a weight: of a float or an integer, or of an index into a table.
        metric, gate: what the artifact must hold.
        kind: what a weight is stored as, where a target can.
        activations: bits of those that are quantized, by ranges that are measured on sample inputs; None: none are.
        pruned: the share of numbers that are zero, and stored as a bit mask.
        table: the precision of a text tower's table of words, where it is another than that of the rest.
    """

    name: str
    bits: int
    summary: str
    metric: Literal["relative", "cosine"]
    gate: float
    kind: Literal["float", "integers", "table"] = "integers"
    activations: int | None = None
    pruned: float = 0.0
    table: str | None = None

    @property
    def calibrated(self) -> bool:
        """Whether activations are measured on sample inputs."""
        return self.activations is not None

    @property
    def rest(self) -> str:
        """The precision of everything but the table of words: its own name where the table has none."""
        return self.name.partition(TABLE)[0]

    @property
    def stored_bits(self) -> int:
        """What one number takes in the file, scales and tables aside: a pruned one only its bit of the mask."""
        return round(self.bits * (1 - self.pruned) + bool(self.pruned))


PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32", 32, "float32 weights and arithmetic", "relative", 1e-4, "float"),
        Precision("fp16", 16, "float16 weights and arithmetic, float32 input and output", "cosine", 0.999, "float"),
        Precision("w8", 8, "int8 weights, a scale a channel or a group of inputs", "cosine", 0.99),
        Precision("w8a16", 8, "int8 weights and 16-bit activations", "cosine", 0.99, activations=16),
        Precision("w8a8", 8, "int8 weights and int8 activations", "cosine", 0.98, activations=8),
        Precision("w6p", 6, "weights palettized with 64 entries", "cosine", 0.98, "table"),
        Precision("w4p", 4, "weights palettized with 16 entries", "cosine", 0.98, "table"),
        Precision(
            "w4p-p50",
            4,
            "half of the weights zero, the rest palettized with 16 entries",
            "cosine",
            0.98,
            "table",
            pruned=0.5,
        ),
        Precision("mixed", 4, "int4 or int8 weights, layer by layer, as a search measured", "cosine", 0.98),
        Precision("w4", 4, "int4 weights, a scale a block of 32", "cosine", 0.98),
    )
}


def is_precision(name: str) -> bool:
    """Whether it is one of `PRECISIONS`, or two of them with `-table-` between."""
    rest, between, table = name.partition(TABLE)
    return rest in RESTS and table in TABLES if between else name in PRECISIONS


def precision_of(name: str) -> Precision:
    """The precision of a name, `w4p-table-w6p` among them: what is not said of the table is as of the first.

    Raises:
        KeyError: there is no such precision; whoever takes names from a user asks `is_precision` before.
    """
    if TABLE not in name:
        return PRECISIONS[name]
    if not is_precision(name):
        raise KeyError(name)
    rest, _, table = name.partition(TABLE)
    first, second = PRECISIONS[rest], PRECISIONS[table]
    summary = f"{first.summary}; the table of words: {second.summary}"
    return replace(first, name=name, summary=summary, gate=min(first.gate, second.gate), table=table)


def parse_precisions(
    text: str, towers: Sequence[TowerName] = TOWERS, others: Sequence[str] = ()
) -> dict[TowerName, str]:
    """`fp16` or `image=fp16,text=fp32`, in any capitals -> a precision for each of `towers`.

    `w4p-table-w6p` is of text towers, which alone have a table of words; said of both, the image tower has `w4p`.

    Args:
        others: what the caller takes in the place of such a text, named where this one is refused.

    Raises:
        UsageError: unknown precision or tower, or a tower left out; the text lists what is known.
    """
    if "=" not in text:
        found = precision_of(_known(text, others))
        return {tower: found.name if tower == "text" else found.rest for tower in towers}
    pairs = [part.partition("=") for part in text.split(",")]
    chosen = {tower.strip().lower(): _known(name) for tower, _, name in pairs}
    if not set(towers) <= set(chosen) <= set(TOWERS) or len(pairs) != len(chosen):
        example = ",".join(f"{tower}=fp16" for tower in towers)
        raise UsageError(f"`precision` {text}: name {' and '.join(towers)}, each once, as in {example}")
    if (rest := precision_of(chosen.get("image", "fp32"))).table is not None:
        raise UsageError(f"`precision` {text}: an image tower has no table of words; give image={rest.rest}")
    return {tower: chosen[tower] for tower in towers}


def precision_label(precisions: dict[TowerName, str]) -> str:
    """How a bundle's folder names its precisions: `fp16`, or `image-fp16-text-fp32` where towers differ."""
    if len(set(precisions.values())) == 1:
        return next(iter(precisions.values()))
    if len(precisions) == 2 and precision_of(precisions["text"]).rest == precisions["image"]:
        return precisions["text"]
    return "-".join(f"{tower}-{name}" for tower, name in precisions.items())


def _known(name: str, others: Sequence[str] = ()) -> str:
    found = name.strip().lower()
    if not is_precision(found):
        known = [*(one for one in PRECISIONS if one != "mixed"), *others]  # which a search chooses, nobody names
        if TABLE in found:
            raise UsageError(
                f"unknown precision {name.strip()!r}: before `{TABLE}` goes {', '.join(RESTS)}, behind it "
                f"{', '.join(TABLES)}"
            )
        raise UsageError(f"unknown precision {name.strip()!r}{suggestion(found, known)}; known: {', '.join(known)}")
    return found
