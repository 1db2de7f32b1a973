"""An ONNX file as .ort, ONNX Runtime's own format: what its builds for apps without an ONNX parser read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from mobileclip_deploy.errors import ExportError, InvalidInput, first_sentence
from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.attached import Attached, Origin
from mobileclip_deploy.targets.flatbuffer import root
from mobileclip_deploy.targets.graph import Graph, first_difference
from mobileclip_deploy.targets.int8_sums import session_options
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.runner import OnnxRunner
from mobileclip_deploy.targets.values import Expected

__all__ = ["OrtFile", "write_ort"]

IDENTIFIER = b"ORTM"


def write_ort(artifact: Path, expected: Expected) -> Path:
    """Write NAME.ort beside NAME.onnx, optimized as any processor can run it, and hold its answers to the checkpoint's.

    Raises:
        ExportError: ONNX Runtime refused it, or it answers otherwise.
    """
    path = artifact.with_suffix(".ort")
    _as_ort(artifact, path)
    found = OnnxRunner(path)(expected.inputs)
    largest = float(np.abs(found - expected.outputs).max())
    if not largest <= expected.tolerance:
        bound = f"{expected.tolerance:.3g}"
        raise ExportError(f"{path.name} answers otherwise: a value differs by {largest:.3g}, more than {bound}")
    return path


class OrtFile(Attached):
    """A .ort file: the same operations and constants as one that is written of the artifact now."""

    def runner(self) -> OnnxRunner:
        return OnnxRunner(self.path)

    def difference(self, origin: Origin) -> str | None:
        fresh = origin.folder / self.path.name
        _as_ort(origin.artifact, fresh)
        # The runtime lays the same tables out in another order each time: bytes say nothing.
        found = first_difference(_graph(self.path), _graph(fresh))
        return None if found is None else found.describe()


def _as_ort(source: Path, path: Path) -> None:
    try:
        # Higher levels choose kernels by this machine's processor.
        _rewritten(source, path, "ORT", "ORT_ENABLE_BASIC")
    except Exception as error:  # the runtime's own exceptions have no common base
        raise ExportError(f"ONNX Runtime cannot write {path.name}: {first_sentence(error)}") from error


def _graph(path: Path) -> Graph:
    """What a .ort file computes: ONNX Runtime writes what it has read as ONNX.

    Raises:
        InvalidInput: it is damaged.
    """
    with temporary_folder() as folder:
        told = folder / f"{path.stem}.onnx"
        try:
            root(path.read_bytes(), IDENTIFIER)  # the runtime reads ONNX under this name, too; small builds do not
            _rewritten(path, told, "ONNX", "ORT_DISABLE_ALL")
        except Exception as error:
            raise InvalidInput(f"{path} is not a readable .ort file: {first_sentence(error)}") from error
        model = onnx.load(told)
        model.graph.name = path.stem  # which an .ort file has not, and an ONNX file must
        onnx.save(model, told)
        return OnnxArtifact(told).graph


def _rewritten(source: Path, path: Path, form: str, level: str) -> None:
    import onnxruntime

    options = session_options(entries=[("session.save_model_format", form)])
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
