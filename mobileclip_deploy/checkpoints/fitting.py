"""Which variant a checkpoint is of, and what is wrong with one that fits none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from mobileclip_deploy.architecture import MobileCLIP, build_model
from mobileclip_deploy.checkpoints import apple, folded
from mobileclip_deploy.checkpoints.keymap import Shape
from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.folding import fold_structure
from mobileclip_deploy.variants import Variant, load_variant, variant_names

__all__ = ["LAYOUTS", "Fit", "empty_model", "expected", "find_layout", "fit", "fitting_variants"]

LAYOUTS: dict[str, ModuleType] = {module.NAME: module for module in (apple, folded)}
SHOWN = 4


@dataclass(frozen=True)
class Expected:
    """One tensor a checkpoint must hold: its key and shape there, and how to turn it into ours."""

    key: str
    shape: tuple[int, ...]
    convert: Shape


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's tensors compare with a variant's."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not (self.missing or self.unexpected or self.misshaped)

    def describe(self) -> str:
        """One line: every group with its count and first members; numbered blocks are merged."""
        groups = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshaped))
        return "; ".join(f"{len(keys)} {title}: {_summary(keys)}" for title, keys in groups if keys)


def find_layout(keys: Iterable[str]) -> str:
    """The layout whose keys these are.

    Raises:
        CheckpointError: none, or more than one.
    """
    names = list(keys)
    found = [name for name, module in LAYOUTS.items() if module.recognises(names)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(f"the checkpoint mixes layouts ({' and '.join(found)})")
    raise CheckpointError(f"no MobileCLIP checkpoint: keys such as {_summary(names)}; layouts: {', '.join(LAYOUTS)}")


def empty_model(variant: Variant, layout: str, source_layout: str | None = None) -> MobileCLIP:
    """The network without memory for weights, as checkpoints of `layout` hold it (folded for "folded")."""
    if layout == folded.NAME:
        return fold_structure(build_model(variant.for_layout(source_layout or next(iter(variant.layouts))), "meta"))
    return build_model(variant.for_layout(layout), "meta")


@cache
def expected(name: str, layout: str, source_layout: str | None = None) -> dict[str, Expected]:
    """What a checkpoint of variant `name` in `layout` must hold, by our keys."""
    variant = load_variant(name)
    keymap = LAYOUTS[layout].keymap(variant)
    table = {}
    for ours, tensor in empty_model(variant, layout, source_layout).state_dict().items():
        key, convert = keymap.theirs(ours)
        table[ours] = Expected(key, tuple(convert.theirs(tensor).shape), convert)
    return table


def fit(table: Mapping[str, Expected], shapes: Mapping[str, tuple[int, ...]]) -> Fit:
    """Compare a checkpoint's keys and shapes with what a variant needs.

    `num_batches_tracked` counters are optional: they say nothing about the weights.
    """
    wanted = {entry.key: entry.shape for entry in table.values()}
    return Fit(
        missing=tuple(key for key in wanted if key not in shapes and not key.endswith("num_batches_tracked")),
        unexpected=tuple(key for key in shapes if key not in wanted),
        misshaped=tuple(
            f"{key} {list(shapes[key])}, wanted {list(shape)}"
            for key, shape in wanted.items()
            if key in shapes and shapes[key] != shape
        ),
    )


def fitting_variants(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the variants which a checkpoint fits exactly."""
    return [name for name in candidates(layout) if fit(expected(name, layout), shapes).exact]


def closest_variant(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Name of the variant with the most tensors of the right name and shape."""

    def matches(name: str) -> int:
        return sum(shapes.get(entry.key) == entry.shape for entry in expected(name, layout).values())

    return max(candidates(layout), key=matches)


def candidates(layout: str) -> list[str]:
    """Names of the variants that exist in a layout."""
    return [name for name in variant_names() if layout == folded.NAME or layout in load_variant(name).layouts]


def _summary(keys: Iterable[str]) -> str:
    """The first few keys; blocks that differ only in numbers are merged into one entry with `*`."""
    merged = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in keys))
    return ", ".join(merged[:SHOWN]) + (f" and {len(merged) - SHOWN} more" if len(merged) > SHOWN else "")
