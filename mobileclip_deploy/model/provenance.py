"""Where a model's weights came from; carried from the checkpoint into every manifest."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = ["Provenance", "Recovered", "weight_sha256"]


class Recovered(BaseModel):
    """That towers were trained for a precision (`recover`): `precisions` by tower, and the checkpoint whose answers
    they were trained to give. `target` is the one whose export stores the very integers that were trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precisions: dict[str, str]
    target: str = "coreml"  # files from before it was recorded were trained for Core ML
    source_file: str
    source_sha256: str

    def advice(self, target: str) -> str | None:
        """One line for an export to another target; None for the one that the weights were trained for."""
        if target == self.target:
            return None
        return (
            f"These weights were recovered for {self.target}; {target} rounds them once more, on grids of its own. "
            f"Compare with an export of {self.source_file}, or recover with `target='{target}'`."
        )


class Provenance(BaseModel):
    """The source checkpoint of a model. `layout` is the source's own, also for a folded copy of it.

    `towers` are those the checkpoint holds. `image_size` is set when it is not the variant's own. `notes` are sentences
    a user should see: what was assumed, passed over or changed on the way from the file to the model. `recovered` is
    set when the weights were trained for a precision: then `file` and `sha256` are of the recovered file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    layout: str
    sha256: str
    file: str
    licence: str
    research_only: bool
    builtin: bool = False
    repository: str | None = None
    revision: str | None = None
    towers: tuple[str, ...] = ("image", "text")
    image_size: int | None = None
    notes: tuple[str, ...] = ()
    recovered: Recovered | None = None

    @property
    def embedding_space(self) -> str:
        """One id per source checkpoint: embeddings of different ids must not be compared. What was recovered answers in
        its source's space."""
        source = self.recovered.source_sha256 if self.recovered else self.sha256
        return f"{self.variant}-{source[:16]}"


def weight_sha256(values: npt.NDArray[np.generic]) -> str:
    """What tells a weight in an artifact from all others, whatever a converter called it: its float16 numbers."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float16).tobytes()).hexdigest()
