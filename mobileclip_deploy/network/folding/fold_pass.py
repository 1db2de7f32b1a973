"""Base of all folds: a pass with precondition, fold and postcondition; and the arithmetic, in float64.

At inference BatchNorm computes y = (x - mean) / sqrt(var + eps) * weight + bias, that is y = scale * x + shift. This is
an affine map, which a convolution can absorb.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import FoldingError
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN, same_padding

Block = TypeVar("Block", bound=nn.Module)


class FoldPass(ABC, Generic[Block]):
    """A pass that replaces one kind of training-time structure, in place, by one that computes the same at inference.

    Blocks of the kind are found by type; `pending` is true for those in training form. For each pass a model is
    unfolded, folded or half-folded, and only the last is refused: applying a pass twice changes nothing.
    """

    name: ClassVar[str]
    block: ClassVar[type[nn.Module]]

    def pending(self, module: Any) -> bool:
        """Returns whether a block of this kind is in training form: by default, whether it lacks its convolution
        `conv`."""
        return module.conv is None

    @abstractmethod
    def fold(self, module: Block) -> None:
        """Folds one block that is in training form."""

    def blocks(self, model: nn.Module) -> Iterator[tuple[str, Any]]:
        """Yields all blocks of this kind with their names, folded or not."""
        return ((name, module) for name, module in model.named_modules() if isinstance(module, self.block))

    def folded(self, module: Block) -> bool:
        """Returns whether a block of this kind is in inference form. A block may be in neither form: the pass then does
        not apply to it."""
        return not self.pending(module)

    def requires(self, model: nn.Module) -> None:
        """Checks the precondition: no block of the kind is in training mode, and all are in the same form.

        Raises:
            FoldingError: a block's BatchNorm statistics still move, or some blocks are folded and others are not.
        """
        blocks = list(self.blocks(model))
        training = next((name for name, module in blocks if module.training), None)
        if training is not None:
            raise FoldingError(
                f"{training} is in training mode, in which BatchNorm statistics change; call model.eval()"
            )
        pending = [name for name, module in blocks if self.pending(module)]
        done = sum(self.folded(module) for _, module in blocks)
        if pending and done:
            raise FoldingError(
                f"half-folded: {self.name} finds {done} blocks folded and {len(pending)} not (first: {pending[0]})"
            )

    def apply(self, model: nn.Module) -> int:
        """Folds every block that is in training form. Returns their number."""
        todo = [module for _, module in self.blocks(model) if self.pending(module)]
        for module in todo:
            self.fold(module)
        return len(todo)

    def ensures(self, model: nn.Module) -> None:
        """Checks the postcondition: no block of the kind is left in training form.

        Raises:
            FoldingError: one is.
        """
        left = [name for name, module in self.blocks(model) if self.pending(module)]
        if left:
            raise FoldingError(f"{self.name} left {len(left)} blocks unfolded (first: {left[0]})")


def batch_norm_affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns scale and shift of a BatchNorm with running statistics: two float64 tensors [C]."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    # In float64: with a small variance the quotient is large, and its float32 rounding would show in the embeddings.
    scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    return scale, bn.bias.double() - bn.running_mean.double() * scale


def fold_conv_bn(pair: ConvBN) -> tuple[Tensor, Tensor]:
    """Returns kernel [Cout, Cin/groups, kh, kw] and bias [Cout] of a convolution with its BatchNorm, float64."""
    scale, shift = batch_norm_affine(pair.bn)
    return pair.conv.weight.double() * scale.reshape(-1, 1, 1, 1), shift


def identity_kernel(channels: int, groups: int, kernel: tuple[int, int], device: torch.device) -> Tensor:
    """Returns the kernel that returns its input: [channels, channels/groups, kh, kw], float64."""
    weight = torch.zeros(channels, channels // groups, *kernel, dtype=torch.float64, device=device)
    # A grouped kernel counts input channels from the start of its group: output c reads c % (channels / groups).
    rows = torch.arange(channels, device=device)
    weight[rows, rows % (channels // groups), kernel[0] // 2, kernel[1] // 2] = 1
    return weight


def pad_kernel(weight: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Returns a kernel centred in zeros up to a larger (odd) size."""
    high, wide = (kernel[0] - weight.shape[2]) // 2, (kernel[1] - weight.shape[3]) // 2
    return torch.nn.functional.pad(weight, (wide, wide, high, high))


def convolution(
    weight: Tensor,
    bias: Tensor,
    like: Tensor,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str | None = None,
    groups: int,
) -> nn.Conv2d:
    """Builds a convolution with these float64 values, rounded once to the dtype of `like`; it keeps the size when
    `padding` is None."""
    kernel = (weight.shape[2], weight.shape[3])
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        cast("tuple[int, int]", stride),
        cast("tuple[int, int]", same_padding(kernel) if padding is None else padding),
        groups=groups,
        # On the meta device: random initial values would be drawn only to be replaced.
        device="meta",
        dtype=like.dtype,
    )
    conv.weight = nn.Parameter(weight.detach().to(like.dtype).contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().to(like.dtype).contiguous(), requires_grad=False)
    return conv.eval()
