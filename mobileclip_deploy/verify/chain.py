"""Checks of a bundle, in the order of the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec

import torch

from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.network.inputs import embed
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Bound, Check, ParityReport
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.verify.checks.activations import check_activations
from mobileclip_deploy.verify.checks.attachments import check_attachments
from mobileclip_deploy.verify.checks.companions import check_companions, check_golden, check_settings
from mobileclip_deploy.verify.checks.contents import check_contents, check_measured
from mobileclip_deploy.verify.checks.files import check_files, unlisted_note
from mobileclip_deploy.verify.checks.fit import check_fit
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.pictures import check_contexts, check_pictures
from mobileclip_deploy.verify.checks.place import check_place
from mobileclip_deploy.verify.checks.relevance import check_relevance
from mobileclip_deploy.verify.checks.reproduced import check_reproduced
from mobileclip_deploy.verify.checks.requested import check_requested
from mobileclip_deploy.verify.checks.task import check_sampled, check_task
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.own_checks import own_checks
from mobileclip_deploy.verify.subject import OpenedSubject, Subject
from mobileclip_deploy.verify.unproven_claims import on_word

P = ParamSpec("P")


def verify_subject(subject: Subject) -> ParityReport:
    """Runs every check that can be run here: those of the whole bundle, of each tower, and of accuracy.

    Raises:
        InvalidInput: an artifact or a file next to it is damaged.
        RuntimeFailed: no engine accepts an artifact.
    """
    checks: list[Check] = []
    if isinstance(subject, OpenedSubject):
        for check_bundle in (check_files, check_requested, check_settings, check_companions, check_golden, check_fit):
            checks += _timed(check_bundle, subject)
    checks += _timed(check_relevance, subject)
    subject.tell_time()
    for tower in subject.bundle.manifest.towers:
        for what, check, concerns in TOWER_CHECKS:
            if concerns is None or concerns(subject, tower):
                subject.tell(tower, what)
                checks += _timed(check, subject, tower)
        sound = not any(check.tower == tower and check.status == "failed" for check in checks)
        if isinstance(subject, OpenedSubject) and sound:  # for a failed tower the other checks have reported more
            checks += _timed(check_contents, subject, tower)
        for name, package_check in own_checks().items():
            subject.tell(tower, name)
            checks += _timed(
                package_check.checks, name, subject, tower, subject.gates.own_bound(name, package_check.bound)
            )
        subject.drop(tower)
    for check_whole in (check_task, check_sampled):
        checks += _timed(check_whole, subject)
    if isinstance(subject, OpenedSubject):
        checks += _timed(check_measured, subject, tuple(checks))
    manifest = subject.bundle.manifest
    return ParityReport(
        bundle=subject.name,
        variant=manifest.variant,
        target=manifest.target,
        checks=tuple(checks),
        floor={tower: floor for tower in manifest.towers if (floor := subject.floor(tower)) is not None},
        storage=subject.stored_weights,
        weights=tuple(row for tower in manifest.towers for row in subject.layers.get(tower, ())),
        notes=(*collapsed_towers(subject), *unlisted_note(subject)),
        gates=replaced_gates(subject),
        on_word=on_word(subject, checks),
    )


def _timed(check: Callable[P, Iterable[Check]], *of: P.args, **named: P.kwargs) -> Iterator[Check]:
    """Yields each check with its duration. If several checks are computed together, the first has the whole
    duration."""
    began = time.monotonic()
    for result in check(*of, **named):
        yield result.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
        began = time.monotonic()


def replaced_gates(subject: Subject) -> tuple[str, ...]:
    """Returns the gates of a bundle that differ from the defaults, in words."""
    towers = subject.bundle.manifest.towers
    return subject.gates.replaced((entry.precision, subject.floor(tower)) for tower, entry in towers.items())


def collapsed_towers(subject: Subject) -> tuple[str, ...]:
    """Returns a sentence for each tower whose reference embeddings hardly differ between inputs."""
    messages = (subject.evidence.reference.collapsed(tower) for tower in subject.bundle.manifest.towers)
    return tuple(text for text in messages if text is not None)


def check_structure(subject: Subject, tower: TowerName) -> list[Check]:
    """Checks the names, dtypes and shapes in the file against those that apps expect."""
    entry = subject.bundle.manifest.towers[tower]
    try:
        declared = subject.artifact(tower).ports
    except InvalidInput as error:
        return [Check(step="structure", tower=tower, status="failed", detail=str(error))]
    actual = tuple(TensorEntry.of(info) for info in declared)
    wrong = [
        f"{which} is {_short(have)}, wanted {_short(want)}"
        for which, have, want in zip(("input", "output"), actual, (entry.input, entry.output), strict=True)
        if (have.name, have.dtype, have.shape) != (want.name, want.dtype, want.shape)
        or have.colour not in (None, want.colour)  # ONNX has no field for colour
    ]
    detail = "; ".join(wrong) or f"{_short(entry.input)} -> {_short(entry.output)}"
    return [Check(step="structure", tower=tower, status="failed" if wrong else "passed", detail=detail)]


def check_semantic(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """Checks float32 stage by stage: the folded model, the tower, and the twin that the target converts and runs.

    A small mistake is visible here. In an artifact of lower precision, rounding would hide it.
    """
    if subject.source is None:
        yield Check.not_run("twin", tower, subject.needs_checkpoint)
        return
    reference, model = subject.evidence.reference, subject.source.model
    inputs, expected = reference.inputs.of(tower), subject.wanted(tower)
    engine = f"torch {torch.__version__}"
    floor = reference.floor[tower]
    exact = subject.gates.exact(floor, bool(subject.head.names))
    if not reference.folded:
        bound = subject.gates.exact(floor)
        folded = embed(model, tower, reference.inputs)
        yield Check.of_answers("folded", tower, reference.of(tower), folded, bound, engine)
    module = subject.head.module(model, tower)
    with torch.no_grad():
        prepared = torch.cat([module(batch) for batch in torch.from_numpy(inputs).split(32)]).numpy()
    yield Check.of_answers("tower", tower, expected, prepared, exact, engine)
    yield _twin(subject, tower, exact)


def _twin(subject: Subject, tower: TowerName, bound: Bound) -> Check:
    is_float32 = subject.precision(tower) == "fp32"
    if not is_float32 and not subject.thorough:
        return Check.not_wanted("twin", tower)
    try:
        path = None if is_float32 else subject.converted(tower, "fp32")
        runner = subject.runner(tower) if path is None else subject.target.open(path).runner()
    except NotRun as error:
        return Check.not_run("twin", tower, str(error))
    return _run("twin", subject, tower, runner, bound)


def check_shipped(subject: Subject, tower: TowerName) -> list[Check]:
    """Checks the artifact as written, at its own precision, on each engine here; the worst input counts.

    An engine that refuses the artifact is a check that was not run, if another engine accepts it.

    Raises:
        InvalidInput: the artifact is damaged.
        RuntimeFailed: no engine accepts it.
    """
    if subject.source is None and subject.head.names:
        # The artifact of a classifier contains no text tower to embed its labels again.
        return [Check.not_run("shipped", tower, subject.needs_checkpoint)]
    bound = subject.bound(tower)
    checks: list[Check] = []
    refusals: list[RuntimeFailed] = []
    artifact = subject.artifact(tower)
    for load in artifact.runners():
        try:
            runner = subject.runner(tower) if load == artifact.runner else load()
            checks.append(_run("shipped", subject, tower, runner, bound))
        except RuntimeFailed as error:
            refusals.append(error)
            checks.append(Check.not_run("shipped", tower, str(error)))
    subject.release_runner(tower)
    if len(refusals) == len(checks) and not isinstance(refusals[0], NotRun):
        raise refusals[0]
    if (untestable_part := artifact.unasked) is not None:
        checks.append(Check(step="shipped", tower=tower, status="not run", detail=untestable_part, left_out=True))
    return checks


TowerCheck = Callable[[Subject, TowerName], Iterable[Check]]

TOWER_CHECKS: tuple[tuple[str, TowerCheck, Callable[[Subject, TowerName], bool] | None], ...] = (
    ("structure", check_structure, None),
    ("float32 twin", check_semantic, None),
    ("stages", lambda subject, tower: subject.stages(tower), None),
    ("as written", check_shipped, None),
    ("pictures of other sizes", check_pictures, lambda subject, tower: tower == "image" and subject.form.pictures),
    ("shorter contexts", check_contexts, lambda subject, tower: tower == "text" and bool(subject.contexts)),
    ("weights", check_weights, None),
    ("graph with the stored weights", check_graph, None),
    (
        "quantized activations",
        check_activations,
        lambda subject, tower: precision_of(subject.precision(tower)).calibrated,
    ),
    ("converted again", check_reproduced, lambda subject, _: isinstance(subject, OpenedSubject)),
    ("what stands beside", check_attachments, lambda subject, _: isinstance(subject, OpenedSubject)),
    ("compiled for a place of a device", check_place, lambda subject, _: subject.place is not None),
)
"""Checks of each tower: the words of the progress line, the function, and a condition on the bundle (None: always). A
new check is a function here."""


def _run(step: str, subject: Subject, tower: TowerName, runner: Runner, bound: Bound) -> Check:
    """Runs the sampled inputs, and compares the worst deviation with its bound."""
    inputs, rows = subject.evidence.reference.inputs.of(tower), subject.asked(tower)
    try:
        answers = subject.answers(tower, runner)
    except InvalidInput as error:  # it accepts inputs of another shape
        return Check(step=step, tower=tower, status="failed", engine=runner.engine, detail=str(error))
    check = Check.of_answers(step, tower, subject.wanted(tower)[rows], answers, bound, runner.engine)
    if len(rows) == len(inputs):
        return check
    sample = f"{len(rows)} of {len(inputs)} inputs"
    return check.model_copy(update={"detail": sample if check.detail is None else f"{check.detail}; {sample}"})


def _short(entry: TensorEntry) -> str:
    shape = ", ".join(str(size) if size else "N" for size in entry.shape)
    return f"{entry.name} {entry.colour or ''}{' ' if entry.colour else ''}{entry.dtype} [{shape}]"
