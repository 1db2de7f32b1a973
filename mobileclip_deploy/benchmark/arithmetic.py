"""How much one inference of a tower computes: the multiplications and additions of its products, from shapes alone."""

from __future__ import annotations

from functools import cache

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.variants import TowerName, load_variant

__all__ = ["arithmetic_of", "tower_arithmetic"]


def arithmetic_of(cell: Cell) -> int | None:
    """Arithmetic operations of one inference of a cell; None where the file's variant is not known here, such as in a
    file of others.

    They are those of the network with all branches folded, also for a cell of torch that runs it unfolded.
    """
    if cell.variant is None:
        return None
    shape = cell.input.shape
    length = shape[-1] if cell.tower == "text" else min(shape[-2:]) if len(shape) == 4 else shape[0]
    try:
        return tower_arithmetic(cell.variant, cell.tower, length)
    except UsageError:  # of a card that is not here, or a size that it cannot have
        return None


@cache
def tower_arithmetic(variant: str, tower: TowerName, length: int) -> int:
    """Multiplications and additions of a folded tower, two per pair, for one input of `length` pixels or tokens.

    Those of convolutions and matrix products, attention's included, as torch counts them (`FlopCounterMode`) on tensors
    without content; activations, norms and sums of residuals are left out, 1% and less.

    Raises:
        UsageError: no such variant, or a size that it does not take.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mobileclip_deploy.folding import fold_structure
    from mobileclip_deploy.model.architecture import build_model

    card = load_variant(variant)
    if tower == "image" and length != card.preprocess.size:
        card = card.with_image_size(length)
    model = fold_structure(build_model(card, "meta", (tower,))).to("meta")  # with the mask of a causal tower
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        if tower == "image":
            model.encode_image(torch.empty(1, 3, length, length, device="meta"))
        else:
            assert model.text is not None
            model.text.features(torch.empty(1, length, dtype=torch.int64, device="meta"), short=True)
    width = 0 if card.text is None else card.text.width
    return counter.get_total_flops() + _projected(tower, width, card.embed_dim)


def _projected(tower: TowerName, width: int, dimensions: int) -> int:
    """Arithmetic operations that project the one token of a text; 0 for an image tower."""
    return 2 * width * dimensions if tower == "text" else 0
