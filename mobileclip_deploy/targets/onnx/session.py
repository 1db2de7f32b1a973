"""ONNX Runtime sessions on the host's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["open_session"]


def open_session(source: Path | bytes, threads: int | None = None, *, as_written: bool = False) -> Any:
    """An `onnxruntime.InferenceSession`; spinning is off, so that it steals no core from what waits.

    Args:
        source: a file, or what stands in one.
        threads: as many as the runtime chooses when None.
        as_written: run node by node, none fused with others.

    Raises:
        Exception: whatever the runtime raises; its exceptions have no common base.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
