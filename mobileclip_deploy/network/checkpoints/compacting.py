"""Models with smaller embeddings: both projections end on the same few axes of the embedding space.

Nothing is subtracted, so that the cut is a product of matrices and folds into each projection: `W A` for `W`. The axes
are given here; `spaces.axes` fits them.
"""

import copy
import math

import torch
from torch import nn

from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.provenance import Compacted


def compact(source: Source, axes: Axes, fit_record: Compacted) -> Source:
    """Returns a copy of a source whose embeddings [N] are the full ones [D] times the axes, in another embedding space.

    Args:
        fit_record: record of the axes' fit; sizes, hash and space are filled in here.

    Raises:
        InvalidInput: the axes are of another space than the source's.
    """
    if axes.full_size != source.variant.embed_dim:
        raise InvalidInput(
            f"the axes are for embeddings of {axes.full_size} dimensions, but {source.variant.name} has "
            f"{source.variant.embed_dim}"
        )
    model = copy.deepcopy(source.model)
    for tower in (model.image, model.text):
        if tower is not None:
            assert isinstance(tower.projection, nn.Linear)  # models that output tokens were refused
            tower.projection = _projected(tower.projection, axes)
    model.variant = with_fields(model.variant, embed_dim=axes.size)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(fit_record.logit_scale))
    actual = {
        "size": axes.size,
        "full_size": axes.full_size,
        "from_space": source.provenance.embedding_space,
        "axes_sha256": axes.sha256,
        "full_logit_scale": source.model.logit_factor,
    }
    model.provenance = with_fields(source.provenance, compacted=with_fields(fit_record, **actual))
    return Source(model, model.provenance, axes)


@torch.no_grad()
def _projected(layer: nn.Linear, axes: Axes) -> nn.Linear:
    """Returns the layer with its outputs times the axes, computed in float64 and rounded once."""
    across = torch.from_numpy(axes.matrix).double().T  # [N, D]
    result = nn.Linear(layer.in_features, axes.size, bias=layer.bias is not None)
    result.weight = nn.Parameter((across @ layer.weight.double()).to(layer.weight.dtype), requires_grad=False)
    if layer.bias is not None:
        result.bias = nn.Parameter((across @ layer.bias.double()).to(layer.bias.dtype), requires_grad=False)
    return result.train(layer.training)
