"""The result: measurements of a device, with the job that it was given. docs/measuring.md explains each field."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Base64Bytes, Field, model_validator

from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.benchmark.job import Cell, Count, Former, Frozen, Identifier, Job, Positive, Turn
from mobileclip_deploy.errors import GateFailed, MobileClipDeployError, RuntimeFailed

ThermalState = Literal["nominal", "fair", "serious", "critical"]


class Browser(Frozen):
    """A browser, as its page reported it. Unless `secure` and `isolated` are both true, it has one thread and a coarser
    clock.

    `clock_step_ns`: the smallest step of its clock. `adapter`: WebGPU's; None if there is none. `adapter_is_software`:
    a processor emulates the GPU. `memory_gib`: rounded by the browser, 8 at most.
    """

    name: Name
    version: Name
    engine: Name
    user_agent: Prose
    secure: bool
    isolated: bool
    clock_step_ns: Annotated[Count, Field(ge=1)]
    cores: Annotated[Count, Field(ge=1)]
    memory_gib: float | None = None
    adapter: Name | None = None
    adapter_is_software: bool | None = None
    shader_f16: bool | None = None


class Rental(Frozen):
    """Provider, model, date and session of a rented phone. `model`: identifier in the provider's catalog."""

    provider: Literal["Google Developer Device Platform"]
    model: Identifier
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    session: Identifier


class Device(Frozen):
    """Device of the measurements. `simulated`: a simulation answered, so the figures are not latencies of any device.

    `browser`: for the kind browser only; the other fields then describe this machine, as far as the browser reports it.
    `instructions`: of a host, the instruction sets that decide the speed of multiplications, by Linux's names
    (`avx512_vnni`). `rental`: for the kind ddp only, a rented Android phone; the other fields are its own properties.
    """

    kind: Literal["host", "android", "ios", "mac", "browser", "ddp"]
    simulated: bool
    name: Name
    model: Name
    soc: Name | None = None
    architecture: Name
    os: Name
    os_version: Name
    build: Name | None = None
    cores: Annotated[Count, Field(ge=1)]
    core_maximum_khz: Annotated[tuple[Count, ...], Field(fail_fast=True)] = ()
    memory_bytes: Count | None = None
    browser: Browser | None = None
    instructions: Annotated[tuple[Name, ...], Field(fail_fast=True)] = ()
    rental: Rental | None = None

    @model_validator(mode="after")
    def _identified(self) -> Device:
        if (self.kind == "ddp") != (self.rental is not None):
            raise ValueError("a device of the kind ddp has a rental, and no other")
        if self.rental and not self.simulated and (self.build is None or "unknown" in (self.model, self.os_version)):
            raise ValueError("a rented phone without properties of its own may be simulated")
        return self

    @property
    def is_android(self) -> bool:
        """True for Android phones, rented or not."""
        return self.kind in ("android", "ddp")


class Harness(Frozen):
    """Program that measured. `affinity`: the cores it was pinned to; empty means any. `quality_of_service`: Apple's
    term.

    `c_library`: its C library, `glibc` or `bionic` (Android's own); None if the system has only one.
    """

    name: Name
    version: Name
    build: Name | None = None
    affinity: Annotated[tuple[Count, ...], Field(fail_fast=True)] = ()
    quality_of_service: Name | None = None
    c_library: Literal["glibc", "bionic"] | None = None

    @classmethod
    def own(cls, kind: str) -> Harness:
        """Returns the entry of this package, for a kind of device."""
        return cls(name=f"mobileclip_deploy.benchmark.{kind}", version=metadata.version("mobileclip-deploy"))


Milliwatts = Annotated[float, Field(ge=0, lt=1e6)]


class Snapshot(Frozen):
    """State of the device at one moment; None for values that cannot be read.

    `battery_charge_microampere_hours` and `battery_millivolts` are coarse: they cover the whole phone, and come from
    its battery's own counter, whose steps are large. They show the consumption of a run only while the phone does not
    charge.
    """

    unix_seconds: Annotated[float, Field(ge=0, lt=2**33)]
    thermal_state: ThermalState | None = None
    temperature_celsius: float | None = None
    battery_percent: float | None = None
    battery_celsius: float | None = None
    battery_charge_microampere_hours: Count | None = None
    battery_millivolts: Count | None = None
    charging: bool | None = None
    low_power_mode: bool | None = None
    fixed_performance_mode: bool | None = None
    governor: Name | None = None
    load_average_1min: float | None = None


class PowerUse(Frozen):
    """Mean power of a Mac's processor, in milliwatts, over `seconds`.

    It is coarse: it covers every program, and loading and pauses of all cells.
    """

    seconds: Positive
    cpu_milliwatts: Milliwatts
    gpu_milliwatts: Milliwatts
    neural_engine_milliwatts: Milliwatts


class Environment(Frozen):
    """Snapshots before the first round, and after the last one (None: never reached).

    `power`: of a Mac's rounds that this command measured; None if the system did not permit reading it.
    """

    before: Snapshot
    after: Snapshot | None = None
    power: PowerUse | None = None


class GoldenOutcome(Frozen):
    """Verdict on the answers to `inputs` golden inputs, by the computer that sent the job, and never by the device.

    Figures are the worst over the inputs; `relative` is None if the answers contain infinity or NaN (cosine -1 then).
    """

    inputs: Count
    cosine: float
    relative: float | None = None
    passed: bool


class Placement(Frozen):
    """Number of operations that a runtime plans for a compute unit, and their share of the predicted cost."""

    unit: Name
    operations: Count
    cost_share: float | None = None


class PlannedOperation(Frozen):
    """One operation, by the name of its output, and the unit that a runtime plans for it.

    `cost` is its share of the model's predicted cost.
    """

    name: Name
    operator: Name
    unit: Name
    cost: float | None = None


class CoreUse(Frozen):
    """Number of inferences that ended on a core, and clocks of the core right after the last: actual, allowed and
    maximum. None for clocks that the system does not report."""

    core: Count
    inferences: Count
    running_khz: Count | None = None
    allowed_khz: Count | None = None
    maximum_khz: Count | None = None


class OperatorWork(Frozen):
    """Total work of the calls of an operator: multiplications and additions (0 for operators without products), and the
    bytes of their inputs, weights and outputs, each counted once.

    `kind`: of a convolution, its window and its grouping of channels (`7x7 depthwise`). `arithmetic`: dtype of the
    products; None if there are none.
    """

    arithmetic_operations: Count
    moved_bytes: Count
    kind: Name | None = None
    arithmetic: Literal["float32", "float16", "int8"] | None = None


class OperatorTime(Frozen):
    """Time of the operators of one type and one kind of work, in one inference of a profiled run, which is never one of
    the samples. `work`: their work; None if the runtime does not report it."""

    operator: Name
    calls: Count
    total_ns: Count
    work: OperatorWork | None = None


class RoundResult(Frozen):
    """One finished round of one cell: one line of `<run_id>.rounds.jsonl`.

    `samples_ns`: wall nanoseconds of every inference after the warm-up, in order. `cpu_ns`: their total CPU
    nanoseconds, of all threads; `cpu_least_ns`: those of the inference with the fewest. `specialization_ns`: time in
    round 0 to prepare the model for this device, for runtimes that do so apart from loading (Core AI); None if it was
    prepared already. `load_first_ns`: first load of the model in the process; `load_again_ns`: second load.
    `first_inference_ns`: the first inference after loading. `answers`: of round 0, to the golden inputs, float32 [N,
    ...], little-endian, in base64. They are judged on arrival and dropped: `golden` is the verdict. `cooled_seconds`:
    wait before the round, until the device was cool or the protocol's `cool_seconds` were over. `cores`: the cores and
    clocks of the calling thread. `operations`: the plan from which `placement` is computed, if the Neural Engine may be
    used. `status` invalid: the answers are wrong, and no sample is kept; failed: see `error`.

    `inferences_per_sample`: number of inferences whose mean is one sample. A browser's clock is coarse, and an
    inference may be shorter than disturbances. `cpu_ns` is then that of one inference per sample. Fields of a browser:
    `fetch_ns`, loading the runtime and the model from the server; `compile_ns`, compiling the runtime; `threads_used`:
    threads that it granted.
    """

    run_id: Identifier
    cell: Identifier
    round: Count
    status: Literal["done", "failed", "invalid"]
    error: Prose | None = None
    specialization_ns: Count | None = None
    load_first_ns: Count | None = None
    load_again_ns: Count | None = None
    first_inference_ns: Count | None = None
    samples_ns: Annotated[tuple[Count, ...], Field(fail_fast=True)] = ()
    cpu_ns: Count | None = None
    cpu_least_ns: Count | None = None
    peak_memory_bytes: Count | None = None
    thermal_state: ThermalState | None = None
    cooled_seconds: Annotated[float, Field(ge=0)] | None = None
    answers: Base64Bytes | None = None
    golden: GoldenOutcome | None = None
    placement: Annotated[tuple[Placement, ...], Field(fail_fast=True)] = ()
    profile: Annotated[tuple[OperatorTime, ...], Field(fail_fast=True)] = ()
    cores: Annotated[tuple[CoreUse, ...], Field(fail_fast=True)] = ()
    operations: Annotated[tuple[PlannedOperation, ...], Field(fail_fast=True)] = ()
    warnings: Annotated[tuple[Prose, ...], Field(fail_fast=True)] = ()
    fetch_ns: Count | None = None
    compile_ns: Count | None = None
    inferences_per_sample: Annotated[Count, Field(ge=1)] | None = None
    threads_used: Annotated[Count, Field(ge=1)] | None = None

    @classmethod
    def failed(cls, run_id: str, turn: Turn, error: str) -> RoundResult:
        """Returns a round without measurements, only with an error."""
        return cls(run_id=run_id, cell=turn.cell, round=turn.round, status="failed", error=error)


class _Measured(Frozen):
    """The job, with device, harness, runtimes and environment."""

    schema_version: Literal[1]
    run_id: Identifier
    job: Job
    device: Device
    harness: Harness
    runtimes: dict[Name, Name]
    environment: Environment
    peaks: Former = None

    @model_validator(mode="after")
    def _of_the_job(self) -> Self:
        if self.run_id != self.job.run_id:
            raise ValueError("run_id differs from the job's")
        return self


class Run(_Measured):
    """File that a device sends, `<run_id>.run.json`: finished rounds and their device, without statistics."""

    rounds: Annotated[tuple[RoundResult, ...], Field(fail_fast=True)]

    @model_validator(mode="after")
    def _once(self) -> Run:
        turns = [Turn(cell=item.cell, round=item.round) for item in self.rounds]
        if len(set(turns)) != len(turns) or not set(turns) <= set(self.job.order):
            raise ValueError("rounds differ from the job's")
        return self


class MedianInterval(Frozen):
    """A 95% interval of the median of rounds' medians, by a bootstrap of rounds."""

    low: Positive
    high: Positive


class Summary(Frozen):
    """Statistics of all samples of a cell, in nanoseconds (statistics.py has the definitions).

    `last_over_first`: median of the last quarter over that of the first. `cpu_ns`: mean CPU time of an inference.
    `rounds_median_ns`: median of rounds' medians, in which a fast round counts as much as a slow one.
    """

    samples: Count
    median_ns: Positive
    p90_ns: Positive
    p99_ns: Positive
    mean_ns: Positive
    trimmed_mean_ns: Positive
    minimum_ns: Count
    maximum_ns: Count
    last_over_first: Positive | None = None
    rounds_median_ns: Positive | None = None
    median_interval_ns: MedianInterval
    cpu_ns: Annotated[float, Field(ge=0, lt=2**63)] | None = None


class CellResult(Frozen):
    """One cell: its rounds and their summary. A cell that was not measured has no summary, and its `error` has the
    reason.

    `load_first_ns` and the like are the first round's; memory is the largest over the rounds. `arithmetic_operations`:
    number of multiplications and additions of an inference, counted from shapes; None if the network is unknown.
    """

    id: Identifier
    status: Literal["done", "failed", "invalid", "skipped"]
    error: Prose | None = None
    specialization_ns: Count | None = None
    load_first_ns: Count | None = None
    load_again_ns: Count | None = None
    first_inference_ns: Count | None = None
    peak_memory_bytes: Count | None = None
    golden: GoldenOutcome | None = None
    placement: Annotated[tuple[Placement, ...], Field(fail_fast=True)] = ()
    profile: Annotated[tuple[OperatorTime, ...], Field(fail_fast=True)] = ()
    arithmetic_operations: Count | None = None
    summary: Summary | None = None
    warnings: Annotated[tuple[Prose, ...], Field(fail_fast=True)] = ()
    rounds: Annotated[tuple[RoundResult, ...], Field(fail_fast=True)] = ()


class Result(_Measured):
    """Document that `benchmark` writes: one run on one device. `cells` are in the order of the job's.

    `self_reported`: only the device itself compared its answers: it measured by itself, from an offline job or by an
    earlier version. `left_out`: the requested bundles and files that the device cannot run, with the reasons.
    """

    cells: Annotated[tuple[CellResult, ...], Field(fail_fast=True)]
    self_reported: bool = False
    left_out: Annotated[tuple[Prose, ...], Field(fail_fast=True)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        if [cell.id for cell in self.cells] != [cell.id for cell in self.job.cells]:
            raise ValueError("cells differ from the job's")
        for cell in self.job.cells:
            if cell.accuracy is not None and not 0 <= cell.accuracy.percent <= 100:
                raise ValueError(f"cell {cell.id}: an accuracy of {cell.accuracy.percent:g} percent")
        for measured in self.cells:
            if not measured.rounds and (measured.status == "done" or measured.summary is not None):
                raise ValueError(f"cell {measured.id}: figures without their rounds")
        return self

    @classmethod
    def of(cls, run: Run, cells: tuple[CellResult, ...], self_reported: bool) -> Result:
        """Returns a result of a run and its cells."""
        shared = {name: getattr(run, name) for name in _Measured.model_fields}
        return cls(**shared, cells=cells, self_reported=self_reported)

    def pairs(self) -> tuple[tuple[Cell, CellResult], ...]:
        """Returns each cell of the job with its result."""
        return tuple(zip(self.job.cells, self.cells, strict=True))


@dataclass(frozen=True)
class Outcome:
    """A result, its path, and a line for everything that could not be run on the device.

    `others`: outcomes of the other phones of the same call. `lost`: errors of those without a result.
    """

    result: Result
    output: Path
    left_out: tuple[str, ...]
    others: tuple[Outcome, ...] = ()
    lost: tuple[MobileClipDeployError, ...] = ()

    @property
    def failure(self) -> MobileClipDeployError | None:
        """GateFailed if a cell had wrong answers, else RuntimeFailed if one failed or a phone was lost, to be raised or
        printed; None if all cells are done."""
        kinds: tuple[tuple[str, type[MobileClipDeployError]], ...] = (
            ("invalid", GateFailed),
            ("failed", RuntimeFailed),
        )
        for status, error in kinds:
            results = (self.result, *(other.result for other in self.others))
            cells = [cell for result in results for cell in result.cells if cell.status == status]
            if cells:
                more = f"; and {len(cells) - 1} more" if len(cells) > 1 else ""
                return error(f"{status.upper()}: {cells[0].id}: {cells[0].error}{more}")
        return self.lost[0] if self.lost else None
