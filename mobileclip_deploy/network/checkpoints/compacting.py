"""A model with smaller embeddings: both projections end on the same few axes of the embedding space.

Nothing is subtracted, so that the cut is a product of matrices and folds into each projection: `W A` for `W`. Which
axes is another matter (`embeddings.axes`); here they are data.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import InvalidInput, worded
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.writing import write_tensors
from mobileclip_deploy.network.model.provenance import Compacted, tensors_sha256

UPRIGHT = 1e-5
"""By how much products of axes may differ from 0 and 1: rounding to float32 moves them by 1e-7."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Orthonormal axes of an embedding space, float32 [D, N], one per column: an embedding [D] times them is [N].

    Raises:
        InvalidInput: they are no such axes.
    """

    matrix: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        matrix = self.matrix
        if matrix.ndim != 2 or matrix.dtype != np.float32 or not 0 < matrix.shape[1] <= matrix.shape[0]:
            raise InvalidInput(f"axes are float32 [D, N] with N at most D, and these are {matrix.dtype} {matrix.shape}")
        wide = matrix.astype(np.float64)
        off = np.abs(wide.T @ wide - np.eye(matrix.shape[1])).max()
        if not off <= UPRIGHT:  # NaN is not either
            raise InvalidInput(f"the axes are not orthonormal: their products are off by {off:.1g}")

    @property
    def full_size(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def size(self) -> int:
        return int(self.matrix.shape[1])

    @cached_property
    def sha256(self) -> str:
        """The hash of their numbers, whatever file holds them."""
        return tensors_sha256({"axes": self.matrix})

    def save(self, path: Path) -> None:
        """Write as safetensors: `axes` float32 [D, N].

        Raises:
            InvalidInput: it cannot be written.
        """
        write_tensors(path, {"axes": torch.from_numpy(self.matrix)}, {})

    @classmethod
    def read(cls, path: Path) -> Axes:
        """Read what `save` wrote.

        Raises:
            InvalidInput: it cannot be read, or holds no orthonormal axes.
        """
        try:
            check_tensors(path)
            return cls(load_file(path)["axes"])
        except InvalidInput as error:
            raise InvalidInput(f"{path} is damaged: {error}; export the bundle again") from None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InvalidInput(f"{path} cannot be read: {worded(error)}; export the bundle again") from error


def compact(source: Source, axes: Axes, told: Compacted) -> Source:
    """A copy of a source whose embeddings [N] are the full ones [D] times the axes, in another embedding space.

    Args:
        told: how the axes were fitted; sizes, hash and space are set here to what they are.

    Raises:
        InvalidInput: the axes are of another space than the source's.
    """
    if axes.full_size != source.variant.embed_dim:
        raise InvalidInput(
            f"the axes are of embeddings of {axes.full_size} numbers, and {source.variant.name} has "
            f"{source.variant.embed_dim}"
        )
    model = copy.deepcopy(source.model)
    for tower in (model.image, model.text):
        if tower is not None:
            assert isinstance(tower.projection, nn.Linear)  # what gives tokens was refused
            tower.projection = _projected(tower.projection, axes)
    model.variant = with_fields(model.variant, embed_dim=axes.size)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(told.logit_scale))
    is_so = {
        "size": axes.size,
        "full_size": axes.full_size,
        "from_space": source.provenance.embedding_space,
        "axes_sha256": axes.sha256,
        "full_logit_scale": source.model.logit_factor,
    }
    model.provenance = with_fields(source.provenance, compacted=with_fields(told, **is_so))
    return Source(model, model.provenance, axes)


@torch.no_grad()
def _projected(layer: nn.Linear, axes: Axes) -> nn.Linear:
    """The layer with its outputs times the axes: in float64, rounded once."""
    across = torch.from_numpy(axes.matrix).double().T  # [N, D]
    result = nn.Linear(layer.in_features, axes.size, bias=layer.bias is not None)
    result.weight = nn.Parameter((across @ layer.weight.double()).to(layer.weight.dtype), requires_grad=False)
    if layer.bias is not None:
        result.bias = nn.Parameter((across @ layer.bias.double()).to(layer.bias.dtype), requires_grad=False)
    return result.train(layer.training)
