"""The target for Qualcomm's NPU: names, input and output, chips; the compiled model is the ONNX target's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.onnx.rules import RULES
from mobileclip_deploy.targets.onnx.target import OnnxTarget
from mobileclip_deploy.targets.qnn.options import QnnOptions
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Pace, Ports, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.rules import StorageRules

# For each of three chips the emulator takes CPU time: 0.1 to 0.2 s for nano's towers, 2 to 5 s for S0's image tower.
PACE = Pace(seconds={"float16": 4.0, "float32": 0.05})
NOT_TIMED = {
    "host": "the emulator's time is not an NPU's latency: benchmark on a laptop with a Snapdragon, or a phone "
    "(docs/qualcomm.md)",
    "android": "the ready runners are built against glibc, but the NPU's library, libcdsprpc.so, against Android's; "
    "measure with `engine='qnn-net-run'` and Qualcomm's SDK, or in an app (docs/qualcomm.md)",
}


class QnnTarget(Target):
    name = "qnn"
    title = "Qualcomm's NPU"
    Options = QnnOptions
    options: QnnOptions
    capabilities = Capabilities(
        packages=Packages(
            required=("onnx", "onnxruntime", "onnxscript"),
            extra="onnx",
            converters=("onnxruntime_qnn",),
            converter_extra="qnn",
            proven={"onnxruntime-qnn": "2.7.0"},
            runtime_package="onnxruntime-qnn",
        ),
        formats=Formats(
            suffixes=(".qnn",),
            order=6,
            not_searched={
                "float_layers": "`precision='smallest'` searches a precision for each tower; leave `float_layers` out"
            },
        ),
        ports=Ports(input_types={"image": ("float32",), "text": ("int32",)}, why_no_contexts=None),
        storing=Storing(
            precisions=("fp16", "w8a16", "w8a8"), learns_rounding=True, absorbs_layer_scales=True, rules=RULES
        ),
        places=Places(compiled=("npu",), slow_runtime=PACE),
    )

    def settled(self, precisions: Precisions) -> QnnTarget:
        """Returns the target itself, and refuses invalid options: see `QnnOptions.require`."""
        self.options.require(precisions)
        return self

    def rules(self, precision: str) -> StorageRules:
        return replace(RULES, floats=lambda layer, tower, own: self.options.keeps(tower, layer.parameter))

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        source, result = OnnxTarget().tensors(variant, tower, labels)
        ids = "int32" if tower == "text" else source.dtype
        return replace(source, dtype=ids, shape=(1, *source.shape[1:])), replace(result, shape=(1, *result.shape[1:]))

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.qnn.writing import write_artifact

        ports = self.ports(job.variant, job.tower, job.form)
        write_artifact(job, path, ports, self.options, self.rules(job.precision))
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.qnn.opening import QnnArtifact

        return QnnArtifact(path, function, cpu=self.options.allow_cpu)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.qnn.npu import has_npu

        if device == "host" and has_npu():
            return (RuntimePlace("onnxruntime-qnn", "npu"),)
        if device in NOT_TIMED:
            raise NotRun(NOT_TIMED[device])
        return super().places(device, options)
