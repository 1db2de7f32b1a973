"""The ONNX target: file names, input and output, companions; the graph is built in `graph`, run in `runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact, refuse_function
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Attachment, TensorInfo, TowerJob, answer_of, ids_of, pixels_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mobileclip_deploy.layouts import Layout
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.attached import Attached
    from mobileclip_deploy.targets.benchmarking import RuntimePlace
    from mobileclip_deploy.targets.rules import StorageRules

__all__ = ["OnnxOptions", "OnnxTarget"]


@dataclass(frozen=True)
class OnnxOptions(TargetOptions):
    """`ort`: beside each file the same as .ort, the only format that small builds of ONNX Runtime read."""

    ort: bool = option("--ort", "Each file as .ort as well, for ONNX Runtime's small builds.", default=False)


class OnnxTarget(Target):
    name = "onnx"
    title = "ONNX"
    abilities = Abilities(
        packages=("onnx", "onnxruntime", "onnxscript"),
        extra="onnx",
        proven={"onnx": "1.23.2", "onnxruntime": "1.32.0", "onnxscript": "0.7.2"},
        suffixes=(".onnx",),
        foreign_suffix=".onnx",
        order=1,
        precisions=("fp32", "fp16", "w8", "w8a8", "w4"),
        tables=("w8", "w4"),
        mixes=True,
        recoverable=True,
        absorbs_layer_scales=True,
        input_types={"image": ("float32",), "text": ("int64", "int32")},
        no_pictures=None,
        no_contexts=None,
        runtime_package="onnxruntime",
        runtime_modules=("onnxruntime",),
    )
    Options = OnnxOptions
    options: OnnxOptions

    def rules(self, precision: str) -> StorageRules:
        from mobileclip_deploy.targets.onnx.storage import RULES

        return RULES

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return self._own.file(variant, artifact, precision)

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        source = self._own.artifact(tower).input.name
        result = self._own.artifact("classifier" if labels else tower).output.name
        taken = pixels_of(source, variant, batch=0) if tower == "image" else ids_of(source, variant, "int64", batch=0)
        return taken, answer_of(result, variant, labels, batch=0)

    @property
    def _own(self) -> Layout:
        """What is written where no layout is asked for."""
        from mobileclip_deploy.layouts import default_layout

        layout = default_layout(self.name)
        assert layout is not None
        return layout

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.onnx.graph import write_graph

        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph(job, path, *self.ports(job.variant, job.tower, job.form))
        return ()

    def attach(
        self,
        artifact: Path,
        inputs: npt.NDArray[np.generic],
        expected: npt.NDArray[np.float32],
        tolerance: float,
    ) -> tuple[Attachment, ...]:
        if not self.options.ort:
            return ()
        from mobileclip_deploy.targets.onnx.ort_file import write_ort

        return (Attachment("ort", write_ort(artifact, inputs, expected, tolerance), tolerance),)

    @property
    def attachments(self) -> tuple[str, ...]:
        return ("ort",) if self.options.ort else ()

    def open_attached(self, kind: str, path: Path) -> Attached | None:
        from mobileclip_deploy.targets.onnx.ort_file import OrtFile

        return OrtFile(path) if kind == "ort" else None

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.onnx.opening import OnnxArtifact

        refuse_function(self.name, function)
        return OnnxArtifact(path)

    def write_companions(self, folder: Path, variant: Variant) -> None:
        """What clients of the default layout look for."""
        from mobileclip_deploy.layouts import write_side_files

        write_side_files(folder, self._own, variant)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.onnx.benchmarking import places

        return places(device)

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        from mobileclip_deploy.targets.onnx.benchmarking import declared

        return declared(path)
