"""The two towers as they are exported: normalization inside, pooling without argmax, ids of any integer type."""

import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName


class ImageTower(nn.Module):
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> image embedding [N, D], not normalised.

    The variant's mean and std are applied inside, so that no app has to know them. They cannot be folded into the first
    convolution: it pads with zeros, which mean black after normalization, not before.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: MobileCLIP) -> None:
        super().__init__()
        assert model.image is not None
        self.encoder = model.image
        preprocess = model.variant.preprocess
        self.identity = not any(preprocess.mean) and all(value == 1 for value in preprocess.std)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        if not self.identity:
            pixels = (pixels - self.mean) * self.scale
        return self.encoder(pixels)


class TextTower(nn.Module):
    """Token ids [N, L], int32 or int64 -> text embedding [N, D], not normalised.

    If the tower is pooled at the last token of its context, that token's feature is used. Otherwise the feature at the
    first end-of-text token is selected by a product with a 0/1 row instead of by argmax and gather: runtimes and the
    Neural Engine lack int64 argmax and gather_nd. A row without the token gives the embedding of zeros; the tokenizer
    always writes one. With `short` it takes any length up to the context length.
    """

    earlier: Tensor

    def __init__(self, model: MobileCLIP, short: bool = False) -> None:
        super().__init__()
        assert model.text is not None
        self.encoder = model.text
        self.short = short
        self.eot = model.variant.tokens.eot
        length = model.variant.tokens.context_length
        # [L, L], 1 where the row is before the column: ids @ earlier counts the earlier tokens of each position.
        self.register_buffer("earlier", torch.ones(length, length).triu(1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        if self.encoder.pooling == "last":
            pooled = self.encoder.features(ids)[:, -1]  # [N, C]
            return self.encoder.projection(self.encoder.final_norm(pooled))
        # First, next to the lookup of the embeddings: both work on integers, which the Neural Engine does not.
        is_eot = (ids == self.eot).to(self.earlier.dtype)
        features = self.encoder.features(ids, self.short)  # [N, L, C], before the last norm
        # A slice of everything would be an operator in the graph.
        earlier = self.earlier[: ids.shape[1], : ids.shape[1]] if self.short else self.earlier
        # [N, L] @ [L, L] counts the end-of-text tokens before each position; the first has none.
        first = is_eot * (1 - torch.clamp(is_eot @ earlier, 0.0, 1.0))
        pooled = (first.unsqueeze(1) @ features).squeeze(1)  # [N, 1, L] @ [N, L, C] -> [N, C]
        return self.encoder.projection(self.encoder.final_norm(pooled))


def make_tower(model: MobileCLIP, name: TowerName, short: bool = False) -> ImageTower | TextTower:
    """Returns the tower of a folded model, sharing its weights, in eval mode.

    Args:
        short: the text tower takes ids of any length up to its context length (see `towers.contexts`).

    Raises:
        UsageError: the model is not folded, or does not have the tower.
    """
    if name not in model.towers:
        raise UsageError(f"this checkpoint has no {name} tower; export the one it has with `tower='{model.towers[0]}'`")
    if not is_folded(model):
        raise UsageError("only folded models are exported; call mobileclip_deploy.reparameterize(model) first")
    return (ImageTower(model) if name == "image" else TextTower(model, short)).eval()


def example_input(model: MobileCLIP, name: TowerName) -> Tensor:
    """Returns an input to trace with: grey pixels float32 [1, 3, S, S], or an empty prompt's ids int64 [1, L]."""
    variant = model.variant
    if name == "image":
        return torch.full((1, *variant.image_input_shape), 0.5)
    ids = torch.full((1, variant.tokens.context_length), variant.tokens.pad, dtype=torch.int64)
    empty = (*variant.tokens.first, variant.tokens.eot)
    ids[:, : len(empty)] = torch.tensor(empty)
    return ids
