"""What a checkpoint of a variant must hold, and how one that was read compares with it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType

from torch import Tensor

from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints import apple, folded, llava, open_clip, siglip
from mobileclip_deploy.network.checkpoints.keymap import Shape
from mobileclip_deploy.network.folding import REPARAMETERIZED, fold_structure
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.variants import TOWERS, Variant, ViTTower, variant_cards

LAYOUTS: dict[str, ModuleType] = {module.NAME: module for module in (apple, open_clip, siglip, llava, folded)}
POSITIONS = "image.positional_embedding"
TABLE = "text.token_embedding.weight"
LOGITS = ("logit_scale", "logit_bias")
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
    any_rows: bool = False

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape will do. A ViT's position table may be for another image size, a table of
        tokens for another vocabulary where the checkpoint brings it, and some write the temperature with a
        dimension."""
        if self.any_rows:
            return len(shape) == len(self.shape) and shape[1:] == self.shape[1:]
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


def grid_side(rows: int, class_token: bool) -> int | None:
    """The side of the square patch grid that a table of so many rows is for; None when it is not square."""
    patches = rows - class_token
    side = math.isqrt(max(patches, 0))
    return side if side and side * side == patches else None


def find_layout(keys: Iterable[str]) -> str:
    """The layout whose keys these are.

    Raises:
        CheckpointError: none, or more than one.
    """
    names = list(keys)
    found = [name for name, module in LAYOUTS.items() if any(map(module.KEYS.match, names))]
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


@dataclass(frozen=True)
class Candidate:
    """What a checkpoint may be: a variant, as its card says, with these towers, in a layout.

    `source_layout`: of a folded checkpoint, the layout of the checkpoint that it was made from.
    """

    variant: Variant
    layout: str
    towers: tuple[str, ...] = TOWERS
    source_layout: str | None = None

    def __hash__(self) -> int:
        return hash((self.variant.name, self.layout, self.towers, self.source_layout))

    @cached_property
    def definition(self) -> Variant:
        """The variant as checkpoints of its layout define it; of a folded one, of the layout that it was made from."""
        known = self.source_layout or (next(iter(self.variant.layouts)) if self.layout == folded.NAME else self.layout)
        return self.variant.for_layout(known)

    @cached_property
    def network(self) -> tuple[object, ...]:
        """What decides names and shapes."""
        own = self.definition
        return own.image, own.text, own.tokenizer, own.embed_dim, own.preprocess.size

    @cached_property
    def expected(self) -> Mapping[str, Expected]:
        """What such a checkpoint must hold, by our keys."""
        alike = (one for one in candidates(self.layout, self.towers) if one.network == self.network)
        first = next(alike, self) if self.layout != folded.NAME else self
        return _table(first)  # built once per network, not once per variant

    def name(self, ours: str) -> str:
        """Name of one of our tensors in a file of such a checkpoint, as those who publish such files write it."""
        key = self.expected[ours].key
        return open_clip.file_name(key, self.definition) if self.layout == open_clip.NAME else key

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors as such a file holds them."""
        shapes = {ours: self.expected[ours].convert for ours in tensors}
        found = {self.name(ours): shapes[ours].theirs(value).contiguous() for ours, value in tensors.items()}
        return siglip.parted(found) if self.layout == siglip.NAME else found

    def fit(self, shapes: Mapping[str, tuple[int, ...]]) -> Fit:
        """How a checkpoint's keys and shapes compare with what it must hold."""
        wanted = {entry.key: entry for entry in self.expected.values()}
        return Fit(
            missing=tuple(key for key, entry in wanted.items() if key not in shapes and not entry.optional),
            unexpected=tuple(key for key in shapes if key not in wanted),
            misshaped=tuple(
                f"{key} {list(shapes[key])}, wanted {list(entry.shape)}"
                for key, entry in wanted.items()
                if key in shapes and not entry.accepts(shapes[key])
            ),
        )

    def empty_model(self, image_size: int | None = None) -> MobileCLIP:
        """The network without memory for weights, at the variant's image size or another one, as such checkpoints hold
        it: folded for "folded", in part for "llava".

        Raises:
            UsageError: the image tower cannot take that size.
        """
        definition = self.definition
        if image_size is not None and image_size != definition.preprocess.size:
            definition = definition.with_image_size(image_size)
        model = build_model(definition, "meta", self.towers)
        if self.layout == folded.NAME:
            return fold_structure(model)
        return fold_structure(model, REPARAMETERIZED) if self.layout == llava.NAME else model


@cache
def _table(candidate: Candidate) -> Mapping[str, Expected]:
    variant = candidate.variant
    keymap = LAYOUTS[candidate.layout].keymap(variant if candidate.layout == folded.NAME else candidate.definition)
    table = {}
    # On the meta device: names and shapes of a whole network, without memory or time for its values.
    for ours, tensor in candidate.empty_model().state_dict().items():
        key, convert = keymap.theirs(ours)
        table[ours] = Expected(
            key,
            tuple(convert.theirs(tensor).shape),
            convert,
            # Counters say nothing about the weights, and a tower alone has no use for the temperature.
            optional=key.endswith("num_batches_tracked") or (ours in LOGITS and candidate.towers != TOWERS),
            square_grid=ours == POSITIONS,
            class_token=isinstance(variant.image, ViTTower) and variant.image.class_token_position,
            any_rows=ours == TABLE and variant.tokens.kind is not None and variant.tokens.missing,
        )
    return table


def fitting(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> list[Candidate]:
    """What a checkpoint fits exactly, with the towers it has."""
    return [one for one in candidates(layout, find_towers(layout, shapes)) if one.fit(shapes).exact]


def closest(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> Candidate:
    """The candidate with the most tensors of the right name and shape."""
    return max(
        candidates(layout, find_towers(layout, shapes)),
        key=lambda one: sum(shapes.get(entry.key) == entry.shape for entry in one.expected.values()),
    )


def candidates(layout: str, towers: tuple[str, ...] = TOWERS) -> list[Candidate]:
    """The variants that exist in a layout."""
    cards = (card for card in variant_cards() if layout == folded.NAME or layout in card.layouts)
    return [_once(Candidate(card, layout, towers)) for card in cards]


@cache
def _once(candidate: Candidate) -> Candidate:
    """The first of several equal ones: what it has computed of itself stays."""
    return candidate


def summary(keys: Iterable[str]) -> str:
    """The first few keys; blocks that differ only in numbers are merged into one entry with `*`."""
    merged = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in keys))
    return ", ".join(merged[:SHOWN]) + (f" and {len(merged) - SHOWN} more" if len(merged) > SHOWN else "")
