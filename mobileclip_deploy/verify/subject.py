"""A bundle under verification. Each of its files is opened once, and all checks share it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle, TowerEntry
from mobileclip_deploy.artifacts.bundle.head import head_of, stored_answers
from mobileclip_deploy.artifacts.bundle.opening import SEARCH_LOG
from mobileclip_deploy.artifacts.heads.labels import labels_json
from mobileclip_deploy.artifacts.towers.calibration import calibration_digest
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import REASON, DependencyMissing, InvalidInput, NotRun, RuntimeFailed, reraising
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import Measurement
from mobileclip_deploy.evaluation.looks import Looks
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Bound, Check, Gates, StoredWeights
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.parity.report import StoredLayer
from mobileclip_deploy.targets import Artifact, Form, Runner, Target, restored_target
from mobileclip_deploy.targets.quantized import QuantizedFile
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.values import Shared
from mobileclip_deploy.verify.instruments.pace import PrefetchedAnswers, duration_notice, sampled_rows

if TYPE_CHECKING:
    from torch import nn

    from mobileclip_deploy.network.checkpoints.source import Source
    from mobileclip_deploy.targets.storage import Storage
    from mobileclip_deploy.verify.instruments.matching import Matched
    from mobileclip_deploy.verify.instruments.quantized import Location

# What needs the checkpoint imports torch in the method that uses it: files and stored answers are checked without.


@dataclass(frozen=True)
class SampledReference:
    """A sample of a dataset with `total` images, and the checkpoint's measurement of each sampled image."""

    dataset: Dataset
    checkpoint: Measurement
    total: int


@dataclass(frozen=True)
class Evidence:
    """Results of the checkpoint that bundles are compared with: answers to real inputs, and accuracy if it is measured.
    Accuracy is measured on a whole dataset (`task`) or on a sample (`sampled`). `cut`: accuracy lost by smaller
    embeddings."""

    reference: Reference
    task: Looks | None = None
    sampled: SampledReference | None = None
    cut: Check | None = None


@dataclass
class Subject:
    """A bundle under verification, and the data that it is compared with.

    Attributes:
        source: the folded checkpoint; None if it is not available.
        folder: receives the artifacts that are converted again.
        calibration: folder of the calibration images, if the user's own were used.
        thorough: convert again and measure accuracy on the whole dataset.
        place: device that artifacts are also compiled for; None for no device.
        name: name in progress lines and in the report.
        shared: data that the export's conversions of a tower share.
    """

    bundle: Bundle
    evidence: Evidence
    gates: Gates
    folder: Path
    source: Source | None = None
    calibration: Path | None = None
    thorough: bool = True
    place: str | None = None
    name: str = ""
    progress: Progress = silent
    shared: Mapping[TowerName, Shared] = field(default_factory=dict)
    _prefetched: PrefetchedAnswers | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.name = self.name or self.bundle.path.name

    @cached_property
    def towers(self) -> dict[TowerName, TowerProof]:
        """Towers of the bundle, each with the data of its checks."""
        return {name: TowerProof(self, name, self.shared.get(name, Shared())) for name in self.bundle.manifest.towers}

    @property
    def complete(self) -> bool:
        """True if the bundle has both towers, so that accuracy can be measured."""
        return set(self.bundle.manifest.towers) == set(TOWERS)

    @property
    def slow(self) -> bool:
        """True if the target's runtime is so slow that it runs only a sample of the inputs."""
        return self.target.capabilities.places.slow_runtime is not None

    @property
    def needs_checkpoint(self) -> str:
        """Reason why a check was not run without the checkpoint."""
        return f"needs the checkpoint {self.bundle.manifest.checkpoint.file}; give it with `checkpoint`"

    @cached_property
    def facts(self) -> dict[TowerName, dict[str, str]]:
        """Facts about each artifact in words, from the target."""
        return {name: tower.artifact.facts for name, tower in self.towers.items()}

    @cached_property
    def target(self) -> Target:
        """The target that wrote the bundle, with the options that the manifest records. Bundles until 0.3 recorded
        optional files only as attachments of a tower."""
        manifest = self.bundle.manifest
        kinds = {kind: "on" for entry in manifest.towers.values() for kind in entry.attachments or {}}
        return restored_target(manifest.target, kinds | manifest.options)

    @cached_property
    def head(self) -> Head:
        """The head of the artifacts: normalised or not, or a classifier's labels."""
        return head_of(self.bundle)

    @cached_property
    def form(self) -> Form:
        """Requested form of the artifacts, apart from their weights."""
        manifest = self.bundle.manifest
        image = manifest.towers.get("image")
        pictures = image is not None and image.input.any_size
        text = manifest.towers.get("text")
        pads_inside = text is not None and bool(text.pads_inside)
        return Form(len(self.head.names), self.head.normalised, pictures, manifest.layout, self.contexts, pads_inside)

    @property
    def contexts(self) -> tuple[int, ...]:
        """Lengths in tokens that the text tower accepts, ascending; empty for a single length."""
        text = self.bundle.manifest.towers.get("text")
        return () if text is None else text.contexts or ()

    @cached_property
    def stored_weights(self) -> tuple[StoredWeights, ...]:
        """Storage of the weights of all towers."""
        return tuple(row for tower in self.towers.values() for row in tower.stored_weights)

    def report_duration(self) -> None:
        """Reports the expected duration of a slow runtime, before the runtime starts."""
        manifest = self.bundle.manifest
        precisions = {name: tower.precision for name, tower in self.towers.items()}
        notice = duration_notice(self.target, manifest.variant, manifest.preprocess.size, precisions, self.thorough)
        if self._prefetched is None and notice is not None:
            self.progress(f"{self.name}: {notice}")

    def prefetch(self) -> None:
        """Starts to compute the answers of the written artifacts in a background thread. Does nothing if the runtime is
        fast."""
        if not self.slow:
            return
        self.report_duration()
        requests: dict[TowerName, tuple[Runner, npt.NDArray[np.generic]]] = {}
        for name, tower in self.towers.items():
            with contextlib.suppress(InvalidInput, RuntimeFailed):  # its check hits the same error and reports it
                requests[name] = (tower.runner, tower.inputs[tower.sampled_rows(tower.inputs)])
        self._prefetched = PrefetchedAnswers(requests)

    def prefetched(self, tower: TowerName) -> npt.NDArray[np.float32] | None:
        """Returns the prefetched answers of a tower, and waits for them. None if there are none."""
        return None if self._prefetched is None else self._prefetched.answers(tower)

    def close(self) -> None:
        """Cancels pending background answers, and releases the towers. Without it, these would live until the garbage
        collector finds the cycle of references."""
        if self._prefetched is not None:
            self._prefetched.stop()
        self.towers.clear()


@dataclass
class WrittenSubject(Subject):
    """A bundle that this process has just written.

    Attributes:
        measured: checks of the conversion's stages, measured during the conversion.
        mixed: the layers of each tower that a search stored at 4 bits.
    """

    measured: Mapping[TowerName, tuple[Check, ...]] = field(default_factory=dict)
    mixed: Mapping[TowerName, frozenset[str]] = field(default_factory=dict)


@dataclass
class OpenedSubject(Subject):
    """An opened bundle, whose files next to the artifacts are checked too.

    Attributes:
        fresh: the checkpoint's own answers to the bundle's inputs, computed before folding: see `compute_again`;
            None if the checkpoint is not available.
        again: axes of a fit that was repeated now, and its record for the manifest; None if no fit was requested.
    """

    fresh: Reference | None = None
    again: tuple[Axes, Compacted] | None = None

    @cached_property
    def stored(self) -> Reference:
        """The inputs and answers in the bundle."""
        return Reference.read(self.bundle.golden)


@dataclass
class TowerProof:
    """A tower under verification. Its file is opened once, and all checks share the data here.

    Attributes:
        shared: data that the conversions of the tower share.
        matched: which weight of the file belongs to which layer, set by the check of weights; None before it.
        unreadable: the check of weights found that the format's weights cannot be read one by one.
        layers: deviation of each layer from its weight, set by the check of weights.
        locations: where torch computes the values that the file quantizes, set by the check of activations.
        converted: artifacts that were converted again, by precision.
    """

    subject: Subject
    name: TowerName
    shared: Shared
    matched: tuple[Matched, ...] | None = None
    unreadable: bool = False
    layers: tuple[StoredLayer, ...] = ()
    locations: Sequence[tuple[Location, ...]] = ()
    converted: dict[str, Path] = field(default_factory=dict)
    _runner: Runner | None = field(init=False, default=None)
    _answers: npt.NDArray[np.float32] | None = field(init=False, default=None)

    def announce(self, step: str) -> None:
        """Reports which check starts now."""
        self.subject.progress(f"{self.subject.name}: {self.name} tower, {step}")

    @property
    def entry(self) -> TowerEntry:
        """Entry of the tower in the manifest."""
        return self.subject.bundle.manifest.towers[self.name]

    @property
    def precision(self) -> str:
        """Precision in which the artifact stores its weights."""
        return self.entry.precision

    @property
    def floor(self) -> float | None:
        """Noise floor: of the checkpoint if available, else the floor measured at export."""
        if self.subject.source is not None:
            return self.subject.evidence.reference.floor.get(self.name)
        recorded = self.subject.bundle.measurements
        return None if recorded is None else recorded.floor.get(self.name)

    @property
    def bound(self) -> Bound:
        """Gate for the answers of the artifact."""
        return self.subject.gates.shipped(self.precision, self.floor, bool(self.subject.head.names))

    @property
    def exact_bound(self) -> Bound:
        """Gate for the answers in float32, with the floor of the checkpoint."""
        subject = self.subject
        return subject.gates.exact(subject.evidence.reference.floor[self.name], bool(subject.head.names))

    @property
    def inputs(self) -> npt.NDArray[np.generic]:
        """Inputs of the reference, [N, ...]."""
        return self.subject.evidence.reference.inputs.of(self.name)

    @property
    def expected(self) -> npt.NDArray[np.float32]:
        """Expected answers to the reference's inputs: [N, D], or probabilities [N, L].

        Raises:
            InvalidInput: the reference has no embeddings of the tower.
        """
        head, reference = self.subject.head, self.subject.evidence.reference
        if self.subject.source is None:  # new probabilities need the checkpoint's text tower
            return stored_answers(head, reference, self.name)
        return head.answers(self.subject.source.model, reference.of(self.name))

    @cached_property
    def artifact(self) -> Artifact:
        """The artifact, opened once for all checks."""
        return self.subject.target.open(self.subject.bundle.artifact(self.name), self.entry.function)

    @property
    def chosen(self) -> Mapping[str, str]:
        """SHA-256 of every weight with learned rounding, by layer; empty without learned rounding."""
        rounding = self.subject.bundle.manifest.rounding
        if rounding is None or self.name not in rounding.towers:
            return {}
        return rounding.towers[self.name].layers

    @property
    def four_bit(self) -> frozenset[str]:
        """Layers at 4 bits, if the precision is "mixed". Those of an opened bundle are in its search log."""
        subject = self.subject
        if self.precision != "mixed":
            return frozenset()
        layers = subject.mixed if isinstance(subject, WrittenSubject) else subject.bundle.four_bit
        return layers.get(self.name, frozenset())

    @cached_property
    def module(self) -> nn.Module:
        """The tower of the folded checkpoint with its head, as it was converted. With learned rounding, the tower
        before its weights were put on their grids.

        Raises:
            InvalidInput: the learned floats cannot be read.
        """
        subject = self.subject
        assert subject.source is not None
        if not self.chosen:
            return subject.head.module(subject.source.model, self.name)
        from mobileclip_deploy.verify.instruments.learned_rounding import read_floats, tower_to_round

        module = tower_to_round(
            subject.source, self.name, subject.target, self.name == "text" and bool(subject.contexts)
        )
        read_floats(subject.bundle, self.name, module)
        return module

    @property
    def grids(self) -> Storage:
        """Expected storage of each tensor."""
        return storage_of(self.subject.target, self.name, self.module, self.precision, self.four_bit)

    @property
    def stored_weights(self) -> tuple[StoredWeights, ...]:
        """Storage of the weights: one row per grid, most bytes first; empty without the checkpoint."""
        if self.missing_for_conversion() is not None:
            return ()
        from mobileclip_deploy.targets.storage import summary

        return tuple(StoredWeights(tower=self.name, **vars(row)) for row in summary(self.module, self.grids))

    @property
    def runner(self) -> Runner:
        """The loaded artifact, which stays loaded until `release_runner`.

        Raises:
            NotRun, RuntimeFailed: no runtime here can run it.
        """
        if self._runner is None:
            self._runner = self.artifact.runner()
        return self._runner

    def release_runner(self) -> None:
        """Unloads the artifact, since a runtime may hold the weights twice. `runner` loads it again."""
        self._runner = None

    def runner_for_all(self) -> Runner:
        """Returns the runner for all images of a dataset: see `fast_runner`."""
        if not self.subject.slow:
            return self.runner
        from mobileclip_deploy.verify.instruments.stored_tower import fast_runner, stored_runner

        def stored() -> Runner | None:
            return None if self.matched is None else stored_runner(self.module, self.matched, self.grids)

        return fast_runner(self.subject.target, self.artifact, stored) or self.runner

    def sampled_rows(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
        """Returns the ascending indices of the inputs [N, ...] that the runtime runs."""
        manifest = self.subject.bundle.manifest
        size, thorough = manifest.preprocess.size, self.subject.thorough
        return sampled_rows(self.subject.target, manifest.variant, size, self.name, inputs, thorough)

    def answers(self, runner: Runner) -> npt.NDArray[np.float32]:
        """Returns a runner's answers to the sampled inputs. The artifact itself runs only once.

        Raises:
            InvalidInput: the runner takes inputs of another shape.
        """
        is_artifact = runner is self._runner
        if is_artifact and self._answers is not None:
            return self._answers
        outputs = self.subject.prefetched(self.name) if is_artifact else None
        if outputs is None:
            outputs = runner(self.inputs[self.sampled_rows(self.inputs)])
        if is_artifact:
            self._answers = outputs
        return outputs

    def check_answers(self, step: str, runner: Runner, bound: Bound) -> Check:
        """Runs the sampled inputs, and compares the worst deviation with its bound."""
        total, rows = len(self.inputs), self.sampled_rows(self.inputs)
        try:
            answers = self.answers(runner)
        except InvalidInput as error:  # it accepts inputs of another shape
            return Check.failed(step, self.name, str(error), runner.engine)
        check = Check.of_answers(step, self.name, self.expected[rows], answers, bound, runner.engine)
        if len(rows) == total:
            return check
        sample = f"{len(rows)} of {total} inputs"
        return check.model_copy(update={"detail": sample if check.detail is None else f"{check.detail}; {sample}"})

    @cached_property
    def quantized(self) -> QuantizedFile | None:
        """The artifact opened for activation tracing. None if its precision keeps activations in float.

        Raises:
            NotRun, RuntimeFailed: no runtime here can run it.
            InvalidInput: it is damaged, or its quantization parameters are not in the file.
        """
        return self.artifact.quantized() if precision_of(self.precision).calibrated else None

    def drop(self) -> None:
        """Drops all data that is as large as the file, after the checks. Keeps the data needed to measure accuracy."""
        self.artifact.drop()
        self.release_runner()
        self.__dict__.pop("quantized", None)
        evidence = self.subject.evidence
        measured = evidence.task is not None or evidence.sampled is not None
        if not self.subject.slow or not measured:  # else torch measures with these weights
            self.matched = None

    def missing_for_conversion(self) -> str | None:
        """Returns a text that names the missing input of a conversion: the checkpoint, the calibration images, or the
        layers that a search chose. None if nothing is missing.

        Raises:
            InvalidInput: the given folder contains other images.
        """
        if self.subject.source is None:
            return self.subject.needs_checkpoint
        bundle, folder = self.subject.bundle, self.subject.calibration
        options = bundle.manifest.options
        if self.precision == "mixed" and not self.four_bit:
            return f"needs {SEARCH_LOG}, which lists the layers of 4 bits; it is not in the bundle"
        if not precision_of(self.precision).calibrated or "calibration" not in options:
            return None
        if folder is None:
            images = options["calibration"]
            return f"needs the images in {images!r} that it was calibrated on; give them with `calibration`"
        if options.get("calibration_sha256") != calibration_digest(folder):
            raise InvalidInput(f"{folder} does not contain the images that {bundle.path.name} was calibrated on")
        return None

    def convert(self, precision: str | None = None) -> Path:
        """Returns the tower's artifact, converted again with the bundle's options, at its own or another precision.

        Raises:
            NotRun: the packages that write this format are not installed.
            ExportError: the converter failed.
        """
        from mobileclip_deploy.targets.jobs import tower_job
        from mobileclip_deploy.verify.instruments.learned_rounding import with_stored

        subject, precision = self.subject, precision or self.precision
        assert subject.source is not None
        with reraising(REASON, DependencyMissing, into=NotRun):  # a bundle can be read and run without
            subject.target.require_installed(converters=True)
        if precision not in self.converted:
            form, calibration = subject.form, subject.calibration
            job = tower_job(subject.source, self.name, precision, head=subject.head, form=form, calibration=calibration)
            job = replace(job, four_bit=self.four_bit, shared=self.shared)
            if self.chosen and precision == self.precision:
                job = replace(job, module=with_stored(self.module, self.matched or (), self.chosen), shared=None)
            path = subject.folder / precision / subject.target.artifact_name(job.variant, job.artifact, precision)
            path.parent.mkdir(parents=True, exist_ok=True)
            subject.target.write(job, path)
            if subject.head.names:  # Core ML's own runner reads the labels' order next to the package
                (path.parent / "labels.json").write_text(labels_json(subject.head.names), encoding="utf-8")
            self.converted[precision] = path
            # An export converts the float32 twin alone, and a verification the artifact, too.
            last = {"fp32"} if isinstance(subject, WrittenSubject) else {"fp32", self.precision}
            if last <= self.converted.keys():
                self.shared.clear()
        return self.converted[precision]


def replaced_gates(subject: Subject) -> tuple[str, ...]:
    """Returns the gates of a bundle that differ from the defaults, in words."""
    return subject.gates.replaced((tower.precision, tower.floor) for tower in subject.towers.values())


def collapsed_towers(subject: Subject) -> tuple[str, ...]:
    """Returns a sentence for each tower whose reference embeddings hardly differ between inputs."""
    messages = (subject.evidence.reference.collapsed(tower) for tower in subject.bundle.manifest.towers)
    return tuple(text for text in messages if text is not None)
