"""Precisions: the storage of weights and activations, the gate that they must hold, and their names for users."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.network.model.tower_names import TOWERS, TowerName

TABLE = "-table-"
"""Separator of two precisions, as in `w4p-table-w6p`: the first for everything, the second for the table of words."""

# A table is only stored: precisions that round activations or prune do not apply to it, and fp16 gains nothing.
TABLES = ("w8", "w6p", "w4p", "w4")
BEFORE_TABLE = ("w8", "w8a8", "w6p", "w4p", "w4")
"""Precisions of a tower whose table of words may have another one."""


@dataclass(frozen=True)
class Precision:
    """Storage of weights and activations.

    Attributes:
        bits: of one element of a weight: of a float or an integer, or of an index into a table.
        metric, gate: the metric of the artifact, and its bound.
        kind: storage kind of a weight, if the target supports it.
        activations: bits of quantized activations, with ranges that are measured on sample inputs; None: not quantized.
        pruned: share of elements that are zero, and stored as a bit mask.
        table: precision of a text tower's table of words, if it differs from the rest.
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
        """True if activations are measured on sample inputs."""
        return self.activations is not None

    @property
    def rest(self) -> str:
        """Precision of everything but the table of words; its own name if it has no table part."""
        return self.name.partition(TABLE)[0]

    @property
    def stored_bits(self) -> int:
        """Bits of one element in the file, without scales and tables; a pruned one takes only its bit of the mask."""
        return round(self.bits * (1 - self.pruned) + bool(self.pruned))


PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32", 32, "float32 weights and arithmetic", "relative", 1e-4, "float"),
        Precision("fp16", 16, "float16 weights and arithmetic, float32 input and output", "cosine", 0.999, "float"),
        Precision("w8", 8, "int8 weights, one scale per channel or group of inputs", "cosine", 0.99),
        Precision("w8a16", 8, "int8 weights and 16-bit activations", "cosine", 0.99, activations=16),
        Precision("w8a8", 8, "int8 weights and int8 activations", "cosine", 0.98, activations=8),
        Precision("w6p", 6, "weights palettized with 64 entries", "cosine", 0.98, "table"),
        Precision("w4p", 4, "weights palettized with 16 entries", "cosine", 0.98, "table"),
        Precision(
            "w4p-p50",
            4,
            "half of the weights zero, the others palettized with 16 entries",
            "cosine",
            0.98,
            "table",
            pruned=0.5,
        ),
        Precision("mixed", 4, "int4 or int8 weights per layer, chosen by a search", "cosine", 0.98),
        Precision("w4", 4, "int4 weights, one scale per block of 32", "cosine", 0.98),
    )
}


def is_precision(name: str) -> bool:
    """Returns whether it is one of `PRECISIONS`, or two of them with `-table-` between."""
    rest, between, table = name.partition(TABLE)
    return rest in BEFORE_TABLE and table in TABLES if between else name in PRECISIONS


def precision_of(name: str) -> Precision:
    """Returns the precision of a name, such as `w4p-table-w6p`. Properties that do not depend on the table are those of
    the first part.

    Raises:
        KeyError: no such precision; callers check names from users by `is_precision`.
    """
    if TABLE not in name:
        return PRECISIONS[name]
    if not is_precision(name):
        raise KeyError(name)
    rest, _, table = name.partition(TABLE)
    first, second = PRECISIONS[rest], PRECISIONS[table]
    summary = f"{first.summary}; token embedding: {second.summary}"
    return replace(first, name=name, summary=summary, gate=min(first.gate, second.gate), table=table)


def parse_precisions(
    text: str, towers: Sequence[TowerName] = TOWERS, others: Sequence[str] = ()
) -> dict[TowerName, str]:
    """Parses `fp16` or `image=fp16,text=fp32`, in any capitals, into a precision for each of `towers`.

    `w4p-table-w6p` is for text towers, which alone have a table of words. Given for both, the image tower gets `w4p`.

    Args:
        others: other values that the caller accepts, named in the refusal.

    Raises:
        UsageError: unknown precision or tower, or a tower left out; the text lists the known ones.
    """
    if "=" not in text and "," in text:
        raise UsageError(f"{text!r} names more than one precision; repeat `precision` for each")
    if "=" not in text:
        precision = precision_of(_known(text, others))
        return {tower: precision.name if tower == "text" else precision.rest for tower in towers}
    pairs = [part.partition("=") for part in text.split(",")]
    chosen = {tower.strip().lower(): _known(name) for tower, _, name in pairs}
    if not set(towers) <= set(chosen) <= set(TOWERS) or len(pairs) != len(chosen):
        example = ",".join(f"{tower}=fp16" for tower in towers)
        raise UsageError(f"`precision` {text}: name {' and '.join(towers)} once each, as in {example}")
    if (rest := precision_of(chosen.get("image", "fp32"))).table is not None:
        raise UsageError(f"`precision` {text}: an image tower has no token embedding; give image={rest.rest}")
    return {tower: chosen[tower] for tower in towers}


def precision_label(precisions: dict[TowerName, str]) -> str:
    """Returns the label of precisions in a bundle's folder name: `fp16`, or `image-fp16-text-fp32` where towers
    differ."""
    if len(set(precisions.values())) == 1:
        return next(iter(precisions.values()))
    if len(precisions) == 2 and precision_of(precisions["text"]).rest == precisions["image"]:
        return precisions["text"]
    return "-".join(f"{tower}-{name}" for tower, name in precisions.items())


def _known(name: str, others: Sequence[str] = ()) -> str:
    lowered = name.strip().lower()
    if not is_precision(lowered):
        listed = [
            *(precision for precision in PRECISIONS if precision != "mixed"),
            *others,
        ]  # set by a search, not by users
        if TABLE in lowered:
            raise UsageError(
                f"unknown precision {name.strip()!r}: before `{TABLE}` comes {', '.join(BEFORE_TABLE)}, after it "
                f"{', '.join(TABLES)}"
            )
        raise UsageError(f"unknown precision {name.strip()!r}{suggestion(lowered, listed)}; known: {', '.join(listed)}")
    return lowered
