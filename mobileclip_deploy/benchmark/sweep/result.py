"""Result of a sweep: a row for each cell, with its figures or its error; and a table of them, as Markdown and for a
screen."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from mobileclip_deploy.base.escaping import in_markdown, markdown_row
from mobileclip_deploy.base.files.names import LongPath, Name, Prose, RowError
from mobileclip_deploy.errors import GateFailed, InvalidInput, MobileClipDeployError, NotRun, RuntimeFailed, Undecided
from mobileclip_deploy.export.steps import Written
from mobileclip_deploy.network.model.variants import TOWERS, TowerName

COLUMNS = (
    "checkpoint",
    "target",
    "precision",
    "options",
    ">MB",
    ">cosine image",
    ">cosine text",
    ">top-1 %",
    ">drop",
    ">recall@1 %",
    ">drop ",
    ">image ms",
    ">text ms",
    "state",
)
"""Column titles; those of numbers begin with `>`."""
FIGURES = ("top1", "image_to_text_recall@1")

State = Literal["passed", "failed", "undecided", "not run", "error", "left"]


class Row(BaseModel, frozen=True):
    """Row of one cell: a `checkpoint` and a set of `options` (by name; None for the defaults) for a target at a
    precision.

    Attributes:
        state: "passed"; "failed", the bundle misses a gate and is marked; "undecided", there were too few pictures;
            "not run", some checks could not be run; "error", there is no bundle; "left", not exported yet.
        bundle: path relative to the sweep's folder.
        bytes: size of the artifacts.
        cosine: the worst cosine of each tower with the checkpoint's outputs.
        accuracy, drop: top-1 and recall@1, in percent and in points, if there is a dataset.
        failures: checks that caused "failed", "undecided" or "not run".
        latency: milliseconds of each tower.
    """

    checkpoint: Name
    target: Name
    precision: Name
    options: Name | None
    state: State = "left"
    variant: Name | None = None
    bundle: LongPath | None = None
    bytes: int | None = None
    cosine: dict[TowerName, float] = {}
    accuracy: dict[Name, float] = {}
    drop: dict[Name, float] = {}
    failures: tuple[Prose, ...] = ()
    error: RowError | None = None
    latency: dict[TowerName, float] = {}

    @property
    def name(self) -> str:
        """Name for messages: `mine, coreml, w8, ios17`."""
        return ", ".join(part for part in (self.checkpoint, self.target, self.precision, self.options) if part)


class SweepResult(BaseModel, frozen=True):
    """Current state of a sweep.

    Attributes:
        notes: sentences on combinations that were left out.
        device, protocol: device and protocol of the latencies.
        latency_error: reason for missing latencies.
    """

    schema_version: Literal[1] = 1
    output: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    device: str | None = None
    protocol: str | None = None
    latency_error: RowError | None = None

    def count(self, state: State) -> int:
        """Returns the number of rows in a state."""
        return sum(row.state == state for row in self.rows)

    @property
    def failure(self) -> MobileClipDeployError | None:
        """The worst error, which gives the exit code: a cell without a bundle, then a device that failed, then a gate,
        then too few pictures, then checks that could not be run. None if all passed."""
        errors = [row for row in self.rows if row.error is not None]
        if errors:
            first = max(errors, key=lambda row: row.error.exit_code if row.error is not None else 0)
            assert first.error is not None
            kind = RuntimeFailed if first.error.exit_code == RuntimeFailed.exit_code else InvalidInput
            return kind(f"{len(errors)} of {len(self.rows)} cells have no bundle: {first.name}: {first.error.message}")
        if self.latency_error is not None:
            return RuntimeFailed(f"latencies: {self.latency_error.message}")
        failed = [row for row in self.rows if row.state == "failed"]
        if failed:
            first = failed[0]
            more = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
            return GateFailed(
                f"FAILED its gate, but written and marked: {first.name} ({', '.join(first.failures)}){more}"
            )
        undecided = [row.name for row in self.rows if row.state == "undecided"]
        if undecided:
            return Undecided(f"Written, but undecided: {'; '.join(undecided)}: too few pictures to tell.")
        if self.count("not run"):
            return NotRun("Some checks could not be run here; they are listed as not run, not as passed.")
        return None


def row_of(row: Row, written: Written, bundle: str) -> Row:
    """Returns the row of a cell whose bundle was written."""
    report, manifest = written.report, written.bundle.manifest
    checks = () if report is None else report.checks
    cosine: dict[TowerName, float] = {}
    figures: dict[str, float] = {}
    for check in checks:
        if check.step == "shipped" and check.deviation is not None:
            for tower in manifest.towers:
                if tower == check.tower:  # with several engines, the worst
                    cosine[tower] = min(cosine.get(tower, 1.0), check.deviation.cosine)
        if check.step == "task" and check.figures is not None:
            figures = check.figures
    unmet = () if report is None else report.failed or report.undecided or report.not_run
    state: State = "passed"
    if report is not None and not report.passed:
        state = "failed" if report.failed else "undecided" if report.undecided else "not run"
    return row.model_copy(
        update={
            "state": state,
            "variant": manifest.variant,
            "bundle": bundle,
            "bytes": written.bundle.bytes,
            "cosine": cosine,
            "accuracy": {name: value for name, value in figures.items() if not name.endswith("_drop")},
            "drop": {name.removesuffix("_drop"): value for name, value in figures.items() if name.endswith("_drop")},
            "failures": tuple(f"{check_failed.tower} {check_failed.step}" for check_failed in unmet),
        }
    )


def cells_of(row: Row) -> list[str]:
    """Returns the texts of a row, one per column."""
    figures: list[str] = []
    for name in FIGURES:
        figures += [_number(row.accuracy, name, ".2f"), _number(row.drop, name, "+.2f")]
    state = row.state
    why = ", ".join(row.failures) or (row.error.message if row.error is not None else "")
    return [
        row.checkpoint,
        row.target,
        row.precision,
        row.options or "",
        "" if row.bytes is None else f"{row.bytes / 1e6:.2f}",
        *(_number(row.cosine, tower, ".6f") for tower in TOWERS),
        *figures,
        *(_number(row.latency, tower, ".2f") for tower in TOWERS),
        f"{state}: {why}" if why else state,
    ]


def markdown(result: SweepResult) -> str:
    """Returns the table, followed by the notes."""
    names = [column.removeprefix(">").strip() for column in COLUMNS]
    marks = ["---:" if column.startswith(">") else "---" for column in COLUMNS]
    lines = [markdown_row(names), f"|{'|'.join(marks)}|", *(markdown_row(cells_of(row)) for row in result.rows)]
    below = [f"\n{in_markdown(note)}" for note in result.notes]
    if result.device is not None:
        origin = f"{result.device}, protocol {result.protocol}" if result.protocol else result.device
        error = f": {result.latency_error.message}" if result.latency_error is not None else ""
        below.append("\n" + in_markdown(f"Latencies: {origin}{error}."))
    return "\n".join([*lines, *below]) + "\n"


def _number(values: Mapping[Any, float], name: str, form: str) -> str:
    return format(values[name], form) if name in values else ""
