"""One tower to be lowered to a backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobileclip_deploy.targets.executorch.options import ExecuTorchOptions
from mobileclip_deploy.targets.values import TowerJob

__all__ = ["FIXED", "FreeShape", "LoweringJob"]


@dataclass(frozen=True)
class FreeShape:
    """What of a tower's input may vary: its `batch`, or the length of ids from `shortest` to the example's."""

    batch: bool = False
    shortest: int | None = None


FIXED = FreeShape()


@dataclass(frozen=True)
class LoweringJob(TowerJob):
    """A tower's job, and how ExecuTorch is to write it."""

    options: ExecuTorchOptions = field(kw_only=True)

    @property
    def free(self) -> FreeShape:
        """Free dimensions of a text tower that takes several prompts at a time, or several lengths of ids. Other
        towers have none."""
        batch = self.options.dynamic_batch and self.tower == "text"
        return FreeShape(batch, self.contexts[0] if self.contexts else None)
