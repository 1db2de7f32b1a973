"""Time by operator: a .pte is run with event tracing, and what it wrote (an ETDump) is added up by kind of operator."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.targets.executorch.native_output import hold_back
from mobileclip_deploy.targets.executorch.program_file import read_program
from mobileclip_deploy.targets.quiet import quiet

__all__ = ["OperatorTime", "profile"]

WARM_UP = 2
WHOLE = "Method::execute"
REST = "between operators"
# Each spans operators that are reported on their own: they would be counted twice.
SPANS = {WHOLE, "DELEGATE_CALL"}
# What the interpreter adds around an operator outside of a delegate, named by the event before it.
CALL = "OPERATOR_CALL"


@dataclass(frozen=True)
class OperatorTime:
    """One kind of operator in one inference: how often, milliseconds of wall time, and its share of the inference."""

    operator: str
    calls: int
    ms: float
    share: float


def profile(
    path: Path, inputs: npt.NDArray[np.generic], *, runs: int = 20, threads: int = 1
) -> tuple[OperatorTime, ...]:
    """Run a .pte and say where the time goes, the most expensive first; the shares add up to 1.

    Operators are named by their kernels, as XNNPACK names them ("Convolution (NHWC, F32) DWConv"), or by their ATen
    name outside of delegates. Times are medians over the runs, of whole microseconds an operator (no trace is finer);
    tracing itself costs some, so that an inference takes a little longer than without.

    Args:
        inputs: one input of the tower, [1, ...].
        runs: inferences that are counted, after two that are not.
        threads: of the runtime's pool.

    Raises:
        InvalidInput: the file is damaged, or the input is of another shape.
        NotRun: the runtime was built without one of the file's backends, or without event tracing.
        RuntimeFailed: it failed.
    """
    program = read_program(path)
    if inputs.shape != (1, *program.inputs[0].shape[1:]):
        wanted = ", ".join(str(size) for size in program.inputs[0].shape[1:])
        raise InvalidInput(f"input of shape {list(inputs.shape)}; a profile is taken on one, [1, {wanted}]")
    with quiet(), hold_back(), tempfile.TemporaryDirectory(prefix="mobileclip-profile-") as folder:
        dump = Path(folder) / "trace.etdp"
        _trace(path, torch.from_numpy(np.ascontiguousarray(inputs)), WARM_UP + runs, threads, dump)
        return _added_up(dump)


def _trace(path: Path, row: torch.Tensor, times: int, threads: int, dump: Path) -> None:
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    runtime = Runtime.get()
    available = runtime.backend_registry.registered_backend_names
    missing = [name for name in read_program(path).backends if name not in available]
    if missing:
        raise NotRun(f"needs {', '.join(missing)}; this build of ExecuTorch has {', '.join(sorted(available))}")
    portable_lib._unsafe_reset_threadpool(threads)
    try:
        program = runtime.load_program(path, enable_etdump=True)
        method = program.load_method("forward")
        assert method is not None
        for _ in range(times):
            method.execute([row])
        program.write_etdump_result_to_file(str(dump), str(dump.with_suffix(".bin")))
    except RuntimeError as error:
        raise RuntimeFailed(f"ExecuTorch failed while it was traced: {str(error).splitlines()[0]}") from error
    if not dump.is_file() or not dump.stat().st_size:
        raise NotRun("this build of ExecuTorch traces no events")


def _added_up(dump: Path) -> tuple[OperatorTime, ...]:
    from executorch.devtools import Inspector

    blocks = Inspector(etdump_path=str(dump)).event_blocks
    events = [event for block in blocks if block.name == "Execute" for event in block.events if event.perf_data]
    whole = next((_median(event.perf_data.raw) for event in events if event.name == WHOLE), 0.0)
    if whole <= 0:
        raise NotRun("the trace holds no inference; this build of ExecuTorch writes another format")
    times: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in events:
        if event.name in SPANS or event.name == CALL:
            continue
        name = event.name.rpartition(" #")[0] or event.name.removeprefix("native_call_")
        times[name] += _median(event.perf_data.raw)
        calls[name] += 1
    times[REST], calls[REST] = max(0.0, whole - sum(times.values())), 1
    total = sum(times.values())
    rows = (OperatorTime(name, calls[name], ms, ms / total) for name, ms in times.items())
    return tuple(sorted(rows, key=lambda row: (-row.ms, row.operator)))


def _median(milliseconds: list[float]) -> float:
    # Not the mean: where the machine does other work, an operator is now and then interrupted for many times its own.
    return statistics.median(milliseconds[WARM_UP:] or milliseconds)
