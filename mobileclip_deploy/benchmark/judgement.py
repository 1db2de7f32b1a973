"""Warnings about figures: conditions that a reader should know, each in one sentence."""

from collections.abc import Sequence

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import Result, RoundResult, Snapshot, Summary
from mobileclip_deploy.benchmark.statistics import LEAST_ROUNDS
from mobileclip_deploy.network.model.precision import PRECISIONS, is_precision
from mobileclip_deploy.parity import Bound, Gates

TREND = 1.1
WIDTH = 0.1
WAITING = 1.2
BUSY = 0.5
FEW = 100
SLOW_CLOCK = 0.9
"""Share of its highest clock below which a core counts as throttled, or as not yet sped up."""


ELSEWHERE = ("gpu", "npu", "webgpu", "vulkan", "qnn", "coreml", "mps")
"""Backends that compute on another device than the cores."""

# Multiplications and additions per nanosecond, far above any hardware. The fastest cores have tiles of int8: 2,048 of
# each per cycle (AMX), which is 10 per picosecond. Accelerators of phones and Macs are advertised with 40 to 80 TOP/s,
# one card of a data centre with 2,000.
CORE_OPERATIONS, DEVICE_OPERATIONS = 20_000, 5_000_000
# Nanoseconds of a call of a runtime before it computes anything: it looks up inputs, and acquires locks.
CALL = 100


def on_cores(cell: Cell) -> bool:
    """Returns True if a cell computes on the cores alone."""
    return cell.compute_units in (None, "cpuOnly") and cell.backend not in ELSEWHERE


def impossible(cell: Cell, summary: Summary, operations: int | None) -> tuple[str, ...]:
    """Returns a warning about times that are too short for any hardware: a device's clock or report is wrong.

    Args:
        operations: multiplications and additions of an inference; None if they are unknown.
    """
    rate = CORE_OPERATIONS * cell.threads if on_cores(cell) else DEVICE_OPERATIONS
    least = max((operations or 0) / rate, CALL)
    if summary.minimum_ns >= least:
        return ()
    work = f"{operations / 1e9:.2g} G operations" if operations else "a runtime call"
    times = f"a sample of {summary.minimum_ns} ns, where {work} take at least {least:,.0f}"
    return (f"impossible: {times}; these are not real latencies",)


def cell_warnings(cell: Cell, summary: Summary, rounds: Sequence[RoundResult]) -> tuple[str, ...]:
    """Returns warnings about a cell's figures."""
    notes = []
    trend = summary.last_over_first
    if trend is not None and trend > TREND:
        notes.append(f"trend: the last quarter took {trend:.2f} times as long as the first (throttling, or scheduling)")
    width = (summary.median_interval_ns.high - summary.median_interval_ns.low) / summary.median_ns
    if width > WIDTH:
        notes.append(f"uncertain: the interval of the median is {100 * width:.0f}% wide")
    if summary.samples < FEW:
        notes.append(f"few samples: {summary.samples}")
    timed = sum(bool(item.samples_ns) for item in rounds)
    if timed < LEAST_ROUNDS:
        notes.append(f"few rounds: the interval of the median is of {timed}, and {LEAST_ROUNDS} are needed for 95%")
    on_cpu = cell.compute_units in (None, "cpuOnly")  # with other units the CPU has to wait
    if summary.cpu_ns and on_cpu and cell.threads == 1 and summary.mean_ns > WAITING * summary.cpu_ns:
        notes.append(
            f"waited: took {summary.mean_ns / summary.cpu_ns:.2f} times its CPU time (the core had other work)"
        )
    states = {item.thermal_state for item in rounds} & {"serious", "critical"}
    if states:
        names = " and ".join(sorted(str(state) for state in states))
        notes.append(f"throttled: thermal state {names} during its rounds")
    if cell.golden is None:
        notes.append("answers not checked: no golden outputs to compare with")
    return (*notes, *_own_gate(cell))


def _own_gate(cell: Cell) -> tuple[str, ...]:
    """Returns a warning if a bundle's answers were judged by a gate that its export replaced. The gate of a place with
    a precision of its own is that precision's, and needs no warning."""
    if cell.gate is None or cell.competitor or cell.precision is None or not is_precision(cell.precision):
        return ()
    bound = Bound(cell.gate.metric, cell.gate.bound, cell.gate.snr_db)
    usual = Gates().shipped(cell.precision, probabilities=bound.metric == "probabilities")
    if bound in (usual, *map(Gates().shipped, PRECISIONS)):
        return ()
    looser = bound.value < usual.value if bound.metric == "cosine" else bound.value > usual.value
    if looser or (bound.snr_db or 0) < (usual.snr_db or 0):
        return (f"loosened gate: answers had to meet {bound} by the bundle's own gates; the default is {usual}",)
    return (f"own gate: answers had to meet {bound} by the bundle's own gates; the default is {usual}",)


def marked(finished: RoundResult, pinned: Sequence[int], fixed: bool | None = None) -> RoundResult:
    """Returns a round with warnings about its cores. Repeating the call changes nothing.

    Args:
        pinned: the cores that the harness meant to run on; none: any.
        fixed: True if the run requested the phone's fixed performance mode, which limits its clocks.
    """
    notes, used = [], finished.cores
    kinds = sorted({core.maximum_khz for core in used if core.maximum_khz})
    if len(kinds) > 1:
        notes.append(f"mixed cores: ran on {len(kinds)} kinds, of {' and '.join(_gigahertz(khz) for khz in kinds)}")
    astray = [str(core.core) for core in used if pinned and core.core not in pinned]
    if astray:
        notes.append(f"not pinned: ran on core {', '.join(astray)}, and should have on {', '.join(map(str, pinned))}")
    for core in used:
        if core.maximum_khz and core.allowed_khz and core.allowed_khz < core.maximum_khz:
            clocks = f"{_gigahertz(core.allowed_khz)} of {_gigahertz(core.maximum_khz)}"
            notes.append(
                f"capped: core {core.core} was allowed {clocks} in the requested fixed performance mode"
                if fixed
                else f"throttled: core {core.core} was allowed {clocks}"
            )
        elif core.maximum_khz and core.running_khz and core.running_khz < SLOW_CLOCK * core.maximum_khz:
            clocks = f"{_gigahertz(core.running_khz)} of {_gigahertz(core.maximum_khz)}"
            notes.append(f"slow clock: core {core.core} ran at {clocks}")
    return finished.model_copy(update={"warnings": tuple(dict.fromkeys((*finished.warnings, *notes)))})


def _gigahertz(khz: int) -> str:
    return f"{khz / 1e6:.1f} GHz"


def run_warnings(result: Result) -> tuple[str, ...]:
    """Returns warnings about a run's figures as a whole."""
    warnings = [f"left out: {text}" for text in result.left_out]
    if result.device.simulated:
        warnings.append("SIMULATED: a stand-in replaced the device; these are not real latencies")
    if result.self_reported:
        warnings.append(
            "self-reported: the device measured without this computer, and its answers were not checked here"
        )
    if rental := result.device.rental:
        phone = f"{rental.model} of {rental.provider} on {rental.date}"
        warnings.append(f"rented: {phone}; another phone of the model may differ")
    if result.device.is_android and result.harness.c_library == "glibc":
        warnings.append(
            "glibc: measured by the ready runners, on Linux builds of the runtimes, but an app uses Android's; compare "
            "it only with other glibc results"
        )
    browser = result.device.browser
    if browser is not None:
        warnings.append("browser: compare it only with results of browsers, not of native runtimes")
        if browser.adapter_is_software and any(cell.backend == "webgpu" for cell in result.job.cells):
            warnings.append(f"software GPU: the CPU emulates {browser.adapter}; not a real WebGPU latency")
        if not browser.isolated:
            warnings.append("not isolated: the page had one thread and a coarse clock")
    if result.job.protocol.name.endswith("-quick"):
        warnings.append("quick: a smoke test of few inferences; not to be quoted")
    before, after = result.environment.before, result.environment.after
    if after is None:
        warnings.append("interrupted: the run is not complete")
    for when, snapshot in (("before", before), ("after", after)):
        if snapshot is not None:
            warnings += [f"{text} {when} the run" for text in _conditions(snapshot)]
    load = before.load_average_1min
    if load is not None and load > BUSY * result.device.cores:
        warnings.append(f"busy: load average {load:.1f} on {result.device.cores} cores before; compare ratios only")
    odd = [cell.id for cell in result.cells if any(text.startswith("impossible:") for text in cell.warnings)]
    if odd:
        warnings.append(f"impossible: samples below the possible minimum, not real latencies: {', '.join(odd)}")
    wrong = [cell.id for cell in result.cells if cell.status == "invalid"]
    if wrong:
        warnings.append(f"wrong answers, no latency: {', '.join(wrong)}")
    return tuple(warnings)


def _conditions(snapshot: Snapshot) -> list[str]:
    conditions = []
    if snapshot.thermal_state in ("serious", "critical"):
        conditions.append(f"throttled: thermal state {snapshot.thermal_state}")
    if snapshot.low_power_mode:
        conditions.append("low-power mode on")
    if snapshot.battery_percent is not None and snapshot.battery_percent < 20:
        conditions.append(f"battery at {snapshot.battery_percent:.0f}%")
    if snapshot.governor is not None and snapshot.governor in ("powersave", "conservative"):
        conditions.append(f"CPU governor {snapshot.governor}")
    return conditions
