"""Relevance that an export learns, and its measured effect."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry, RelevanceEntry, RelevancePoint
from mobileclip_deploy.artifacts.bundle.opening import RELEVANCE
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.tensors import write_tensors
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.spaces.int8 import integers_of, rounded_scale
from mobileclip_deploy.spaces.relevance import Relevance, six_decimals
from mobileclip_deploy.spaces.relevance_fit import FALSE_ALARMS, MatchThreshold, RelevanceSamples, fit, measured_curve
from mobileclip_deploy.spaces.relevance_set import RelevanceSet


@dataclass(frozen=True, eq=False)
class LearnedRelevance:
    """Relevance that an export writes into its bundles, the set it was learned from, and its measured effect."""

    relevance: Relevance
    learned_from: RelevanceSet
    curve: tuple[RelevancePoint, ...]

    def write(self, folder: Path, golden: Floats) -> RelevanceEntry:
        """Writes the file into a bundle's folder, and returns the manifest's entry.

        Args:
            golden: embeddings [M, D] of the golden prompts.
        """
        relevance, source, path = self.relevance, self.learned_from, folder / RELEVANCE
        weights = relevance.fitted.weights.astype(np.float32)
        write_tensors(path, {"background": relevance.background, "weights": weights}, {})
        return RelevanceEntry(
            file=AttachmentEntry.of(path, folder),
            background=source.name,
            images=len(relevance.background),
            images_sha256=source.sha256,
            scale=relevance.scale,
            queries=len(source.captions) or None,
            queries_sha256=source.queries_sha256,
            spread=relevance.fitted.spread,
            intercept=relevance.fitted.intercept,
            slope=relevance.fitted.slope,
            false_alarms=FALSE_ALARMS,
            curve=self.curve,
            golden=relevance.answers(golden),
        )


def learn_relevance(model: MobileCLIP, samples: RelevanceSet, progress: Progress = silent) -> LearnedRelevance:
    """Embeds pictures and captions in float64, so that every machine learns the same, and fits the threshold.

    Raises:
        InvalidInput: a picture cannot be used, embeddings hardly differ, or captions do not fit their pictures.
    """
    embedded = samples.embedded(model, progress)
    scale = rounded_scale(float(np.abs(embedded.background).max()))  # nothing is clipped
    background, _ = integers_of(embedded.background.astype(np.float32), scale)
    stored = RelevanceSamples(
        embedded.texts, embedded.pictures, embedded.nonsense, background.astype(np.float64) * scale
    )
    fitted = fit(stored)
    weights = np.round(fitted.weights, 5).astype(np.float32).astype(np.float64)
    scalars = (six_decimals(value) for value in (fitted.spread, fitted.intercept, fitted.slope))
    rounded = MatchThreshold(weights, *scalars)
    return LearnedRelevance(Relevance(background, scale, rounded), samples, measured_curve(stored))
