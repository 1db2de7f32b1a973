"""The job: everything that a device measures. docs/measuring.md explains each field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from mobileclip_deploy.base.files.names import LONGEST_PATH, Name, Prose, Sha256
from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.targets.values import ComputeUnits

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A whole number that every language's JSON reader represents exactly."""
Positive = Annotated[float, Field(gt=0, lt=2**63)]
"""A time or a rate that can be a divisor and a point on a logarithmic axis."""
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,119}$")]
"""A text that is safe as a file name on every device, and in a shell."""
RelativePath = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$", max_length=LONGEST_PATH)
]
"""A path below the job's folder, with `/` and without `..`; also safe in a shell."""
Former = Annotated[SkipJsonSchema[Any], AfterValidator(lambda _: None), Field(exclude=True)]
"""A field of documents of 0.3 and before: accepted, dropped, and no longer written."""
CHECKPOINT = "torch"
"""Target and runtime of a cell that is not an artifact but the checkpoint itself."""
Dtype = Literal["float32", "float16", "uint8", "int32", "int64"]


class Frozen(BaseModel):
    """Base of documents: unknown fields are refused; a nullable one may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Protocol(Frozen):
    """Number and duration of the measurements of a cell. A round lasts for at least `iterations_per_round` and
    `seconds_per_round`.

    `trim_fraction` of each round's samples is dropped at both ends for the trimmed mean. `statistic` is the figure that
    the protocol reports. `golden_inputs`: maximum number of inputs to check; 0 is all. `cool_seconds`: maximum time
    before a round in which a device that knows its thermal state waits until it is nominal. `pace_milliseconds`: time
    between the starts of two inferences, as in an app with a camera; 0: no pause.
    """

    name: Identifier
    warm_up_iterations: Count
    rounds: Annotated[Count, Field(ge=1)]
    iterations_per_round: Annotated[Count, Field(ge=1)]
    seconds_per_round: Annotated[float, Field(ge=0)]
    reload_each_round: bool
    trim_fraction: Annotated[float, Field(ge=0, lt=0.5)]
    statistic: Literal["median", "p90", "trimmed_mean"]
    golden_inputs: Count = 0
    short_probe: Former = None
    cool_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    pace_milliseconds: Annotated[float, Field(ge=0, le=60_000)] = 0.0

    @property
    def least_seconds(self) -> float:
        """Minimum duration of the samples of a round, in seconds."""
        return max(self.seconds_per_round, self.iterations_per_round * self.pace_milliseconds / 1000)

    @property
    def longest_seconds(self) -> float:
        """Time limit of a round, in seconds: far more than the slowest model on the slowest device needs."""
        return 120 + 10 * self.least_seconds + 2 * (self.warm_up_iterations + self.iterations_per_round)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="standard",
            warm_up_iterations=10,
            rounds=5,
            iterations_per_round=20,
            seconds_per_round=2.0,
            reload_each_round=False,
            trim_fraction=0.1,
            statistic="median",
            cool_seconds=120.0,
        ),
        # Latency that a user sees: clocks fall between inferences, and runs without pauses do not show that.
        Protocol(
            name="paced",
            warm_up_iterations=4,
            rounds=5,
            iterations_per_round=40,
            seconds_per_round=0.0,
            reload_each_round=False,
            trim_fraction=0.1,
            statistic="median",
            cool_seconds=120.0,
            pace_milliseconds=250.0,
        ),
        # Apple's ModelBench (apple/ml-mobileone): the 10 slowest and the 10 fastest of a round's 50 are dropped.
        Protocol(
            name="paper",
            warm_up_iterations=10,
            rounds=20,
            iterations_per_round=50,
            seconds_per_round=0.0,
            reload_each_round=True,
            trim_fraction=0.2,
            statistic="trimmed_mean",
            cool_seconds=120.0,
        ),
        # MLPerf Mobile, single stream.
        Protocol(
            name="mlperf",
            warm_up_iterations=10,
            rounds=1,
            iterations_per_round=1024,
            seconds_per_round=60.0,
            reload_each_round=False,
            trim_fraction=0.1,
            statistic="p90",
            cool_seconds=120.0,
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """Returns the protocol called `name`.

    Raises:
        UsageError: the name is unknown; the message lists the known ones.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}{suggestion(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def quick(protocol: Protocol) -> Protocol:
    """Returns a version of the protocol that takes seconds: a smoke test, whose figures must not be quoted."""
    return protocol.model_copy(
        update={
            "name": f"{protocol.name}-quick",
            "warm_up_iterations": 1,
            "rounds": min(protocol.rounds, 2),
            "iterations_per_round": 3,
            "seconds_per_round": 0.0,
            "golden_inputs": 8,
            "cool_seconds": 0.0,
        }
    )


class Tensor(Frozen):
    """An input or output of the runtime: batch 1, no free dimension. Image pixels are RGB."""

    name: Name
    dtype: Dtype
    shape: Annotated[tuple[Annotated[Count, Field(ge=1)], ...], Field(fail_fast=True)]


class RawTensor(Frozen):
    """A raw little-endian row-major file of `shape`, whose first dimension counts the examples."""

    file: RelativePath
    sha256: Sha256
    dtype: Dtype
    shape: Annotated[tuple[Annotated[Count, Field(ge=1)], ...], Field(fail_fast=True)]


class Golden(Frozen):
    """Inputs for which the author of the job has the expected answers.

    `outputs`: in jobs of earlier versions only; the answers to all inputs, or in offline jobs of 0.4 to half of them.
    """

    inputs: RawTensor
    outputs: RawTensor | None = None


class Gate(Frozen):
    """Bound for the answers (`parity.Bound` in a document), applied after they come back. Devices ignore it."""

    metric: Literal["cosine", "relative", "probabilities"]
    bound: float
    snr_db: float | None = None


class Accuracy(Frozen):
    """Score of the file at its export, in percent, with metric and dataset."""

    metric: Name
    dataset: Name
    percent: float


class Cell(Frozen):
    """One thing to time: a file, a runtime, a place to run, and a number of threads.

    `runtime` is the target's name of the runtime: a device without it fails the cell. `backend` is the runtime's own
    (ONNX Runtime: cpu; ExecuTorch: xnnpack; torch: unfolded, folded, compiled); `compute_units` is Apple's.
    `competitor`: a file that this project did not write; answers that miss the gate are then noted, and the cell stays
    valid. Without `golden`, answers are not checked. `options` are passed to the runtime unchanged (ONNX Runtime:
    session entries; Core ML and Core AI: `function` of a file with several). `resizing`: deviation that the export
    measured, for a tower that resizes pictures itself.
    """

    id: Identifier
    label: Name
    competitor: bool
    bundle: Name | None = None
    variant: Name | None = None
    tower: Literal["image", "text"]
    target: Name | None = None
    precision: Name | None = None
    accuracy: Accuracy | None = None
    file: RelativePath
    sha256: Sha256
    bytes: Count
    runtime: Identifier
    backend: Name | None = None
    compute_units: ComputeUnits | None = None
    threads: Annotated[Count, Field(ge=1, le=1024)]
    options: dict[Name, Name] = {}
    input: Tensor
    output: Tensor
    golden: Golden | None = None
    gate: Gate | None = None
    resizing: Prose | None = None

    @model_validator(mode="after")
    def _whole(self) -> Cell:
        if (self.golden is None) != (self.gate is None):
            raise ValueError(f"cell {self.id}: golden and gate come together")
        return self


class Turn(Frozen):
    """One round of one cell; `round` counts from 0."""

    cell: Identifier
    round: Count


class Job(Frozen):
    """The complete plan, job.json. `order` contains every round of every cell once, in the order of execution.

    The author of the job shuffled `order` with `seed`; a device only follows it.
    """

    schema_version: Literal[1]
    run_id: Identifier
    seed: Count
    protocol: Protocol
    cells: Annotated[tuple[Cell, ...], Field(min_length=1, fail_fast=True)]
    order: Annotated[tuple[Turn, ...], Field(fail_fast=True)]

    @model_validator(mode="after")
    def _complete(self) -> Job:
        ids = {cell.id for cell in self.cells}
        turns = {(turn.cell, turn.round) for turn in self.order if turn.round < self.protocol.rounds}
        if len(ids) != len(self.cells):
            raise ValueError("two cells have the same id")
        whole = len(self.order) == len(turns) == len(ids) * self.protocol.rounds
        if not whole or not ids.issuperset(name for name, _ in turns):
            raise ValueError("order must hold every round of every cell once")
        return self

    def cell(self, name: str) -> Cell:
        """Returns the cell of an id."""
        return next(cell for cell in self.cells if cell.id == name)


def weights_beside(file: str) -> tuple[str, str]:
    """Returns the names that ONNX's tools give to the weights of a model above the size limit of protobuf."""
    return f"{file}.data", f"{file}_data"
