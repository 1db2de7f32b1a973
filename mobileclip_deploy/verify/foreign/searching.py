"""Search for the convention of a file's inputs and for the cause of a difference, by the file's embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import NotRun, RuntimeFailed
from mobileclip_deploy.network.inputs import Inputs, embed, embed_exactly, normalize
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.parity.metrics import flat
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.verify.foreign.causes import Cause, block_causes, image_causes, text_causes
from mobileclip_deploy.verify.foreign.conventions import Convention, ImageConvention, TextConvention
from mobileclip_deploy.verify.foreign.feeding import Feeder

CLEAN = Cause("", "")
"""The checkpoint's own network."""
ALIKE = 1.5
"""Ratio of distances up to which another convention explains a file as well."""
LEAST = 1e-6
"""Distance up to which conventions are alike at any ratio."""
FEW, HOPELESS = 2, 1.25
"""Inputs that are embedded in float64 for the noise floor, and by every changed network for `partly`; and the residual
on them that rules a cause out: one of 1.06 on two inputs was 0.96 on all."""
EXPLAINED = 0.25
"""Largest distance of a changed network, as a share of the unchanged one's, that makes the change the cause."""
PARTLY = 0.85
"""Share of a difference within the bound that may remain from a change that is its cause. In clean files at int8: 0.996
or more of nano, 0.88 of S0 with drawn weights. In nano's with QuickGELU: 0.80 (tests/foreign)."""
TRIED = 8
"""Best pairs of convention and cause that are confirmed on all inputs."""
NEAR = 1e-3
"""Distance up to which single blocks are not tried: float16's rounding."""


def apart(first: Array, second: Array) -> float:
    """Returns the largest distance of the directions of rows; 2 if their sizes differ, 1 for zeros and NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (at_length_one(flat(rows)) for rows in (first, second))
        return float(np.nan_to_num(np.linalg.norm(a - b, axis=1), nan=1.0).max()) if a.shape == b.shape else 2.0


def _fits(cause: Cause, convention: Convention) -> bool:
    """Returns whether a cause is tried with a convention. Texts without their end token are pooled at the first one,
    which would explain any file."""
    if isinstance(convention, TextConvention):
        return cause is CLEAN or (convention.start and convention.end)
    return not cause.forms or convention.encoding.name in cause.forms


def _residual(rows: Array, explaining: Array, clean: Array) -> float:
    """Returns the share of the difference of directions from `clean` that remains from `explaining`; 2 if sizes
    differ."""
    if not rows.shape == explaining.shape == clean.shape:
        return 2.0
    a, b, c = (at_length_one(flat(each)) for each in (rows, explaining, clean))
    return float(np.nan_to_num(np.linalg.norm(a - b) / max(float(np.linalg.norm(a - c)), 1e-30), nan=2.0))


@dataclass(frozen=True)
class Pair:
    """A convention, an output and a cause, and the distance of the file's first embedding from the network's."""

    convention: Convention
    output: int
    cause: Cause
    distance: float = 2.0


@dataclass(frozen=True)
class Match:
    """The pair that explains a file best, on all inputs.

    Attributes:
        distance: largest distance of directions from the changed network's; `clean`: from the checkpoint's own.
        others: further conventions that explain it as well.
        rows: the file's embeddings [N, D]; `explaining`: those of the network with the cause.
    """

    pair: Pair
    distance: float
    clean: float
    rows: Array
    explaining: Array
    others: tuple[Convention, ...] = ()


@dataclass(frozen=True)
class TowerSearch:
    """Search for one tower of a file.

    Attributes:
        feeder: the file, with conventions of the other tower's inputs.
        inputs: of both towers.
        conventions: those to try.
        ran: results on all inputs by convention.
    """

    feeder: Feeder
    model: MobileCLIP
    tower: TowerName
    inputs: Inputs
    conventions: Sequence[Convention]
    progress: Progress
    ran: dict[Convention, list[Array]] = field(default_factory=dict)

    def run(self, convention: Convention, count: int | None = None) -> list[Array]:
        """Returns each output's vectors [N, D] for the first inputs of the tower.

        Raises:
            RuntimeFailed: the runtime refuses the convention.
        """
        if isinstance(convention, ImageConvention):
            return replace(self.feeder, image=convention).run(self.inputs.pixels[:count], self.inputs.ids[:1])
        return replace(self.feeder, text=convention).run(self.inputs.pixels[:1], self.inputs.ids[:count])

    @cached_property
    def causes(self) -> list[Cause]:
        """Changes of the network to try, each in all blocks at once."""
        if self.tower == "image":
            assert self.model.image is not None
            return list(image_causes(self.model.image, self.model.variant.preprocess))
        assert self.model.text is not None
        (context,) = {each.length for each in self.conventions if isinstance(each, TextConvention)}
        return list(text_causes(self.model.text, self.model.variant.tokens.eot, context))

    @torch.no_grad()
    def expected(self, cause: Cause, count: int | None = None) -> Array | None:
        """Returns the embeddings [N, D] of the changed network. None if the change does not fit it."""
        network, values = cause.embed or self._embed, torch.from_numpy(self.inputs.of(self.tower)[:count])
        with cause.applied():
            try:
                return torch.cat([network(row) for row in values.split(1)]).numpy()
            except (RuntimeError, IndexError):  # sizes that do not fit
                return None

    def _embed(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.tower == "text":
            return self.model.encode_text(inputs)
        return self.model.encode_image(normalize(inputs, self.model.variant.preprocess))

    @cached_property
    def floor(self) -> float:
        """Largest distance that rounding alone explains."""
        some = self.inputs.some(self.tower, np.arange(FEW))
        rounded = apart(embed(self.model, self.tower, some), embed_exactly(self.model, self.tower, some))
        return Gates().exact(rounded).value

    @cached_property
    def clean(self) -> Array:
        """Embeddings [N, D] of the checkpoint's own network."""
        expected = self.expected(CLEAN)
        assert expected is not None
        return expected

    def search(self) -> Match:
        """Returns the pair of convention and cause that explains the file best: the checkpoint's own network unless a
        change explains much more.

        Raises:
            NotRun: the runtime refused every convention.
        """
        results, refusal = [], ""
        for index, convention in enumerate(self.conventions):
            self.progress(f"{self.tower}: convention {index + 1} of {len(self.conventions)}")
            try:
                results.append((convention, self.run(convention, 1)))
            except RuntimeFailed as error:
                refusal = str(error)
        if not results:
            raise NotRun(refusal)
        plain = self._best(self._ranked(results, [CLEAN]))
        assert plain is not None
        if plain.distance <= self.floor:
            return plain
        limit = EXPLAINED * plain.distance
        best = self._best(self._ranked(results, self.causes), limit)
        if best is None and plain.distance > NEAR:
            best = self._best(self._ranked(results, list(block_causes(getattr(self.model, self.tower)))), limit)
        return plain if best is None else best

    def partly(self, plain: Match) -> Match | None:
        """Returns the change that explains the most of a difference within the bound. None if rounding explains it."""
        best, least = None, PARTLY
        for cause in (cause for cause in self.causes if not cause.forms):
            few = self.expected(cause, FEW)
            if few is None or _residual(plain.rows[:FEW], few, self.clean[:FEW]) > HOPELESS:
                continue
            expected = self.expected(cause)
            if expected is not None and (rest := _residual(plain.rows, expected, self.clean)) <= least:
                pair, distance = replace(plain.pair, cause=cause), apart(plain.rows, expected)
                best, least = replace(plain, pair=pair, distance=distance, explaining=expected), rest
        return best

    def _ranked(self, results: Iterable[tuple[Convention, list[Array]]], causes: Sequence[Cause]) -> list[Pair]:
        pairs = []
        for index, cause in enumerate(causes):
            self.progress(f"{self.tower}: cause {index + 1} of {len(causes)}")
            if (expected := self.expected(cause, 1)) is not None:
                pairs += [
                    Pair(convention, output, cause, apart(rows, expected))
                    for convention, outputs in results
                    if _fits(cause, convention)
                    for output, rows in enumerate(outputs)
                ]
        return sorted(pairs, key=lambda pair: pair.distance)

    def _best(self, ranked: Sequence[Pair], limit: float = math.inf) -> Match | None:
        """Returns the best of the first pairs on all inputs. None if the distances of all of them exceed `limit`."""
        matches: list[Match] = []
        expected: dict[Cause, Array | None] = {CLEAN: self.clean}
        for pair in ranked[: 2 * TRIED]:
            # The distance on all inputs is at least that on the first.
            if pair.distance > max(ALIKE * min([limit, *(match.distance for match in matches)]), LEAST):
                break
            if pair.convention not in self.ran:
                self.ran[pair.convention] = self.run(pair.convention)
            if pair.cause not in expected:
                expected[pair.cause] = self.expected(pair.cause)
            explaining, rows = expected[pair.cause], self.ran[pair.convention][pair.output]
            if explaining is not None:
                matches.append(Match(pair, apart(rows, explaining), apart(rows, self.clean), rows, explaining))
        best = min(matches, key=lambda match: match.distance, default=None)
        if best is None or best.distance > limit:
            return None
        others = [
            match.pair.convention
            for match in matches
            if match.pair.cause is best.pair.cause and match.distance <= max(ALIKE * best.distance, LEAST)
        ]
        return replace(best, others=tuple(each for each in dict.fromkeys(others) if each != best.pair.convention))
