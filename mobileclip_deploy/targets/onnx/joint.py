"""CLIP's joint ONNX file: both towers, embeddings of length 1 and logits. Zero-shot pipelines load it as model.onnx."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import ExportError, InvalidInput, wrapping_runtime_errors
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.runner import OnnxSession, open_session

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName

LARGEST = 2**31 - 1
"""Limit of a protobuf message, in bytes."""
LOGITS = ("logits_per_image", "logits_per_text")


def write_joint(towers: Mapping[TowerName, Path], path: Path, scale: float) -> None:
    """Writes one file of an image and a text tower. The names of its values are those of the tower, after `image/` or
    `text/`; inputs and outputs have CLIP's names.

    Args:
        towers: file of each tower.
        scale: factor of a cosine in a logit.

    Raises:
        ExportError: both towers together are too large for one file.
    """
    if (size := sum(file.stat().st_size for file in towers.values())) > LARGEST - 10_000:
        raise ExportError(f"{path.name} would have {size:,} bytes, more than an ONNX file can; leave `joint` out")
    joint = onnx.ModelProto()
    for tower, file in towers.items():
        model = onnx.load(file)
        _rename(model.graph, lambda name, before=f"{tower}/": before + name)  # type: ignore[misc]
        for value in (*model.graph.input, *model.graph.output):
            batch = value.type.tensor_type.shape.dim[0]
            batch.dim_param = f"{tower}_{batch.dim_param}"
        model.graph.name = model.graph.name.removesuffix(f"_{tower}")
        opsets = {entry.domain: entry.version for entry in (*joint.opset_import, *model.opset_import)}
        facts = {entry.key: entry.value for entry in model.metadata_props if entry.key != "tower"}
        joint.MergeFrom(model)  # joins lists
        del joint.opset_import[:]
        joint.opset_import.extend(helper.make_opsetid(*item) for item in opsets.items())
        helper.set_model_props(joint, facts)
    _finish(joint.graph, scale)
    path.write_bytes(joint.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def _rename(graph: onnx.GraphProto, renamed: Callable[[str], str]) -> None:
    """Renames all values of a tower but its inputs."""
    inputs = {"", *(value.name for value in graph.input)}
    for node in graph.node:
        node.input[:] = [name if name in inputs else renamed(name) for name in node.input]
        node.output[:] = [renamed(name) if name else "" for name in node.output]
        if node.name:
            node.name = renamed(node.name)
    for item in (*graph.initializer, *graph.output):
        item.name = renamed(item.name)


def _finish(graph: onnx.GraphProto, scale: float) -> None:
    """Adds lengths of 1 and logits after the towers. Operators are the same from opset 13 to 20."""
    embeddings = list(graph.output)
    last, factor = numpy_helper.from_array(np.array([-1]), "joint_axis"), np.array(scale, np.float32)
    graph.initializer.extend((last, numpy_helper.from_array(factor, "joint_scale")))
    for value in embeddings:
        inside, name = value.name, value.name.partition("/")[2]
        graph.node.extend(
            (
                helper.make_node("Mul", [inside, inside], [f"{name}_squares"]),
                helper.make_node("ReduceSum", [f"{name}_squares", last.name], [f"{name}_sum"], keepdims=1),
                helper.make_node("Sqrt", [f"{name}_sum"], [f"{name}_length"]),
                helper.make_node("Div", [inside, f"{name}_length"], [name]),
            )
        )
        value.name = name
    image, text = (value.name for value in embeddings)
    graph.node.extend(
        (
            helper.make_node("Transpose", [text], ["joint_texts"], perm=[1, 0]),
            helper.make_node("MatMul", [image, "joint_texts"], ["joint_cosines"]),
            helper.make_node("Mul", ["joint_cosines", "joint_scale"], [LOGITS[0]]),
            helper.make_node("Transpose", [LOGITS[0]], [LOGITS[1]], perm=[1, 0]),
        )
    )
    sizes = [value.type.tensor_type.shape.dim[0].dim_param for value in embeddings]
    shapes = zip(LOGITS, (sizes, sizes[::-1]), strict=True)
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes)


def joint_answers(
    path: Path, images: npt.NDArray[np.generic], ids: npt.NDArray[np.generic]
) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    """Runs a joint file. Returns its outputs by name, and the engine.

    Raises:
        RuntimeFailed: ONNX Runtime refused the file.
    """
    import onnxruntime

    with wrapping_runtime_errors(f"ONNX Runtime cannot run {path}"):
        session: Any = open_session(path)
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(names, {"pixel_values": images.astype(np.float32), "input_ids": ids.astype(np.int64)})
    return dict(zip(names, outputs, strict=True)), f"ONNX Runtime {onnxruntime.__version__} (CPU)"


class JointTower(OnnxArtifact):
    """A tower in a joint file. It is opened as the file that the tower had before both were joined."""

    has_functions = True

    @cached_property
    def file(self) -> Path:
        stack = ExitStack()
        file = stack.enter_context(temporary_folder()) / f"{self.function}.onnx"
        weakref.finalize(self, stack.close)
        file.write_bytes(self._tower().SerializeToString(deterministic=True))
        return file

    def session(self, setup: SessionSetup) -> Session:
        return OnnxSession(self.file, setup)

    def _tower(self) -> onnx.ModelProto:
        model, before = OnnxArtifact(self.path).model, f"{self.function}/"
        graph = model.graph
        nodes = [node for node in graph.node if any(name.startswith(before) for name in node.output)]
        weights = [item for item in graph.initializer if item.name.startswith(before)]
        taken, computed = ({name for node in nodes for name in getattr(node, side)} for side in ("input", "output"))
        inputs = [value for value in graph.input if value.name in taken]
        outputs = [value for value in graph.output if before + value.name in computed]
        if len(inputs) != 1 or len(outputs) != 1:
            raise InvalidInput(f"{self.path} has no {self.function} tower; export it again with `joint`")
        for value in (*inputs, *outputs):
            batch = value.type.tensor_type.shape.dim[0]
            batch.dim_param = batch.dim_param.removeprefix(f"{self.function}_")
        name = f"{graph.name}_{self.function}"
        parts = {"node": nodes, "initializer": weights, "input": inputs, "output": outputs}
        graph.CopyFrom(onnx.GraphProto(name=name, doc_string=graph.doc_string, **parts))
        for value in graph.output:
            value.name = before + value.name
        _rename(graph, lambda name: name.removeprefix(before))
        model.metadata_props.add(key="tower", value=str(self.function))
        return model
