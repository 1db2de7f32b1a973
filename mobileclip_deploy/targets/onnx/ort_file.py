"""Optional .ort file next to an ONNX file: ONNX Runtime's own format, for its builds without an ONNX parser."""

from pathlib import Path

import numpy as np
import onnx

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import ExportError, InvalidInput, first_sentence
from mobileclip_deploy.targets.artifact import Attached
from mobileclip_deploy.targets.flatbuffer import root
from mobileclip_deploy.targets.graph import Graph, first_difference
from mobileclip_deploy.targets.onnx.int8_sums import session_options
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.runner import OnnxRunner
from mobileclip_deploy.targets.values import Expected

IDENTIFIER = b"ORTM"


class OrtFile(Attached):
    """A .ort file, valid if its operations and constants equal those of one written from the artifact now."""

    def write(self, artifact: Path, expected: Expected) -> None:
        """Writes the file with optimizations for any processor, and compares its answers with the checkpoint's."""
        _as_ort(artifact, self.path)
        largest = float(np.abs(self.runner()(expected.inputs) - expected.outputs).max())
        if not largest <= expected.tolerance:
            detail = f"a value differs by {largest:.3g}, more than {expected.tolerance:.3g}"
            raise ExportError(f"{self.path.name} gives other answers: {detail}")

    def runner(self) -> OnnxRunner:
        return OnnxRunner(self.path)

    def difference(self, artifact: Path) -> str | None:
        with temporary_folder() as folder:
            fresh = folder / self.path.name
            _as_ort(artifact, fresh)
            # The runtime orders the same tables differently each time, so bytes cannot be compared.
            difference = first_difference(_graph(self.path), _graph(fresh))
        return None if difference is None else difference.describe()


def _as_ort(source: Path, path: Path) -> None:
    try:
        # Higher levels choose kernels by this machine's processor.
        _rewritten(source, path, "ORT", "ORT_ENABLE_BASIC")
    except Exception as error:  # the runtime's own exceptions have no common base
        raise ExportError(f"ONNX Runtime cannot write {path.name}: {first_sentence(error)}") from error


def _graph(path: Path) -> Graph:
    """Returns the graph of a .ort file: ONNX Runtime reads the file and writes it as ONNX."""
    with temporary_folder() as folder:
        converted = folder / f"{path.stem}.onnx"
        try:
            root(path.read_bytes(), IDENTIFIER)  # the runtime reads ONNX under this name, too; small builds do not
            _rewritten(path, converted, "ONNX", "ORT_DISABLE_ALL")
        except Exception as error:
            raise InvalidInput(f"{path} is not a readable .ort file: {first_sentence(error)}") from error
        model = onnx.load(converted)
        _name(model.graph, path.stem)
        onnx.save(model, converted)
        return OnnxArtifact(converted).graph


def _name(graph: onnx.GraphProto, name: str) -> None:
    """Names a graph and its subgraphs: a .ort file has no names, and an ONNX file requires them."""
    graph.name = name
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        if attribute.type == onnx.AttributeProto.GRAPH:
            _name(attribute.g, f"{name}_{attribute.name}")


def _rewritten(source: Path, path: Path, form: str, level: str) -> None:
    import onnxruntime

    options = session_options(entries=[("session.save_model_format", form)])
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
