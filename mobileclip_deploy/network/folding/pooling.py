"""Fold of attention pooling's query, which is the same for every picture."""

from torch import nn

from mobileclip_deploy.network.folding.fold_pass import FoldPass
from mobileclip_deploy.network.model.architecture.attention import AttentionPool


class FoldPooledQuery(FoldPass[AttentionPool]):
    """The learned query and its projection -> one vector, W latent + b, since no input reaches either.

    Converters would compute it too, each in its own arithmetic. A file without the projection's weights could not be
    compared with the checkpoint's.
    """

    name = "pooled-query"
    block = AttentionPool

    def pending(self, module: AttentionPool) -> bool:
        return module.query is not None

    def fold(self, module: AttentionPool) -> None:
        assert module.query is not None
        assert module.latent is not None
        query = module.query.weight.double() @ module.latent.double() + module.query.bias.double()  # [C]
        module.asked = nn.Parameter(query.detach().to(module.latent.dtype), requires_grad=False)
        module.latent = module.query = None
