"""Comparison of bundles side by side: size, and losses against their checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.escaping import in_markdown, markdown_row
from mobileclip_deploy.base.intervals import Interval
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.door import NO_DATASET
from mobileclip_deploy.evaluation.evaluate import Measurement, Measuring
from mobileclip_deploy.evaluation.looks import Looks, paired_looks
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.model.precision import precision_label, precision_of
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.gates import exported_gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.embedder import bundle_embedder
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.checks.task import TASK_FIGURES
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject, Subject, collapsed_towers, replaced_gates

if TYPE_CHECKING:
    from mobileclip_deploy.network.checkpoints.source import Source


class ComparedBundle(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """One row. `relative` and `snr_db` are those of the worst tower on the bundle's golden inputs (None: exact, or not
    run). `figures` are top-1 and recall@1 in percent. `differences` are the figures minus those of `baseline` in
    points, with paired 95% bootstrap intervals. Drops are judged as by the check `task` of `verify`. `reasons`: failed
    gates, checks that could not be run, and undecided drops."""

    bundle: str
    variant: str
    embedding_space: str
    target: str
    precision: str
    bytes: int
    relative: float | None = None
    snr_db: float | None = None
    figures: dict[str, Interval] = {}
    baseline: str | None = None
    differences: dict[str, Interval] = {}
    status: Literal["passed", "failed", "undecided", "not run"]
    reasons: tuple[str, ...] = ()


class Comparison(BaseModel, frozen=True):
    """All rows, in the given order, and notes for the reader. `dataset`: None if accuracy was not measured."""

    schema_version: Literal[1] = 1
    dataset: str | None
    bundles: tuple[ComparedBundle, ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Returns the table in Markdown."""
        names = [figure for figure in TASK_FIGURES if any(figure in row.figures for row in self.bundles)]
        titles = ["bundle", "bytes", "deviation", "dB"]
        titles += [title for name in names for title in (f"{name.replace('_', ' ')} %", "change, points (95%)")]
        lines = [markdown_row([*titles, "against", "gates"])]
        lines.append("|---" + "|---:" * (len(titles) - 1) + "|---|---|")
        lines += [markdown_row(_cells(row, names)) for row in self.bundles]
        return "\n".join([*lines, "", *(f"{in_markdown(note)}  " for note in self.notes)]).rstrip() + "\n"


def _cells(row: ComparedBundle, names: Sequence[str]) -> list[str]:
    cells = [row.bundle, f"{row.bytes:,}", "" if row.relative is None else f"{row.relative:.1e}"]
    cells.append("" if row.snr_db is None else f"{row.snr_db:.1f}")
    for name in names:
        value, change = row.figures.get(name), row.differences.get(name)
        cells.append("" if value is None else f"{value.value:.2f}")
        cells.append("" if change is None else f"{change.value:+.2f} ({change.low:+.2f} .. {change.high:+.2f})")
    reasons = f" ({'; '.join(row.reasons)})" if row.reasons else ""
    return [*cells, row.baseline or "", row.status + reasons]


def compare_bundles(
    bundles: Sequence[Bundle],
    dataset: Dataset | None,
    checkpoint: Callable[[Bundle], Source | None],
    gates: Gates | None,
    how: Measuring,
    progress: Progress = silent,
) -> Comparison:
    """Measures bundles on the same inputs and the same dataset.

    Differences are against the checkpoint, or without it against the first bundle of the same embedding space. Bundles
    of different spaces are never compared with each other. A slow runtime is replaced for the dataset by the runner
    that `verify` uses, and a note says so.

    Args:
        dataset: for the comparison of accuracy; None to leave it out.
        checkpoint: opens the source of a bundle; gives None if it is not available.

    Raises:
        UsageError: no bundle, or one twice.
        InvalidInput: the dataset or a bundle cannot be used.
        RuntimeFailed: a runtime refused an artifact.
    """
    paths = [bundle.path.resolve() for bundle in bundles]
    if not bundles or len(set(paths)) < len(paths):
        raise UsageError("name at least one bundle, and each only once")
    baselines: dict[str, Looks] = {}
    # Bundles of earlier versions identify their space by a file, later ones by its weights.
    spaces = ((_origin(bundle), bundle.manifest.embedding_space) for bundle in bundles)
    by_file = {origin: space for origin, space in spaces if not space.endswith(origin)}
    rows = []
    collapsed: list[str] = []
    replaced: list[str] = []
    substituted: list[str] = []
    for bundle in bundles:
        space = by_file.get(_origin(bundle), bundle.manifest.embedding_space)
        progress(f"{bundle.path.name}: golden inputs")
        bundle_gates = gates or exported_gates(bundle.manifest.options)
        subject = OpenedSubject(bundle, Evidence(Reference.read(bundle.golden)), bundle_gates, bundle.path)
        checks = [check for tower in subject.towers.values() for check in check_shipped(tower)]
        collapsed += collapsed_towers(subject)
        if own_gates := replaced_gates(subject):
            replaced.append(f"{bundle.path.name} has its own gates: {', '.join(own_gates)}.")
        looks: Looks | None = None
        if dataset is not None and set(bundle.manifest.towers) == set(TOWERS):
            if (subject.slow or space not in baselines) and (source := checkpoint(bundle)) is not None:
                if space not in baselines:
                    from mobileclip_deploy.evaluation.checkpoints import checkpoint_looks

                    baselines[space] = checkpoint_looks(source.model, dataset, progress, how)
                if subject.slow:
                    subject.source = source.folded()
            try:
                looks = Looks(bundle_embedder(bundle, load=partial(_loaded, subject)), dataset, how, progress)
                baselines.setdefault(space, looks)
                substituted += _replaced_runtime(subject, checks, looks.plain)
            except NotRun as error:
                checks.append(Check.not_run("task", "both", str(error)))
        row = _row(bundle, checks, looks, baselines.get(space), bundle_gates)
        subject.close()
        rows.append(row.model_copy(update={"embedding_space": space}))
    unmeasured = (f"Accuracy was not measured: {NO_DATASET}.",) if dataset is None else ()
    return Comparison(
        dataset=dataset.name if dataset is not None else None,
        bundles=tuple(rows),
        notes=(
            *unmeasured,
            *replaced,
            *substituted,
            *_notes(bundles, rows, dataset is not None),
            *dict.fromkeys(collapsed),
        ),
    )


def _loaded(subject: Subject, tower: TowerName) -> Runner:
    proof = subject.towers[tower]
    if subject.source is not None and (stored := proof.artifact.weights) is not None:
        from mobileclip_deploy.verify.instruments.matching import matched_weights

        proof.matched = tuple(matched_weights(proof.module, stored)[0])
    return proof.runner_for_all()


def _replaced_runtime(subject: Subject, checks: Sequence[Check], measurement: Measurement) -> tuple[str, ...]:
    """Returns a note if the artifact's own runtime did not run all images."""
    if not subject.slow or measurement.result.engine in {check.engine for check in checks}:
        return ()
    return (
        f"{subject.name}: {measurement.result.engine} computed all {measurement.result.images:,} pictures, as in "
        "`verify`; the vendor's runtime, which is slow here, ran the golden inputs only.",
    )


def _origin(bundle: Bundle) -> str:
    """Returns a key of the bundle's embedding space by files: the SHA-256 of the source file, and the reduced size."""
    checkpoint = bundle.manifest.checkpoint
    return checkpoint.sha256[:16] + ("" if checkpoint.compacted is None else checkpoint.compacted.space)


def _row(
    bundle: Bundle, checks: list[Check], looks: Looks | None, baseline: Looks | None, gates: Gates
) -> ComparedBundle:
    figures: dict[str, Interval] = {}
    differences: dict[str, Interval] = {}
    drop, outcome = "", "passed"
    if looks is not None and baseline is not None:
        measured, before = looks.plain, baseline.plain
        figures = {name: value for name, value in measured.result.figures.items() if name in TASK_FIGURES}
        if looks is not baseline:
            differences = {name: paired_difference(measured.hits[name], before.hits[name]) for name in figures}
            exact = all(precision_of(entry.precision).bits == 32 for entry in bundle.manifest.towers.values())
            paired = paired_looks(baseline, looks, TASK_FIGURES, gates.task, exact)
            drop, outcome = f"accuracy: {paired.describe(gates.task)}", paired.outcome(gates.task)
    deviations = [check.deviation for check in checks if check.deviation is not None]
    ratios = [deviation.snr_db for deviation in deviations if deviation.snr_db is not None]
    failed = [f"{check.tower} {check.step}: {check.describe()}" for check in checks if check.status == "failed"]
    failed += [drop] if outcome == "failed" else []
    unsure = [drop] if outcome == "undecided" else []
    lacking = [f"{check.tower} {check.step}: {check.detail}" for check in checks if check.status == "not run"]
    return ComparedBundle(
        bundle=bundle.path.name,
        variant=bundle.manifest.variant,
        embedding_space=bundle.manifest.embedding_space,
        target=bundle.manifest.target,
        precision=precision_label({tower: entry.precision for tower, entry in bundle.manifest.towers.items()}),
        bytes=bundle.bytes,
        relative=max((deviation.relative for deviation in deviations), default=None),
        snr_db=min(ratios, default=None),
        figures=figures,
        baseline=None if baseline is None or looks is None else baseline.plain.result.model,
        differences=differences,
        status="failed" if failed else "not run" if lacking else "undecided" if unsure else "passed",
        reasons=(*failed, *lacking, *unsure),
    )


def _notes(bundles: Sequence[Bundle], rows: Sequence[ComparedBundle], measured: bool) -> tuple[str, ...]:
    notes = []
    spaces = list(dict.fromkeys(row.embedding_space for row in rows))
    if len(spaces) > 1:
        notes.append(
            f"{len(spaces)} embedding spaces ({', '.join(spaces)}): each bundle is compared within its own; embeddings "
            "of different spaces must not be compared."
        )
    names = {row.bundle for row in rows}
    for space in spaces:
        against = next((row.baseline for row in rows if row.embedding_space == space and row.baseline), None)
        if against in names:
            notes.append(f"The checkpoint of {space} was not found: its bundles are compared with {against}.")
    single = [bundle.path.name for bundle in bundles if set(bundle.manifest.towers) != set(TOWERS)]
    if single and measured:
        notes.append(f"Accuracy needs both towers, and was not measured for {', '.join(single)}.")
    return tuple(notes)
