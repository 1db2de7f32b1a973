"""Relevance data of a bundle: background pictures, and the cosine that a query needs for a match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.manifest import RelevanceAnswer
from mobileclip_deploy.base.files.arrays import Doubles, Floats
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.errors import REASON, InvalidInput, reraising
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.spaces.relevance_fit import MatchThreshold

GOLDEN_SIZE = 1000
"""Size of the library for which the golden prompts' `needed` is computed."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """Background int8 [K, D], whose integers times `scale` are components, and the learned threshold."""

    background: npt.NDArray[np.int8]
    scale: float
    fitted: MatchThreshold

    @classmethod
    def of(cls, bundle: Bundle) -> Relevance | None:
        """Reads the relevance data of a bundle. None if it was exported without `background`.

        Raises:
            InvalidInput: the file is damaged, or does not match the manifest.
        """
        entry = bundle.manifest.relevance
        if entry is None:
            return None
        path = within(bundle.path, entry.file.file)
        refusal = f"{path} cannot be read ({REASON}); export the bundle again"
        tensors, _ = read_tensors(path, refusal)
        with reraising(refusal, KeyError):
            background, weights = tensors["background"], tensors["weights"]
        dimension = bundle.manifest.embed_dim
        fits = background.shape == (entry.images, dimension) and background.dtype == np.int8
        if not (fits and weights.shape == (dimension,) and weights.dtype == np.float32 and np.isfinite(weights).all()):
            raise InvalidInput(f"{path} does not match the manifest; export the bundle again")
        fitted = MatchThreshold(weights.astype(np.float64), entry.spread, entry.intercept, entry.slope)
        return cls(background, entry.scale, fitted)

    @property
    def pictures(self) -> Doubles:
        """Embeddings [K, D] of the background, nearly of length 1."""
        return self.background.astype(np.float64) * self.scale

    def needed(self, texts: Floats, size: int) -> Doubles:
        """Returns the cosine [Q] that a match of each text needs in a library of `size` pictures.

        Args:
            texts: embeddings [Q, D], of any length.
        """
        unit = at_length_one(texts)
        return self._needed(unit, (unit @ self.pictures.T).std(1), size)

    def _needed(self, asked: Doubles, spreads: Doubles, size: int) -> Doubles:
        return self.fitted.threshold(size) - self.fitted.lifted(asked, spreads)

    def answers(self, texts: Floats) -> tuple[RelevanceAnswer, ...]:
        """Returns the values that a client should compute for these texts [Q, D]."""
        unit = at_length_one(texts)
        scores = unit @ self.pictures.T
        spreads = scores.std(1)
        columns = scores.mean(1), spreads, self._needed(unit, spreads, GOLDEN_SIZE)
        rows = zip(*(map(six_decimals, column) for column in columns), strict=True)
        return tuple(RelevanceAnswer(mean=mean, spread=std, needed=need) for mean, std, need in rows)


def six_decimals(value: float) -> float:
    return round(float(value), 6)
