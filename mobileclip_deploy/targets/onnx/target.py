"""The ONNX target: file names, input and output, companions; the graph is built in `graph`, run in `runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.base import Target
from mobileclip_deploy.targets.onnx.recipes import RECIPES
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import Attachment, Runner, TensorInfo, TowerJob

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from mobileclip_deploy.layouts import Layout
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.rounded import RoundedFile
    from mobileclip_deploy.targets.storage import Storage

__all__ = ["OnnxOptions", "OnnxTarget"]

DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16"}


@dataclass(frozen=True)
class OnnxOptions(TargetOptions):
    """`ort`: beside each file the same as .ort, the only format that small builds of ONNX Runtime read."""

    ort: bool = option("--ort", "Each file as .ort as well, for ONNX Runtime's small builds.", default=False)


class OnnxTarget(Target):
    name = "onnx"
    title = "ONNX"
    packages = ("onnx", "onnxruntime", "onnxscript")
    proven: ClassVar[Mapping[str, str]] = {"onnx": "1.23.2", "onnxruntime": "1.32.0", "onnxscript": "0.7.2"}
    extra = "onnx"
    suffixes = (".onnx",)
    order = 1
    runtime_package = "onnxruntime"
    runtime_modules = ("onnxruntime",)
    foreign_suffix = ".onnx"
    precisions = tuple(RECIPES)
    tables = ("w8", "w4")
    mixes = recoverable = absorbs_layer_scales = True
    Options = OnnxOptions
    options: OnnxOptions

    def storage(
        self, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
    ) -> Storage:
        from mobileclip_deploy.targets.onnx.storage import storage

        return storage(tower, module, precision, four_bit)

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return self._own.file(variant, artifact, precision)

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        name = self._own.artifact(tower).input.name
        if tower == "image":
            return TensorInfo(name, "float32", (0, *variant.image_input_shape), (0.0, 1.0), "RGB")
        return TensorInfo(name, "int64", (0, variant.tokens.context_length))

    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        name = self._own.artifact("classifier" if labels else tower).output.name
        if labels:
            return TensorInfo(name, "float32", (0, labels))
        return TensorInfo(name, "float32", (0, *variant.answer_shape), normalised=False)

    def input_types(self, tower: TowerName) -> tuple[str, ...]:
        return ("float32",) if tower == "image" else ("int64", "int32")

    def require_pictures(self) -> None:
        """It can."""

    def require_contexts(self) -> None:
        """It can: the second dimension of the ids is free."""

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

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.onnx.reading import load

        graph = load(path).graph
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise InvalidInput(f"{path}: {len(graph.input)} inputs and {len(graph.output)} outputs instead of one each")
        return _info(graph.input[0]), _info(graph.output[0])

    def operators(self, path: Path) -> dict[str, int]:
        from mobileclip_deploy.targets.onnx.reading import load

        counts: dict[str, int] = {}
        for node in load(path).graph.node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        return counts

    def contents(self, path: Path) -> dict[str, dict[str, int]]:
        """`operators` by type, and `weight_bytes` by type of number."""
        from onnx import TensorProto

        from mobileclip_deploy.targets.onnx.reading import load

        stored: dict[str, int] = {}
        for tensor in load(path).graph.initializer:
            dtype = TensorProto.DataType.Name(tensor.data_type).lower()
            stored[dtype] = stored.get(dtype, 0) + len(tensor.raw_data)
        ranked = dict(sorted(stored.items(), key=lambda item: (-item[1], item[0])))
        return {"operators": dict(sorted(self.operators(path).items())), "weight_bytes": ranked}

    def graph(self, path: Path) -> Graph:
        from mobileclip_deploy.targets.onnx.reading import read_graph

        return read_graph(path)

    def weights(self, path: Path) -> tuple[StoredWeight, ...]:
        from mobileclip_deploy.targets.onnx.stored import read_weights

        return read_weights(path)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.onnx.runner import OnnxRunner

        return OnnxRunner(path)

    def plain_runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.onnx.plain import plain_model
        from mobileclip_deploy.targets.onnx.runner import OnnxRunner

        return OnnxRunner(path, plain_model(path).SerializeToString(), as_written=True)

    def rounded(self, path: Path) -> RoundedFile:
        from mobileclip_deploy.targets.onnx.roundings import RoundedOnnx

        return RoundedOnnx(path)

    def write_companions(self, folder: Path, variant: Variant) -> None:
        """What clients of the default layout look for."""
        from mobileclip_deploy.layouts import write_side_files

        write_side_files(folder, self._own, variant)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.onnx.benchmarking import places

        return places(device)

    def session(self, path: Path, setup: SessionSetup) -> Session:
        from mobileclip_deploy.targets.onnx.benchmarking import OnnxSession

        return OnnxSession(path, setup)

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        from mobileclip_deploy.targets.onnx.benchmarking import declared

        return declared(path)


def _info(value) -> TensorInfo:  # type: ignore[no-untyped-def]
    tensor = value.type.tensor_type
    return TensorInfo(
        value.name,
        DTYPES.get(tensor.elem_type, f"type {tensor.elem_type}"),
        tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim),
    )
