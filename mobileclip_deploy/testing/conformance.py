"""Promises of a target, checked one by one: it writes a small network, describes its output, runs it, and refuses
damage. The checks must also see a wrong weight in its files.

A promise is a function that yields a sentence for each way in which it is broken. Promises that cannot be checked on
this machine, for want of an engine, say, are reported as skipped.
"""

import copy
import getpass
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from mobileclip_deploy import Bundle, ParityReport
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed, UsageError
from mobileclip_deploy.export.door import sampled_evidence
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import ExportRequest, Writing
from mobileclip_deploy.export.steps import unverified_bundle
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.precision import is_precision, precision_of
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.variants import TOWERS, TokenizerSpec, TowerName, Variant, load_variant
from mobileclip_deploy.targets import Artifact, Target, TowerJob, get_target, restored_target
from mobileclip_deploy.targets.benchmarking import SessionSetup
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.values import Form, Shared
from mobileclip_deploy.verify.inspect.inspection import inspect
from mobileclip_deploy.verify.subject import Evidence

UNKNOWN = "fp5"
# Minimum cosine between outputs of rounded random weights and the exact ones (0.77 at 4 bits with half of the weights
# pruned). Another network has a cosine around 0.
NEAR = 0.5
# Fields that are smaller than nano's; name and preprocessing are nano's.
IMAGE = {
    "depths": [1, 1],
    "widths": [16, 64],
    "mixers": ["repmixer", "attention"],
    "mlp_ratios": [2, 2],
    "positional": [False, True],
    "squeeze_excite": [False, True],
}
# With a width of 32, one block with half of its weights pruned has a cosine below NEAR (0.45).
TEXT = {"width": 48, "heads": 3, "depth": 1}
TOKENS = TokenizerSpec.from_merges(["p h", "ph o", "pho t", "phot o</w>", "o f</w>"], context_length=32)
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "foreign": lambda data: b"P" * 999,
}


@dataclass
class Trial:
    """A target under test and its output: a bundle for each precision, with the report of its checks.

    `precisions`: those that are exported, each with the towers that support it. `thorough`: False leaves out what
    converts more than once. `skipped`: checks that could not run.
    """

    target: Target
    source: Source
    evidence: Evidence
    folder: Path
    precisions: dict[str, dict[TowerName, str]]
    thorough: bool = True
    bundles: dict[str, Bundle] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def write(
        self,
        name: str,
        precisions: dict[TowerName, str],
        spoil: Callable[[TowerJob], TowerJob] | None = None,
        thorough: bool = True,
    ) -> tuple[Bundle, ParityReport]:
        """Writes a bundle by all steps of an export, including the checks, which do not know of a spoiled job.

        `thorough`: False leaves out the checks that convert once more.
        """
        target = copy.copy(self.target.settled(precisions))
        if spoil is not None:
            write = target.write
            vars(target)["write"] = lambda job, path: write(spoil(job), path)
        request = ExportRequest((target.label,), writing=Writing(allow_failing=True))
        plan = BundlePlan(self.folder / name, target, precisions, request)
        with unverified_bundle(plan, self.source, self.evidence) as work:
            work.subject.thorough = thorough
        assert work.report is not None
        return work.written.bundle, work.report

    def artifacts(self) -> Iterator[tuple[str, TowerName, Artifact]]:
        """Yields precision, tower and artifact of every bundle's towers, opened by the target that the bundle's
        manifest restores."""
        for precision, bundle in self.bundles.items():
            target = restored_target(bundle.manifest.target, bundle.manifest.options)
            for tower, entry in bundle.manifest.towers.items():
                yield precision, tower, target.open(bundle.artifact(tower), entry.function)

    def inputs(self, tower: TowerName) -> np.ndarray:
        """Returns three inputs of a tower."""
        return self.evidence.reference.inputs.of(tower)[:3]


def check_target(
    target: Target, precisions: Sequence[str] | None = None, towers: Sequence[TowerName] = TOWERS, thorough: bool = True
) -> tuple[str, ...]:
    """Checks a target against the promises of `Target`, on a small network of random weights.

    Args:
        precisions: those to export; None for all that the target names.
        towers: those to export.
        thorough: False converts once: it does not check that a second export is equal and that a wrong weight is seen.

    Returns:
        A sentence for each check that could not run on this machine, with the reason.

    Raises:
        AssertionError: promises are broken; it has one line per broken promise.
        DependencyMissing: a package that writes or reads the format is not installed.
    """
    target.require_installed(converters=True)
    source = small_source()
    evidence = sampled_evidence(source.model)
    accepted = {name: _accepted(target, name, towers) for name in precisions or target.capabilities.storing.precisions}
    with temporary_folder() as folder:
        trial = Trial(target, source.folded(), evidence, folder, accepted, thorough)
        broken = [f"{target.label}: {text}" for promise in PROMISES for text in promise(trial)]
    if broken:
        raise AssertionError("\n".join(broken))
    return tuple(trial.skipped)


def _accepted(target: Target, precision: str, towers: Sequence[TowerName]) -> dict[TowerName, str]:
    """Returns the towers that support the precision, each with it."""
    accepted: dict[TowerName, str] = {}
    for tower in towers:
        try:
            target.require({tower: precision})
        except UsageError:
            continue
        accepted[tower] = precision
    return accepted


def it_is_registered_under_its_name(trial: Trial) -> Iterator[str]:
    target, suffixes, storing = (
        trial.target,
        trial.target.capabilities.formats.suffixes,
        trial.target.capabilities.storing,
    )
    if type(get_target(target.label)) is not type(target):
        yield f"the registry gives another target for {target.label!r}"
    if target.name != target.name.casefold() or not target.title:
        yield "`name` has capitals, or `title` is empty"
    if odd := [suffix for suffix in suffixes if not suffix.startswith(".") or suffix != Path(f"x{suffix}").suffix]:
        yield f"`suffixes` has {odd[0]!r}, which is not a file suffix"
    if odd := [name for name in storing.precisions if not is_precision(name)]:
        yield f"`precisions` has {odd[0]!r}, which is not a precision"
    if storing.default_precision not in storing.precisions:
        yield f"`default_precision` {storing.default_precision!r} is not in `precisions`"


def its_files_are_inside_the_bundle(trial: Trial) -> Iterator[str]:
    for precision in trial.precisions:
        names = [trial.target.artifact_name(trial.source.variant, kind, precision) for kind in (*TOWERS, "classifier")]
        if len({*names}) < len(names):
            yield f"artifacts of one bundle have the same name: {', '.join(names)}"
        for name in map(PurePosixPath, names):
            if name.is_absolute() or ".." in name.parts:
                yield f"{name} is outside of a bundle"
            if name.suffix not in trial.target.capabilities.formats.suffixes:
                yield f"{name} does not end with one of `suffixes`, so `inspect` does not recognise it"


def what_it_lacks_is_refused_in_one_line(trial: Trial) -> Iterator[str]:
    if trial.target.has({"image": UNKNOWN}):
        yield f"it has the precision {UNKNOWN!r}"
    try:
        trial.target.require({"image": UNKNOWN})
    except UsageError as error:
        if trial.target.capabilities.storing.default_precision not in error.line or "\n" in str(error):
            yield f"its refusal does not list its precisions in one line: {error}"
    else:
        yield f"it does not refuse the precision {UNKNOWN!r}"
    if odd := [name for name, towers in trial.precisions.items() if not towers]:
        yield f"it names {', '.join(odd)} and refuses it for every tower"


def its_options_come_back_from_the_manifest(trial: Trial) -> Iterator[str]:
    usual = trial.target.options
    turned = [option.name for option in fields(usual) if isinstance(option.default, bool)]
    for options in (usual, *(replace(usual, **{name: not getattr(usual, name)}) for name in turned)):
        if type(usual).restored(options.recorded()) != options:
            yield f"{options} comes back as {type(usual).restored(options.recorded())}"


def its_bundles_pass_their_checks(trial: Trial) -> Iterator[str]:
    """Checks structure, outputs, weights, storage, graph and rounded activations: the checks of an export."""
    for precision, precisions in trial.precisions.items():
        if not precisions:
            continue
        trial.bundles[precision], report = trial.write(precision, precisions, thorough=trial.thorough)
        for check in report.checks:
            text = f"{precision}, {check.tower} tower, {check.step}: {check.describe()}"
            # The loss of random weights at a precision is not the target's fault.
            rounded = check.step == "shipped" and precision_of(precision).metric == "cosine"
            near = check.deviation is not None and check.deviation.cosine > NEAR
            if check.status == "failed" and not (rounded and near):
                yield text
            elif check.status != "passed":
                trial.skipped.append(text)


def the_same_job_gives_the_same_artifact(trial: Trial) -> Iterator[str]:
    """Checks that a second export is equal, even if all precisions share state: no job may change the shared state."""
    shared: dict[TowerName, Shared] = {tower: Shared() for tower in TOWERS}
    for precision, tower, artifact in trial.artifacts() if trial.thorough else ():
        path = trial.folder / "again" / precision / artifact.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        target = trial.target.settled(trial.precisions[precision])
        form = Form(pads_inside=target.capabilities.ports.pads_inside)
        target.write(replace(tower_job(trial.source, tower, precision, form=form), shared=shared[tower]), path)
        if contents_of(path) == contents_of(artifact.path):
            continue
        first, second = artifact.graph, target.open(path).graph
        if first is None or second is None:
            yield f"{precision}: a second {tower} tower has other bytes, and `graph` cannot explain the difference"
        elif (difference := first_difference(first, second)) is not None:
            yield f"{precision}: a second {tower} tower is another graph: {difference.describe()}"


def its_artifacts_tell_what_they_are(trial: Trial) -> Iterator[str]:
    for precision, tower, artifact in trial.artifacts():
        if not artifact.operators or min(artifact.operators.values()) < 1:
            yield f"{precision}: `operators` of the {tower} tower are {artifact.operators}"
        if not inspect(artifact.path).as_dict().get("bytes"):
            yield f"{precision}: `inspect` gives no size of the {tower} tower"
        words = names_machine(artifact.path)
        yield from (f"{precision}: the {tower} tower names this machine: {word}" for word in words)


def its_runner_answers_alike_alone_and_in_a_batch(trial: Trial) -> Iterator[str]:
    for precision, tower, artifact in trial.artifacts():
        inputs, width = trial.inputs(tower), trial.evidence.reference.of(tower).shape[1:]
        try:
            runner = artifact.runner()
        except NotRun as error:
            trial.skipped.append(f"{precision}, {tower} tower, runner: {error}")
            continue
        first = runner(inputs)
        copied = first.copy()
        # Ranges of activations that are measured at run time depend on the batch (0.008 in ONNX Runtime).
        room = 0.05 if precision_of(precision).calibrated else 1e-3
        alone = np.concatenate([runner(inputs[number : number + 1]) for number in range(len(inputs))])
        if first.dtype != np.float32 or first.shape != (len(inputs), *width) or not runner.engine:
            yield f"{precision}: the {tower} runner gives {first.dtype} {first.shape}, engine {runner.engine!r}"
        elif not np.array_equal(first, copied):
            yield f"{precision}: a later call of the {tower} runner changes an earlier result"
        elif np.abs(alone - first).max() > room * np.abs(first).max():
            yield f"{precision}: the {tower} runner gives different results for a single input and a batch"


def its_session_answers_as_its_runner_does(trial: Trial) -> Iterator[str]:
    for precision, tower, artifact in trial.artifacts():
        inputs = trial.inputs(tower)[:1]
        try:
            for place in trial.target.places("host", trial.bundles[precision].manifest.options):
                session = artifact.session(SessionSetup(place, 1, *artifact.ports))
                session.feed(inputs)
                session.run()
                apart = np.abs(session.answer() - artifact.runner()(inputs)[0]).max()
                if not apart <= 1e-2 * np.abs(session.answer()).max():
                    yield f"{precision}: the {tower} tower's session gives other results than its runner"
        except NotRun as error:
            trial.skipped.append(f"{precision}, {tower} tower, session: {error}")


def damage_is_refused_in_one_line(trial: Trial) -> Iterator[str]:
    """Damages one artifact: reading a file does not depend on its precision."""
    for precision, tower, artifact in list(trial.artifacts())[:1]:
        for text in not_refused(trial.target, artifact.path, trial.folder / "damaged"):
            yield f"{precision}, {tower} tower: {text}"


def a_wrong_number_is_seen(trial: Trial) -> Iterator[str]:
    for precision, tower, artifact in list(trial.artifacts())[: int(trial.thorough)]:
        readable = artifact.weights is not None
        spoil = partial(_spoiled, numbers=1 if readable else None)
        _, report = trial.write("wrong", {tower: precision}, spoil, thorough=not readable)
        if not report.failed:
            yield f"{precision}: no check of the {tower} tower fails if a weight is wrong"
        if readable and "weights" not in {check.step for check in report.failed}:
            yield f"{precision}: one wrong element of the {tower} tower is not detected by `weights`"


def _spoiled(job: TowerJob, numbers: int | None) -> TowerJob:
    """Returns the job with `numbers` wrong elements (None: all) in the first row of its tower's largest weight."""
    module = copy.deepcopy(job.module)
    weight = max((value for value in module.parameters() if value.dim() > 1), key=torch.numel)
    with torch.no_grad():
        weight.view(len(weight), -1)[0][:numbers].neg_().sub_(weight.abs().max())
    return replace(job, module=module, shared=None)


def small_source() -> Source:
    """Makes a network with every kind of block that converts in seconds: the built-in one, narrower and shorter, with
    random weights, in training form."""
    data = load_variant("nano").model_dump(mode="json")
    card = data | {"embed_dim": 24, "image": data["image"] | IMAGE, "text": data["text"] | TEXT, "tokenizer": TOKENS}
    network = build_model(Variant.model_validate(card)).eval().requires_grad_(False)
    drawn = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        _draw(name, parameter, drawn)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):  # of training
            buffer.add_(torch.rand(buffer.shape, generator=drawn), alpha=0.1)
    network.provenance = Provenance(
        variant="nano", layout="apple", sha256="0" * 64, file="small", licence="none", research_only=False
    )
    return Source.of(network)


def _draw(name: str, value: Tensor, drawn: torch.Generator) -> None:
    """Draws a parameter so that values keep their size through the layers, and every layer affects the outputs."""
    if "scale" in name.rpartition(".")[2]:
        value.uniform_(0.1, 0.3, generator=drawn)
    elif "embedding" in name:
        value.normal_(std=0.3, generator=drawn)
    elif value.dim() > 1:  # [out, in, ...]
        value.normal_(std=value[0].numel() ** -0.5, generator=drawn)
    elif name.endswith("weight"):
        value.uniform_(0.8, 1.2, generator=drawn)
    else:
        value.normal_(std=0.05, generator=drawn)


def names_machine(path: Path) -> list[str]:
    """Returns the words in an artifact that reveal the machine or folder where it was written."""
    words = [str(Path.cwd()), "site-packages", "/home/", "/tmp/", f"/{getpass.getuser()}/"]
    contents = contents_of(path).values()
    return [word for word in words if any(word.encode() in content for content in contents)]


def contents_of(path: Path) -> dict[Path, bytes]:
    """Returns the bytes of a file, or of all files in a package by their relative paths."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path): file.read_bytes() for file in files}


def not_refused(target: Target, path: Path, folder: Path) -> Iterator[str]:
    """Yields a sentence for each read of a damaged artifact that is not refused in one line.

    Copies of the artifact get their largest file damaged. A read of another file may succeed; a runner may not.
    """
    contents = contents_of(path)
    largest = max(contents, key=lambda file: len(contents[file]))
    for kind, damage in DAMAGES.items():
        other = folder / kind / path.name
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(path, other) if path.is_dir() else shutil.copy(path, other)
        (other / largest).write_bytes(damage(contents[largest]))
        for name in ("ports", "operators", "inspection", "graph", "weights", "runner"):
            subject, runs = f"`{name}` of a file that is {kind}", name == "runner"
            try:
                value = target.open(other).runner() if runs else getattr(target.open(other), name)
            except (InvalidInput, RuntimeFailed) as error:
                if "\n" in str(error):
                    yield f"{subject} is refused in several lines: {error}"
                if not isinstance(error, InvalidInput) and not runs:
                    yield f"{subject} does not raise InvalidInput: {error}"
            except Exception as error:  # whatever a library makes of it
                yield f"{subject} ends in {type(error).__name__}: {error}"
            else:
                if runs or (value is not None and not path.is_dir()):
                    yield f"{subject} is not refused"


PROMISES: tuple[Callable[[Trial], Iterator[str]], ...] = (
    it_is_registered_under_its_name,
    its_files_are_inside_the_bundle,
    what_it_lacks_is_refused_in_one_line,
    its_options_come_back_from_the_manifest,
    its_bundles_pass_their_checks,
    the_same_job_gives_the_same_artifact,
    its_artifacts_tell_what_they_are,
    its_runner_answers_alike_alone_and_in_a_batch,
    its_session_answers_as_its_runner_does,
    damage_is_refused_in_one_line,
    a_wrong_number_is_seen,
)
"""Promises in order: those after `its_bundles_pass_their_checks` use the bundles that it wrote."""
