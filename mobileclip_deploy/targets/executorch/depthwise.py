"""The fast path: 7 x 7 depthwise convolutions as an exact sum of three that XNNPACK has kernels for.

XNNPACK's depthwise kernels take at most 25 taps; a larger window runs as an indirect GEMM, many times slower. The seven
rows of the window are dealt out to three convolutions, each symmetric about the centre row, so that torch's symmetric
padding fits all of them and nothing is padded, sliced or copied:

    rows 0 3 6    3 x 7, dilation (3, 1), padding (3, 3)
    rows 1 5      2 x 7, dilation (4, 1), padding (2, 3)
    rows 2 4      2 x 7, dilation (2, 1), padding (1, 3)
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["KERNEL_ROWS", "RowBands", "is_split", "split_large_depthwise"]

# Rows of the window -> the first, the step, how many; padding follows from where the first row stands.
BANDS = ((0, 3, 3), (1, 4, 2), (2, 2, 2))
KERNEL = 7
KERNEL_ROWS = tuple(tuple(range(first, first + step * rows, step)) for first, step, rows in BANDS)


class RowBands(nn.Module):
    """The sum of three depthwise convolutions that equals one of 7 x 7: [N, C, H, W] -> [N, C, H', W']."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bands = nn.ModuleList(_band(conv, *band) for band in BANDS)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.bands
        return first(x) + second(x) + third(x)


def split_large_depthwise(module: nn.Module) -> int:
    """Replace every 7 x 7 depthwise convolution inside `module`, in place; says how many there were."""
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and is_split(child)
    ]
    for parent, name, child in found:
        setattr(parent, name, RowBands(child))
    return len(found)


def is_split(conv: nn.Conv2d) -> bool:
    """Whether `split_large_depthwise` replaces it."""
    return (
        conv.kernel_size == (KERNEL, KERNEL)
        and conv.padding == (KERNEL // 2, KERNEL // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == conv.in_channels == conv.out_channels
    )


def _band(conv: nn.Conv2d, first: int, step: int, rows: int) -> nn.Conv2d:
    band = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (rows, KERNEL),
        conv.stride,  # type: ignore[arg-type]
        (KERNEL // 2 - first, KERNEL // 2),
        (step, 1),
        groups=conv.groups,
        bias=conv.bias is not None and first == 0,
    )
    band.weight = nn.Parameter(conv.weight.detach()[:, :, first : first + step * (rows - 1) + 1 : step].clone())
    if band.bias is not None and conv.bias is not None:
        band.bias = nn.Parameter(conv.bias.detach().clone())
    return band.to(conv.weight.device)
