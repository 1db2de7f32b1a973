"""Operator times from ExecuTorch: a .pte is run with event tracing, and its ETDump is added up by kind of operator."""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.benchmarking import KernelTime, by_work
from mobileclip_deploy.targets.foreign.executorch import import_exir

if TYPE_CHECKING:
    from torch import Tensor

WARM_UP, COUNTED = 2, 20
WHOLE = "Method::execute"
REST = "between operators"
# Each spans operators that are events of their own: they would be counted twice.
SPANS = (WHOLE, "DELEGATE_CALL", "OPERATOR_CALL")


def operator_times(path: Path, row: Tensor) -> tuple[KernelTime, ...]:
    """Run a .pte on one input and say where the time goes, the most expensive first.

    Operators are named by their kernels, as XNNPACK names them ("Convolution (NHWC, F32) DWConv"), outside of delegates
    by their ATen names; `REST` is what an inference takes beside them. Times are sums of each event's median: where the
    machine does other work, an operator is now and then interrupted for many times its own time. Delegates trace whole
    microseconds, so that the small ones read as nothing.

    Raises:
        NotRun: this build of the runtime traces no events.
    """
    with temporary_folder() as folder:
        dump = folder / "trace.etdp"
        _trace(path, row, dump)
        if not dump.is_file() or not dump.stat().st_size:
            raise NotRun("this build of ExecuTorch traces no events")
        return _added_up(dump)


def _trace(path: Path, row: Tensor, dump: Path) -> None:
    from mobileclip_deploy.targets.executorch.bindings import runtime

    program = runtime.Runtime.get().load_program(path, enable_etdump=True)
    method = program.load_method("forward")
    assert method is not None
    for _ in range(WARM_UP + COUNTED):
        method.execute([row])
    program.write_etdump_result_to_file(str(dump), str(dump.with_suffix(".bin")))


def _added_up(dump: Path) -> tuple[KernelTime, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tensors were not recorded
        import_exir()
        from executorch.devtools import Inspector

        blocks = Inspector(etdump_path=str(dump)).event_blocks
    events = [event for block in blocks if block.name == "Execute" for event in block.events if event.perf_data]
    whole = sum(_nanoseconds(event.perf_data.raw) for event in events if event.name == WHOLE)
    if whole <= 0:
        raise NotRun("the trace of this build of ExecuTorch holds no inference")
    # A delegate numbers its operators: "GELU (NC) #3".
    calls = [
        (event.name.partition(" #")[0].removeprefix("native_call_"), _nanoseconds(event.perf_data.raw), None)
        for event in events
        if event.name not in SPANS
    ]
    return by_work([*calls, (REST, max(0, whole - sum(spent for _, spent, _ in calls)), None)])


def _nanoseconds(milliseconds: list[float]) -> int:
    return round(statistics.median(milliseconds[WARM_UP:]) * 1e6)
