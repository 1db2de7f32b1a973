"""Options of ONNX Runtime's sessions, and a test whether int8 sums are exact on this processor by default.

x86 without VNNI adds two products of uint8 and int8 in 16 bits, where they saturate. `session.x64quantprecision` avoids
that, but is slower (microsoft/onnxruntime#12088). With VNNI the sums are exact anyway: there S0's image tower at `w8a8`
took 0.90 of the time of float32 with the option, and 0.58 without it.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PRECISE = ("session.x64quantprecision", "1")
SPINNING = ("session.intra_op.allow_spinning", "0")
SIDE = 64
LARGEST = Path(__file__).with_name("int8_product.onnx")
"""`product` of a weight [64, 64] of 127: the package onnx makes it, and runners do without."""


def session_options(threads: int | None = None, entries: Iterable[tuple[str, str]] = ()) -> Any:
    """Returns an `onnxruntime.SessionOptions` that logs errors only.

    Args:
        threads: number of threads; None for the runtime's choice.
        entries: names and values of settings for which ONNX Runtime has no attribute.
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
    """Returns the entries of sessions that run artifacts: exact int8 sums, and waiting threads that do not spin and so
    block no core."""
    return (SPINNING, *exact_int8())


@cache
def exact_int8() -> tuple[tuple[str, str], ...]:
    """Returns the session entries, as names and values, without which int8 sums saturate here. Empty if they are exact.

    Measured once per process: a product of the largest values of both types, which takes some milliseconds.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(LARGEST.read_bytes(), session_options(1), providers=["CPUExecutionProvider"])
    sums = session.run(None, {"x": np.full((SIDE, SIDE), 255, np.uint8)})[0]  # int32 [64, 64]
    return () if np.all(sums == 255 * 127 * SIDE) else (PRECISE,)


def product(weight: npt.NDArray[np.float32] | npt.NDArray[np.int8]) -> bytes:
    """Returns an ONNX model that multiplies `x` [N, K] by a constant weight [K, M]: float32 by float32, or uint8 by
    int8."""
    from onnx import numpy_helper, parser

    integers, (rows, columns) = weight.dtype == np.int8, weight.shape
    kind, input_type, result_type = ("MatMulInteger", "uint8", "int32") if integers else ("MatMul", "float", "float")
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        product ({input_type}[N,{rows}] x) => ({result_type}[N,{columns}] y) {{ y = {kind}(x, weight) }}
    """)
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return bytes(model.SerializeToString())
