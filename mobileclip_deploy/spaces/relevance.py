"""From when on a match counts, as a bundle holds it: background pictures, and the cosine that a query needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry, RelevanceAnswer, RelevanceEntry, RelevancePoint
from mobileclip_deploy.artifacts.bundle.opening import RELEVANCE
from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.base.files.arrays import Doubles, Floats
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, worded
from mobileclip_deploy.network.checkpoints.writing import write_tensors
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.spaces.int8 import integers_of, rounded_scale
from mobileclip_deploy.spaces.relevance_fit import FALSE_ALARMS, Fitted, Samples, fit, measured_curve
from mobileclip_deploy.spaces.relevance_set import RelevanceSet

GOLDEN_SIZE = 1000
"""Pictures of the library that the golden prompts' `needed` is told for."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """The background int8 [K, D], an integer times `scale` is a component, and what was learned (`Fitted`)."""

    background: npt.NDArray[np.int8]
    scale: float
    fitted: Fitted

    @classmethod
    def of(cls, bundle: Bundle) -> Relevance | None:
        """What a bundle holds; None of one that was exported without `background`.

        Raises:
            InvalidInput: the file is damaged, or does not go with the manifest.
        """
        entry = bundle.manifest.relevance
        if entry is None:
            return None
        path = within(bundle.path, entry.file.file)
        try:
            check_tensors(path)
            with safe_open(path, framework="np") as file:
                background, weights = file.get_tensor("background"), file.get_tensor("weights")
        except (SafetensorError, OSError) as error:
            raise InvalidInput(f"{path} cannot be read ({worded(error)}); export the bundle again") from None
        dimension = bundle.manifest.embed_dim
        fits = background.shape == (entry.images, dimension) and background.dtype == np.int8
        if not (fits and weights.shape == (dimension,) and weights.dtype == np.float32 and np.isfinite(weights).all()):
            raise InvalidInput(f"{path} does not hold what the manifest says of it; export the bundle again")
        fitted = Fitted(weights.astype(np.float64), entry.spread, entry.intercept, entry.slope)
        return cls(background, entry.scale, fitted)

    @property
    def pictures(self) -> Doubles:
        """The background's embeddings [K, D], nearly of length 1."""
        return self.background.astype(np.float64) * self.scale

    def needed(self, texts: Floats, size: int) -> Doubles:
        """The cosine [Q] that a match of each text needs in a library of `size` pictures.

        Args:
            texts: embeddings [Q, D], of any length.
        """
        asked = at_length_one(texts)
        return self._needed(asked, (asked @ self.pictures.T).std(1), size)

    def _needed(self, asked: Doubles, spreads: Doubles, size: int) -> Doubles:
        return self.fitted.threshold(size) - self.fitted.lifted(asked, spreads)

    def answers(self, texts: Floats) -> tuple[RelevanceAnswer, ...]:
        """What a client should compute for these texts [Q, D]."""
        asked = at_length_one(texts)
        scores = asked @ self.pictures.T
        spreads = scores.std(1)
        rows = zip(scores.mean(1), spreads, self._needed(asked, spreads, GOLDEN_SIZE), strict=True)
        return tuple(RelevanceAnswer(mean=_six(mean), spread=_six(std), needed=_six(need)) for mean, std, need in rows)


@dataclass(frozen=True, eq=False)
class LearnedRelevance:
    """What an export writes into its bundles: the relevance, what it was learned from, and what it does."""

    relevance: Relevance
    learned_from: RelevanceSet
    curve: tuple[RelevancePoint, ...]

    def write(self, folder: Path, golden: Floats) -> RelevanceEntry:
        """Write the file into a bundle's folder; the manifest's entry.

        Args:
            golden: embeddings [M, D] of the golden prompts.
        """
        found, told, path = self.relevance, self.learned_from, folder / RELEVANCE
        weights = found.fitted.weights.astype(np.float32)
        write_tensors(
            path, {"background": torch.from_numpy(found.background), "weights": torch.from_numpy(weights)}, {}
        )
        return RelevanceEntry(
            file=AttachmentEntry.of(path, folder),
            background=told.name,
            images=len(found.background),
            images_sha256=told.sha256,
            scale=found.scale,
            queries=len(told.captions) or None,
            queries_sha256=told.queries_sha256,
            spread=found.fitted.spread,
            intercept=found.fitted.intercept,
            slope=found.fitted.slope,
            false_alarms=FALSE_ALARMS,
            curve=self.curve,
            golden=found.answers(golden),
        )


def learn_relevance(model: MobileCLIP, given: RelevanceSet, progress: Progress = silent) -> LearnedRelevance:
    """Embed pictures and captions in float64, so that every machine learns the same, and fit.

    Raises:
        InvalidInput: a picture cannot be used, embeddings hardly differ, or captions do not fit their pictures.
    """
    embedded = given.embedded(model, progress)
    scale = rounded_scale(float(np.abs(embedded.background).max()))  # nothing is clipped
    background, _ = integers_of(embedded.background.astype(np.float32), scale)
    stored = Samples(embedded.texts, embedded.pictures, embedded.nonsense, background.astype(np.float64) * scale)
    fitted = fit(stored)
    weights = np.round(fitted.weights, 5).astype(np.float32).astype(np.float64)
    rounded = Fitted(weights, _six(fitted.spread), _six(fitted.intercept), _six(fitted.slope))
    return LearnedRelevance(Relevance(background, scale, rounded), given, measured_curve(stored))


def _six(value: float) -> float:
    return round(float(value), 6)
