"""What a user may choose of ExecuTorch, and one tower to be lowered so."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from mobileclip_deploy.targets.executorch.backends import DEFAULT_BACKEND, get_backend, parse_backends
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import TowerJob


@dataclass(frozen=True)
class ExecuTorchOptions(TargetOptions):
    """What ExecuTorch leaves to choose.

    `deployment_target`: of the Core ML package inside a .pte for that backend. `backend`: one, or several names with
    commas, one bundle per name. `fast_depthwise`: see depthwise.py. `dynamic_batch`: of prompts. `bundled_program` and
    `etrecord` are written beside each .pte. `model_schema`: see model_schema.py.
    """

    deployment_target: str | None = option(
        "--deployment-target", "For backend coreml: the oldest system to run on [default: iOS16].", metavar="iOSNN"
    )
    backend: str | None = option("--backend", "xnnpack, coreml, vulkan [default: xnnpack].", metavar="B[,B...]")
    fast_depthwise: bool = option(
        "--no-fast-depthwise", "Leave 7 x 7 convolutions whole (slow on XNNPACK).", default=True
    )
    dynamic_batch: bool = option("--dynamic-batch", "The text tower takes 1 to 64 prompts at a time.", default=False)
    bundled_program: bool = option(
        "--bundled-program", "Write a .bpte with golden inputs and outputs too.", default=False, attaches=".bpte"
    )
    etrecord: bool = option(
        "--etrecord", "Write an ETRecord for its developer tools too.", default=False, attaches=".etrecord"
    )

    model_schema: bool = option(
        "--model-schema", "Each .pte says what it takes, for react-native-executorch.", default=False
    )

    @property
    def backends(self) -> list[str]:
        """The backends that are named.

        Raises:
            UsageError: one is unknown, or needs an SDK.
        """
        return parse_backends(self.backend or DEFAULT_BACKEND)

    @property
    def variation(self) -> str | None:
        return None if self.backends[0] == DEFAULT_BACKEND else self.backends[0]

    def variations(self) -> tuple[Self, ...]:
        return (self,) if len(self.backends) == 1 else tuple(replace(self, backend=name) for name in self.backends)

    def varied(self, name: str) -> Self:
        return replace(self, backend=get_backend(name).name)

    def uses(self, option: str) -> bool:
        return self.backends[0] == {"deployment_target": "coreml", "fast_depthwise": "xnnpack"}.get(
            option, self.backends[0]
        )


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
