"""What a fold is: a pass that says what it requires, what it does and what it ensures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from mobileclip_deploy.errors import FoldingError

__all__ = ["FoldPass"]


class FoldPass(ABC):
    """Replaces one kind of training-time structure by what computes the same at inference, in place.

    Blocks of the kind are found by type; `pending` tells those still in training form. A model is unfolded, folded or
    half-folded with regard to a pass, and only the last is refused: applying a pass twice changes nothing.
    """

    name: ClassVar[str]
    block: ClassVar[type[nn.Module] | tuple[type[nn.Module], ...]]

    @abstractmethod
    def pending(self, module: nn.Module) -> bool:
        """Whether a block of this kind is still in training form."""

    @abstractmethod
    def fold(self, module: nn.Module) -> None:
        """Fold one block that is in training form."""

    def blocks(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """All blocks of this kind with their names, folded or not."""
        return ((name, module) for name, module in model.named_modules() if isinstance(module, self.block))

    def folded(self, module: nn.Module) -> bool:
        """Whether a block of this kind is in inference form. Neither form: the pass does not concern the block."""
        return not self.pending(module)

    def requires(self, model: nn.Module) -> None:
        """Precondition: no block of the kind is in training mode, and all are in the same form.

        Raises:
            FoldingError: a block's BatchNorm statistics still move, or some blocks are folded and others are not.
        """
        blocks = list(self.blocks(model))
        training = next((name for name, module in blocks if module.training), None)
        if training is not None:
            raise FoldingError(f"{training} is in training mode: BatchNorm statistics still move; call model.eval()")
        pending = [name for name, module in blocks if self.pending(module)]
        done = sum(self.folded(module) for _, module in blocks)
        if pending and done:
            raise FoldingError(
                f"half-folded: {self.name} finds {done} blocks folded and {len(pending)} not (first: {pending[0]})"
            )

    def apply(self, model: nn.Module) -> int:
        """Fold every block that is in training form; how many there were."""
        todo = [module for _, module in self.blocks(model) if self.pending(module)]
        for module in todo:
            self.fold(module)
        return len(todo)

    def ensures(self, model: nn.Module) -> None:
        """Postcondition: no block of the kind is left in training form.

        Raises:
            FoldingError: one is.
        """
        left = [name for name, module in self.blocks(model) if self.pending(module)]
        if left:
            raise FoldingError(f"{self.name} left {len(left)} blocks unfolded (first: {left[0]})")
