"""An ONNX file as .ort, ONNX Runtime's own format: what its builds for apps without an ONNX parser read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import ExportError, first_sentence
from mobileclip_deploy.targets.int8_sums import session_options
from mobileclip_deploy.targets.onnx.runner import OnnxRunner

__all__ = ["write_ort"]


def write_ort(
    artifact: Path, inputs: npt.NDArray[np.generic], expected: npt.NDArray[np.float32], tolerance: float
) -> Path:
    """Write NAME.ort beside NAME.onnx, optimized as any processor can run it, and hold its answers to the checkpoint's.

    Args:
        expected: what the checkpoint answers to the inputs.
        tolerance: by how much one value may differ.

    Raises:
        ExportError: ONNX Runtime refused it, or it answers otherwise.
    """
    import onnxruntime

    path = artifact.with_suffix(".ort")
    options = session_options(entries=[("session.save_model_format", "ORT")])
    # Higher levels choose kernels by this machine's processor.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    try:
        onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions have no common base
        raise ExportError(f"ONNX Runtime cannot write {path.name}: {first_sentence(error)}") from error
    found = OnnxRunner(path)(inputs)
    largest = float(np.abs(found - expected).max())
    if not largest <= tolerance:
        raise ExportError(f"{path.name} answers otherwise: a value differs by {largest:.3g}, more than {tolerance:.3g}")
    return path
