"""The limit of this machine, measured by a short probe: products of two large matrices, and copies of memory.

    python -m mobileclip_deploy.benchmark.host.peak THREADS

A process of its own, as every cell has one, just before the first round: on the same cores in the same run.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable

import numpy as np

from mobileclip_deploy.benchmark.result import Peak
from mobileclip_deploy.targets.int8_sums import as_run, product, session_options

SIDE = 1024
REPEATS = 5
COPIED = 64 << 20
"""Bytes: more than the last cache of most processors has."""
CACHED, COPIES = 128 << 10, 64
"""Bytes that, with their copy, the second cache of most processors holds; copied so often in one measurement."""


def measure_peak(threads: int) -> Peak:
    """What a product of two 1024 x 1024 matrices reaches in float32 and in int8 (uint8 by int8, as activations by
    weights), in ONNX Runtime where it is installed, else in torch and in float32 alone; and what a copy
    reaches in memory, and at one thread within a cache.

    The fastest of five, by CPU time at one thread and by the clock at several.
    """
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    integers = None
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        import onnxruntime

        engine = f"onnxruntime {onnxruntime.__version__}"
        floats = _rate(_onnx_product("MatMul", threads), clock)
        integers = _rate(_onnx_product("MatMulInteger", threads), clock)
    else:
        import torch

        engine = f"torch {torch.__version__}"
        torch.set_num_threads(threads)
        left, right = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
        floats = _rate(lambda: torch.mm(left, right), clock)
    return Peak(
        engine=engine,
        threads=threads,
        float32_operations_per_second=floats,
        int8_operations_per_second=integers,
        copied_bytes_per_second=_copied(COPIED, 1, clock),
        cached_bytes_per_second=_copied(CACHED, COPIES, clock) if threads == 1 else None,
    )


def _rate(product: Callable[[], object], clock: Callable[[], int]) -> float:
    """Multiplications and additions a second."""
    return 2 * SIDE**3 / _fastest(product, clock)


def _copied(size: int, times: int, clock: Callable[[], int]) -> float:
    """Bytes a second that copies of `size` bytes read and write. One thread copies, whatever the products have."""
    source, destination = np.ones(size, np.uint8), np.empty(size, np.uint8)

    def copy() -> None:
        for _ in range(times):
            np.copyto(destination, source)

    return 2 * size * times / _fastest(copy, clock)


def _fastest(work: Callable[[], object], clock: Callable[[], int]) -> float:
    """Seconds, the least of several, after one that does not count."""
    work()
    found = []
    for _ in range(REPEATS):
        started = clock()
        work()
        found.append(clock() - started)
    return max(min(found), 1) / 1e9


def _onnx_product(kind: str, threads: int) -> Callable[[], object]:
    """One product in ONNX Runtime, the right matrix constant, as weights are."""
    import onnxruntime

    random = np.random.default_rng(0)
    left, right = random.random((2, SIDE, SIDE), np.float32)
    if kind == "MatMulInteger":
        left, right = (left * 255).astype(np.uint8), (right * 255 - 128).astype(np.int8)
    options = session_options(threads, as_run())
    session = onnxruntime.InferenceSession(product(right), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": left})


if __name__ == "__main__":
    print(measure_peak(int(sys.argv[1])).model_dump_json())
