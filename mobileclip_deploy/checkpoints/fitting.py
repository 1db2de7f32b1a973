"""What a checkpoint of a variant must hold, and how one that was read compares with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from mobileclip_deploy.checkpoints import apple, folded, llava, open_clip
from mobileclip_deploy.checkpoints.keymap import Shape
from mobileclip_deploy.checkpoints.positions import grid_side
from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.folding import REPARAMETERIZED, fold_structure
from mobileclip_deploy.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.model.variants import TOWERS, Variant, ViTTower, load_variant, variant_names

__all__ = [
    "LAYOUTS",
    "POSITIONS",
    "Expected",
    "Fit",
    "candidates",
    "closest_variant",
    "empty_model",
    "expected",
    "find_layout",
    "find_towers",
    "fit",
    "fitting_variants",
    "summary",
]

LAYOUTS: dict[str, ModuleType] = {module.NAME: module for module in (apple, open_clip, llava, folded)}
POSITIONS = "image.positional_embedding"
SHOWN = 4


@dataclass(frozen=True)
class Expected:
    """One tensor a checkpoint must hold: its key and shape there, and how to turn it into ours."""

    key: str
    shape: tuple[int, ...]
    convert: Shape
    optional: bool = False
    square_grid: bool = False
    class_token: bool = False

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape will do. A ViT's position table may be for another image size, and some write
        the temperature with a dimension."""
        if not self.square_grid:
            return shape == self.shape or (self.shape == () and shape == (1,))
        same = shape[:-2] == self.shape[:-2] and shape[-1:] == self.shape[-1:]
        return same and len(shape) > 1 and grid_side(shape[-2], self.class_token) is not None


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
        return "; ".join(f"{len(keys)} {title}: {summary(keys)}" for title, keys in groups if keys)


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
        raise CheckpointError(f"the checkpoint mixes layouts ({' and '.join(found)}); save one model alone")
    raise CheckpointError(
        f"no MobileCLIP checkpoint: keys such as {summary(names)}; give one in {', '.join(LAYOUTS)} layout"
    )


def find_towers(layout: str, keys: Iterable[str]) -> tuple[str, ...]:
    """The towers that keys of a layout belong to."""
    names = list(keys)
    prefixes = LAYOUTS[layout].TOWERS
    return tuple(tower for tower in TOWERS if any(name.startswith(prefixes[tower]) for name in names))


def empty_model(
    variant: Variant, layout: str, source_layout: str | None = None, towers: tuple[str, ...] = TOWERS
) -> MobileCLIP:
    """The network without memory for weights, as checkpoints of `layout` hold it: folded for "folded", in part for
    "llava"."""
    if layout == folded.NAME:
        definition = variant.for_layout(source_layout or next(iter(variant.layouts)))
        return fold_structure(build_model(definition, "meta", towers))
    model = build_model(variant.for_layout(layout), "meta", towers)
    return fold_structure(model, REPARAMETERIZED) if layout == llava.NAME else model


def expected(
    name: str, layout: str, source_layout: str | None = None, towers: tuple[str, ...] = TOWERS
) -> Mapping[str, Expected]:
    """What a checkpoint of variant `name` in `layout` must hold, by our keys."""
    return _table(_same_network(name, source_layout or layout), layout, source_layout, towers)


@cache
def _same_network(name: str, layout: str) -> str:
    """The first variant whose network is that of `name`: a table is built once a network, not once a name."""
    if layout == folded.NAME:
        return name
    network = _network(load_variant(name).for_layout(layout))
    return next(other for other in candidates(layout) if _network(load_variant(other).for_layout(layout)) == network)


def _network(variant: Variant) -> tuple[object, ...]:
    return variant.image, variant.text, variant.tokenizer, variant.embed_dim, variant.preprocess.size


@cache
def _table(name: str, layout: str, source_layout: str | None, towers: tuple[str, ...]) -> Mapping[str, Expected]:
    variant = load_variant(name)
    keymap = LAYOUTS[layout].keymap(variant if layout == folded.NAME else variant.for_layout(layout))
    table = {}
    # On the meta device: names and shapes of a whole network, without memory or time for its values.
    for ours, tensor in empty_model(variant, layout, source_layout, towers).state_dict().items():
        key, convert = keymap.theirs(ours)
        table[ours] = Expected(
            key,
            tuple(convert.theirs(tensor).shape),
            convert,
            # Counters say nothing about the weights, and a tower alone has no use for the temperature.
            optional=key.endswith("num_batches_tracked") or (ours == "logit_scale" and towers != TOWERS),
            square_grid=ours == POSITIONS,
            class_token=isinstance(variant.image, ViTTower) and variant.image.class_token_position,
        )
    return table


def fit(table: Mapping[str, Expected], shapes: Mapping[str, tuple[int, ...]]) -> Fit:
    """Compare a checkpoint's keys and shapes with what a variant needs."""
    wanted = {entry.key: entry for entry in table.values()}
    return Fit(
        missing=tuple(key for key, entry in wanted.items() if key not in shapes and not entry.optional),
        unexpected=tuple(key for key in shapes if key not in wanted),
        misshaped=tuple(
            f"{key} {list(shapes[key])}, wanted {list(entry.shape)}"
            for key, entry in wanted.items()
            if key in shapes and not entry.accepts(shapes[key])
        ),
    )


def fitting_variants(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the variants which a checkpoint fits exactly, with the towers it has."""
    towers = find_towers(layout, shapes)
    return [name for name in candidates(layout) if fit(expected(name, layout, None, towers), shapes).exact]


def closest_variant(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Name of the variant with the most tensors of the right name and shape."""

    def matches(name: str) -> int:
        table = expected(name, layout, None, find_towers(layout, shapes))
        return sum(shapes.get(entry.key) == entry.shape for entry in table.values())

    return max(candidates(layout), key=matches)


def candidates(layout: str) -> list[str]:
    """Names of the variants that exist in a layout."""
    return [name for name in variant_names() if layout == folded.NAME or layout in load_variant(name).layouts]


def summary(keys: Iterable[str]) -> str:
    """The first few keys; blocks that differ only in numbers are merged into one entry with `*`."""
    merged = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in keys))
    return ", ".join(merged[:SHOWN]) + (f" and {len(merged) - SHOWN} more" if len(merged) > SHOWN else "")
