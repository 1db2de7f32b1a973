"""Tensors that a checkpoint of a variant must hold, and their comparison with those of a file."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType

from torch import Tensor

from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints import apple, folded, open_clip, siglip
from mobileclip_deploy.network.checkpoints.keymap import Shape
from mobileclip_deploy.network.folding import fold_structure
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.variants import TOWERS, Variant, ViTTower, variant_cards

LAYOUTS: dict[str, ModuleType] = {module.NAME: module for module in (apple, open_clip, siglip, folded)}
POSITIONS = "image.positional_embedding"
TABLE = "text.token_embedding.weight"
LOGITS = ("logit_scale", "logit_bias")
SHOWN = 4


@dataclass(frozen=True)
class ExpectedTensor:
    """One tensor that a checkpoint must hold: its key and shape in the file, and the conversion to ours."""

    key: str
    shape: tuple[int, ...]
    convert: Shape
    optional: bool = False
    square_grid: bool = False
    class_token: bool = False
    any_rows: bool = False

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Returns whether a tensor of this shape fits. A ViT's position table may be for another image size. A table of
        tokens may be for another vocabulary if the checkpoint brings it. Some files write the temperature with a
        dimension."""
        if self.any_rows:
            return len(shape) == len(self.shape) and shape[1:] == self.shape[1:]
        if not self.square_grid:
            return shape == self.shape or (self.shape == () and shape == (1,))
        same = shape[:-2] == self.shape[:-2] and shape[-1:] == self.shape[-1:]
        return same and len(shape) > 1 and grid_side(shape[-2], self.class_token) is not None


@dataclass(frozen=True)
class Fit:
    """Comparison of a checkpoint's tensors with a variant's."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not (self.missing or self.unexpected or self.misshaped)

    def describe(self) -> str:
        """Returns one line: every group with its count and first members; numbered blocks are merged."""
        groups = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshaped))
        return "; ".join(f"{len(keys)} {title}: {summary(keys)}" for title, keys in groups if keys)


def grid_side(rows: int, class_token: bool) -> int | None:
    """Returns the side of the square patch grid that a position table of this length is for. None if it is not
    square."""
    patches = rows - class_token
    side = math.isqrt(max(patches, 0))
    return side if side and side * side == patches else None


def find_layout(keys: Iterable[str]) -> str:
    """Finds the layout that has these keys.

    Raises:
        CheckpointError: none, or more than one.
    """
    names = list(keys)
    layouts = [name for name, module in LAYOUTS.items() if any(map(module.KEYS.match, names))]
    if len(layouts) == 1:
        return layouts[0]
    if layouts:
        raise CheckpointError(f"the checkpoint mixes layouts ({' and '.join(layouts)}); save one model alone")
    raise CheckpointError(
        f"not a MobileCLIP checkpoint (it has keys such as {summary(names)}); expected one saved by Apple's code, "
        "open_clip, transformers or this tool"
    )


def find_towers(layout: str, keys: Iterable[str]) -> tuple[str, ...]:
    """Finds the towers that keys of a layout belong to."""
    names = list(keys)
    prefixes = LAYOUTS[layout].TOWERS
    return tuple(tower for tower in TOWERS if any(name.startswith(prefixes[tower]) for name in names))


@dataclass(frozen=True)
class CandidateIdentity:
    """A possible identity of a checkpoint: a variant, as on its card, with these towers, in a layout.

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
        """Variant as checkpoints of its layout define it; for a folded one, of the layout that it was made from."""
        layout = self.source_layout or (next(iter(self.variant.layouts)) if self.layout == folded.NAME else self.layout)
        return self.variant.for_layout(layout)

    @cached_property
    def network(self) -> tuple[object, ...]:
        """Fields that decide names and shapes."""
        card = self.definition
        return card.image, card.text, card.tokenizer, card.embed_dim, card.preprocess.size

    @cached_property
    def expected(self) -> Mapping[str, ExpectedTensor]:
        """Tensors that such a checkpoint must hold, by our keys."""
        alike = (candidate for candidate in candidates(self.layout, self.towers) if candidate.network == self.network)
        first = next(alike, self) if self.layout != folded.NAME else self
        return _table(first)  # built once per network, not once per variant

    def name(self, ours: str) -> str:
        """Returns the file's name of one of our tensors, as publishers of such files write it."""
        key = self.expected[ours].key
        return open_clip.file_name(key, self.definition) if self.layout == open_clip.NAME else key

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns our tensors as such a file holds them."""
        shapes = {ours: self.expected[ours].convert for ours in tensors}
        renamed = {self.name(ours): shapes[ours].theirs(value).contiguous() for ours, value in tensors.items()}
        return siglip.parted(renamed) if self.layout == siglip.NAME else renamed

    def fit(self, shapes: Mapping[str, tuple[int, ...]]) -> Fit:
        """Compares a checkpoint's keys and shapes with the expected ones."""
        by_key = {entry.key: entry for entry in self.expected.values()}
        return Fit(
            missing=tuple(key for key, entry in by_key.items() if key not in shapes and not entry.optional),
            unexpected=tuple(key for key in shapes if key not in by_key),
            misshaped=tuple(
                f"{key} {list(shapes[key])}, wanted {list(entry.shape)}"
                for key, entry in by_key.items()
                if key in shapes and not entry.accepts(shapes[key])
            ),
        )

    def empty_model(self, image_size: int | None = None) -> MobileCLIP:
        """Builds the network on the meta device, at the variant's image size or another one, in the form of such
        checkpoints: folded for "folded".

        Raises:
            UsageError: the image tower cannot take that size.
        """
        definition = self.definition
        if image_size is not None and image_size != definition.preprocess.size:
            definition = definition.with_image_size(image_size)
        model = build_model(definition, "meta", self.towers)
        return fold_structure(model) if self.layout == folded.NAME else model


@cache
def _table(candidate: CandidateIdentity) -> Mapping[str, ExpectedTensor]:
    variant = candidate.variant
    keymap = LAYOUTS[candidate.layout].keymap(variant if candidate.layout == folded.NAME else candidate.definition)
    table = {}
    # On the meta device: names and shapes of a whole network, without memory or time for its values.
    for ours, tensor in candidate.empty_model().state_dict().items():
        key, convert = keymap.theirs(ours)
        table[ours] = ExpectedTensor(
            key,
            tuple(convert.theirs(tensor).shape),
            convert,
            # Counters do not describe the weights, and a tower alone has no use for the temperature.
            optional=key.endswith("num_batches_tracked") or (ours in LOGITS and candidate.towers != TOWERS),
            square_grid=ours == POSITIONS,
            class_token=isinstance(variant.image, ViTTower) and variant.image.class_token_position,
            any_rows=ours == TABLE and variant.tokens.kind is not None and variant.tokens.missing,
        )
    return table


def fitting(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> list[CandidateIdentity]:
    """Returns the candidates that a checkpoint fits exactly, with the towers it has."""
    return [candidate for candidate in candidates(layout, find_towers(layout, shapes)) if candidate.fit(shapes).exact]


def closest(layout: str, shapes: Mapping[str, tuple[int, ...]]) -> CandidateIdentity:
    """Returns the candidate with the most tensors of the right name and shape."""
    return max(
        candidates(layout, find_towers(layout, shapes)),
        key=lambda one: sum(shapes.get(entry.key) == entry.shape for entry in one.expected.values()),
    )


def candidates(layout: str, towers: tuple[str, ...] = TOWERS) -> list[CandidateIdentity]:
    """Returns the variants that exist in a layout."""
    cards = (card for card in variant_cards() if layout == folded.NAME or layout in card.layouts)
    return [_once(CandidateIdentity(card, layout, towers)) for card in cards]


@cache
def _once(candidate: CandidateIdentity) -> CandidateIdentity:
    """Interns equal candidates, so that their cached properties are computed once."""
    return candidate


def summary(keys: Iterable[str]) -> str:
    """Returns the first few keys; blocks that differ only in numbers are merged into one entry with `*`."""
    merged = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in keys))
    return ", ".join(merged[:SHOWN]) + (f" and {len(merged) - SHOWN} more" if len(merged) > SHOWN else "")
