"""What a backend is: it says which precisions it has, how a tower is written for it, and which partitioner takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner
    from torch import nn

    from mobileclip_deploy.model.variants import TowerName
    from mobileclip_deploy.targets.executorch.job import LoweringJob


__all__ = ["Backend"]


class Backend(ABC):
    """One backend, one file. `delegate` is the id that a .pte names it by; the first precision is the default.

    `runs_in_wheel`: the runtime that comes with the executorch package has it, on every system. `static_shapes`: why a
    batch cannot be left free; None where it can. `tables`: as `Abilities.tables`. `refused`: what it could write, or
    seem to, and should not; by tower and precision, with the reason.
    """

    name: ClassVar[str]
    delegate: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]]
    tables: ClassVar[tuple[str, ...]] = ()
    runs_in_wheel: ClassVar[bool] = False
    static_shapes: ClassVar[str | None] = None
    refused: ClassVar[dict[tuple[TowerName, str], str]] = {}

    def authored(self, job: LoweringJob) -> nn.Module:
        """The tower as this backend wants it written; as it is by default."""
        return job.module

    def lowering(self) -> AbstractContextManager[None]:
        """What has to hold while a tower is lowered; nothing by default."""
        return nullcontext()

    @abstractmethod
    def partitioner(self, job: LoweringJob) -> Partitioner:
        """What decides which operators the backend takes."""
