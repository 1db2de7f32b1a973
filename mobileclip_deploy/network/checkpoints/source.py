"""A source: a checkpoint that was opened, read and hashed once, and is passed on as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.variants import Variant

if TYPE_CHECKING:
    from mobileclip_deploy.network.checkpoints.axes import Axes


@dataclass(frozen=True)
class Source:
    """A model in eval mode, and the origin of its weights: file, SHA-256, variant, layout, licence. `axes`: the axes to
    which its embeddings were cut, if `provenance.compacted` is set."""

    model: MobileCLIP
    provenance: Provenance
    axes: Axes | None = None

    @classmethod
    def of(cls, model: MobileCLIP) -> Self:
        """Returns the source of a model from `load_model`.

        Raises:
            CheckpointError: the model has no provenance, so that no bundle can name its weights.
        """
        return cls(model, model.origin)

    @property
    def variant(self) -> Variant:
        """Card of the model, in the layout and at the image size of the checkpoint."""
        return self.model.variant

    def folded(self) -> Self:
        """Folds the model in place and returns this source. Answers of the training form must be computed before.

        Raises:
            FoldingError: see `folding.fold`.
        """
        fold(self.model)
        return self
