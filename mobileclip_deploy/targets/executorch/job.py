"""One tower to be lowered to a backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobileclip_deploy.targets.executorch.options import ExecuTorchOptions
from mobileclip_deploy.targets.values import TowerJob

__all__ = ["LoweringJob"]


@dataclass(frozen=True)
class LoweringJob(TowerJob):
    """A tower's job, and how ExecuTorch is to write it."""

    options: ExecuTorchOptions = field(kw_only=True)

    @property
    def free_batch(self) -> bool:
        """Whether the text tower is to take several prompts at a time."""
        return self.options.dynamic_batch and self.tower == "text"

    @property
    def shortest(self) -> int | None:
        """Of a text tower that takes several lengths of ids the shortest; None where it takes one."""
        return self.contexts[0] if self.contexts else None
