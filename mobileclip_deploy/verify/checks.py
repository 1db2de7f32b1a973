"""The checks of a bundle, in the order in which they are run and reported."""

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
from mobileclip_deploy.verify.activations import check_activations
from mobileclip_deploy.verify.attachments import check_attachments
from mobileclip_deploy.verify.axes import check_fit
from mobileclip_deploy.verify.claims import check_contents, check_measured
from mobileclip_deploy.verify.companions import check_companions, check_golden, check_settings
from mobileclip_deploy.verify.files import check_files, unlisted_note
from mobileclip_deploy.verify.forms import check_contexts, check_pictures
from mobileclip_deploy.verify.graph import check_graph
from mobileclip_deploy.verify.on_word import on_word
from mobileclip_deploy.verify.own_checks import own_checks
from mobileclip_deploy.verify.places import check_place
from mobileclip_deploy.verify.relevance import check_relevance
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.requested import check_requested
from mobileclip_deploy.verify.subject import OpenedSubject, Subject
from mobileclip_deploy.verify.task import check_sampled, check_task
from mobileclip_deploy.verify.weights import check_weights

P = ParamSpec("P")


def verify_subject(subject: Subject) -> ParityReport:
    """Run every check that can be run here: those of the bundle as a whole, of each tower, and accuracy.

    Raises:
        InvalidInput: an artifact or a file beside it is damaged.
        RuntimeFailed: no engine takes an artifact.
    """
    checks: list[Check] = []
    if isinstance(subject, OpenedSubject):
        for check_beside in (check_files, check_requested, check_settings, check_companions, check_golden, check_fit):
            checks += _timed(check_beside, subject)
    checks += _timed(check_relevance, subject)
    subject.tell_time()
    for tower in subject.bundle.manifest.towers:
        for what, check, concerns in TOWER_CHECKS:
            if concerns is None or concerns(subject, tower):
                subject.tell(tower, what)
                checks += _timed(check, subject, tower)
        sound = not any(check.tower == tower and check.status == "failed" for check in checks)
        if isinstance(subject, OpenedSubject) and sound:  # of another file everything else is told
            checks += _timed(check_contents, subject, tower)
        for name, own in own_checks().items():
            subject.tell(tower, name)
            checks += _timed(own.checks, name, subject, tower, subject.gates.own_bound(name, own.bound))
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
    """Each check with its seconds; those of several that are made together count for the first."""
    began = time.monotonic()
    for found in check(*of, **named):
        yield found.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
        began = time.monotonic()


def replaced_gates(subject: Subject) -> tuple[str, ...]:
    """The gates that a bundle is judged by and that are not the defaults, in words."""
    towers = subject.bundle.manifest.towers
    return subject.gates.replaced((entry.precision, subject.floor(tower)) for tower, entry in towers.items())


def collapsed_towers(subject: Subject) -> tuple[str, ...]:
    """A sentence for each tower whose reference embeddings hardly differ between inputs."""
    found = (subject.evidence.reference.collapsed(tower) for tower in subject.bundle.manifest.towers)
    return tuple(text for text in found if text is not None)


def check_structure(subject: Subject, tower: TowerName) -> list[Check]:
    """Names, types and shapes that the file declares against those that apps expect."""
    entry = subject.bundle.manifest.towers[tower]
    try:
        declared = subject.artifact(tower).ports
    except InvalidInput as error:
        return [Check(step="structure", tower=tower, status="failed", detail=str(error))]
    found = tuple(TensorEntry.of(info) for info in declared)
    wrong = [
        f"{which} is {_short(have)}, wanted {_short(want)}"
        for which, have, want in zip(("input", "output"), found, (entry.input, entry.output), strict=True)
        if (have.name, have.dtype, have.shape) != (want.name, want.dtype, want.shape)
        or have.colour not in (None, want.colour)  # ONNX has no word for colour
    ]
    detail = "; ".join(wrong) or f"{_short(entry.input)} -> {_short(entry.output)}"
    return [Check(step="structure", tower=tower, status="failed" if wrong else "passed", detail=detail)]


def check_semantic(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """In float32, stage by stage: the folded model, the tower, and the twin that the target converts and runs.

    A small mistake shows here; in an artifact of lower precision it would drown in that precision's own rounding.
    """
    if subject.source is None:
        yield Check.not_run("twin", tower, subject.needs_checkpoint)
        return
    reference, model = subject.evidence.reference, subject.source.model
    inputs, wanted = reference.inputs.of(tower), subject.wanted(tower)
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
    yield Check.of_answers("tower", tower, wanted, prepared, exact, engine)
    yield _twin(subject, tower, exact)


def _twin(subject: Subject, tower: TowerName, bound: Bound) -> Check:
    own = subject.precision(tower) == "fp32"
    if not own and not subject.thorough:
        return Check.not_wanted("twin", tower)
    try:
        path = None if own else subject.converted(tower, "fp32")
        runner = subject.runner(tower) if path is None else subject.target.open(path).runner()
    except NotRun as error:
        return Check.not_run("twin", tower, str(error))
    return _run("twin", subject, tower, runner, bound)


def check_shipped(subject: Subject, tower: TowerName) -> list[Check]:
    """The artifact as written, at its own precision, worst over the inputs, on each engine there is here.

    An engine that refuses the artifact is a check that was not run, as long as another one takes it.

    Raises:
        InvalidInput: the artifact is damaged.
        RuntimeFailed: no engine takes it.
    """
    if subject.source is None and subject.head.names:
        # The artifact of a classifier holds no text tower that could embed its labels again.
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
    if (unasked := artifact.unasked) is not None:
        checks.append(Check(step="shipped", tower=tower, status="not run", detail=unasked, left_out=True))
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
"""What is checked of each tower, in which words progress tells it, and which bundles it concerns, None for all. A new
check is a function here."""


def _run(step: str, subject: Subject, tower: TowerName, runner: Runner, bound: Bound) -> Check:
    """Run every input that is asked of the runtime, and compare the worst with its bound."""
    inputs, rows = subject.evidence.reference.inputs.of(tower), subject.asked(tower)
    try:
        found = subject.answers(tower, runner)
    except InvalidInput as error:  # it takes something of another shape
        return Check(step=step, tower=tower, status="failed", engine=runner.engine, detail=str(error))
    check = Check.of_answers(step, tower, subject.wanted(tower)[rows], found, bound, runner.engine)
    if len(rows) == len(inputs):
        return check
    told = f"{len(rows)} of {len(inputs)} inputs"
    return check.model_copy(update={"detail": told if check.detail is None else f"{check.detail}; {told}"})


def _short(entry: TensorEntry) -> str:
    shape = ", ".join(str(size) if size else "N" for size in entry.shape)
    return f"{entry.name} {entry.colour or ''}{' ' if entry.colour else ''}{entry.dtype} [{shape}]"
