"""The target for Qualcomm's NPU: names, input and output, chips; what is compiled is the ONNX target's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact, refuse_function
from mobileclip_deploy.targets.onnx.storage import RULES
from mobileclip_deploy.targets.onnx.target import OnnxTarget
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.qnn.chips import Chip, chips_of
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Pace, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check

__all__ = ["QnnOptions", "QnnTarget"]

# The emulator takes 0.1 to 0.2 s of CPU for nano's towers and 2 to 5 s for S0's image tower, for each of three chips.
PACE = Pace(asked=((1e8, 16), (1e9, 8), (8e9, 4), (float("inf"), 2)), seconds={"float16": 4.0, "float32": 0.05})
NOT_TIMED = {
    "host": "the emulator's time is no latency of an NPU",
    "android": "the ready runners are built against glibc, and what reaches the NPU, libcdsprpc.so, against Android's "
    "own library; measure with `engine='qnn-net-run'` and Qualcomm's SDK, or in an app (docs/qualcomm.md)",
}


@dataclass(frozen=True)
class QnnOptions(TargetOptions):
    """`chip`: those to compile for, by code or phone, with commas between; None: one for each architecture of 2023 to
    2025. `union`: beside their binaries one for all of them. `allow_cpu`: what an NPU does not take is left to the CPU,
    not refused."""

    chip: str | None = option(
        "--chip", "Chips or phones: sm8650, galaxy-s23 [default: v73, v75, v79].", metavar="C[,C...]"
    )
    union: bool = option("--union", "One more binary, for all of the chips, which nothing here runs.", default=False)
    allow_cpu: bool = option("--allow-cpu", "Leave to the CPU what the NPU does not take.", default=False)

    @property
    def chips(self) -> tuple[Chip, ...]:
        """See `chips_of`."""
        return chips_of(self.chip)


class QnnTarget(Target):
    name = "qnn"
    title = "Qualcomm's NPU"
    Options = QnnOptions
    options: QnnOptions
    abilities = Abilities(
        packages=("onnx", "onnxruntime", "onnxscript"),
        extra="onnx",
        converters=("onnxruntime_qnn",),
        converter_extra="qnn",
        proven={"onnxruntime-qnn": "2.7.0"},
        suffixes=(".qnn",),
        order=6,
        precisions=("fp16", "w8a16", "w8a8"),
        absorbs_layer_scales=True,
        input_types={"image": ("float32",), "text": ("int32",)},
        no_contexts="each length is a binary of its own, which is not built",
        rules=RULES,
        compiled_places=("npu",),
        runtime_package="onnxruntime-qnn",
        pace=PACE,
    )

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, and refuses an unknown chip, and a union of one chip or with operations left to the CPU.

        Raises:
            UsageError, DependencyMissing: see `Target.require`.
        """
        super().require(precisions, mixed)
        chips = self.options.chips
        if self.options.union and (len(chips) < 2 or self.options.allow_cpu):
            raise UsageError("`union` is one binary for several chips, wholly on their NPUs; give several chips alone")

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        source, result = OnnxTarget().tensors(variant, tower, labels)
        ids = "int32" if tower == "text" else source.dtype
        return replace(source, dtype=ids, shape=(1, *source.shape[1:])), replace(result, shape=(1, *result.shape[1:]))

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.qnn.writing import write_artifact

        ports = self.ports(job.variant, job.tower, job.form)
        write_artifact(job, path, ports, self.options)
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.qnn.opening import QnnArtifact

        refuse_function(self.name, function)
        return QnnArtifact(path, self.options.allow_cpu)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        if device in NOT_TIMED:
            raise NotRun(NOT_TIMED[device])
        return super().places(device, options)
