"""The options of ONNX Runtime's sessions, and whether its int8 sums are exact on this processor without one of them.

x86 without VNNI adds two products of uint8 and int8 in 16 bits, where they saturate. `session.x64quantprecision` avoids
that at the price of speed (microsoft/onnxruntime#12088). With VNNI the sums are exact anyway: there S0's image tower at
`w8a8` took 0.90 of the time of float32 with the option, and 0.58 without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

PRECISE = ("session.x64quantprecision", "1")
SPINNING = ("session.intra_op.allow_spinning", "0")
SIDE = 64


def session_options(threads: int | None = None, entries: Iterable[tuple[str, str]] = ()) -> Any:
    """An `onnxruntime.SessionOptions` that logs errors alone.

    Args:
        threads: as many as the runtime chooses when None.
        entries: names and values of what ONNX Runtime has no attribute for.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    for name, value in entries:
        options.add_session_config_entry(name, value)
    return options


def as_run() -> tuple[tuple[str, str], ...]:
    """Entries of sessions that run artifacts: threads do not spin, which steals no core from what waits, and int8 sums
    are exact."""
    return (SPINNING, *exact_int8())


@cache
def exact_int8() -> tuple[tuple[str, str], ...]:
    """Session options, as names and values, without which int8 sums saturate here; none where they do not.

    Measured once per process: a product of the largest numbers of both types, which takes some milliseconds.
    """
    import onnxruntime

    largest = product(np.full((SIDE, SIDE), 127, np.int8))
    session = onnxruntime.InferenceSession(largest, session_options(1), providers=["CPUExecutionProvider"])
    sums = session.run(None, {"x": np.full((SIDE, SIDE), 255, np.uint8)})[0]  # int32 [64, 64]
    return () if np.all(sums == 255 * 127 * SIDE) else (PRECISE,)


def product(weight: npt.NDArray[np.float32] | npt.NDArray[np.int8]) -> bytes:
    """An ONNX model that multiplies `x` [N, K] by a constant weight [K, M]: float32 by float32, or uint8 by int8."""
    from onnx import TensorProto, helper, numpy_helper

    integers = weight.dtype == np.int8
    kind = "MatMulInteger" if integers else "MatMul"
    taken, given = (TensorProto.UINT8, TensorProto.INT32) if integers else (TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", taken, ("N", weight.shape[0]))],
        [helper.make_tensor_value_info("y", given, ("N", weight.shape[1]))],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    return bytes(model.SerializeToString())
