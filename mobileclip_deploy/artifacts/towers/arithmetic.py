"""Number of multiplications and additions in one inference of a tower, from shapes alone."""

from functools import cache

from mobileclip_deploy.network.model.loaded import torch_installed
from mobileclip_deploy.network.model.variants import TowerName, load_variant


@cache
def tower_arithmetic(variant: str, tower: TowerName, length: int) -> int | None:
    """Counts the multiplications and additions of a folded tower, two per pair, for one input of `length` pixels or
    tokens.

    Counts convolutions and matrix products, attention's included, as torch does (`FlopCounterMode`) on tensors without
    content. Activations, norms and sums of residuals are left out, 1% and less. None if torch is not installed.

    Raises:
        UsageError: no such variant, or a size that it does not take.
    """
    if not torch_installed():
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mobileclip_deploy.network.folding import fold_structure
    from mobileclip_deploy.network.model.architecture import build_model

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
    projected = 2 * card.text.width * card.embed_dim if tower == "text" and card.text else 0  # of one token
    return counter.get_total_flops() + projected
