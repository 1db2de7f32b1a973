"""A bundle under verification. Each of its files is opened once, and all checks share it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.opening import SEARCH_LOG
from mobileclip_deploy.artifacts.towers.calibration import calibration_digest
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.artifacts.towers.labels import LabelSet, labels_json
from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.errors import WHY, DependencyMissing, InvalidInput, NotRun, RuntimeFailed, refusing
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import Measurement
from mobileclip_deploy.evaluation.looks import Looks
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Bound, Check, Gates, StoredWeights
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.parity.report import StoredLayer
from mobileclip_deploy.pictures.embedder import model_embedder
from mobileclip_deploy.targets import Artifact, Form, Runner, Target, restored_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.quantized import QuantizedFile
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import Storage, summary
from mobileclip_deploy.targets.values import Shared
from mobileclip_deploy.verify.instruments.learned_rounding import read_floats, tower_to_round, with_stored
from mobileclip_deploy.verify.instruments.matching import Matched
from mobileclip_deploy.verify.instruments.pace import AskedAhead, asked_rows, told_time


def checkpoint_looks(model: MobileCLIP, dataset: Dataset, progress: Progress = silent) -> Looks:
    """Returns runs of a checkpoint on a dataset. The unaugmented images are embedded at once, before the model is
    changed."""
    looks = Looks(model_embedder(model), dataset, progress=about("checkpoint", progress))
    looks.first(1)
    return looks


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
class Subject(ABC):
    """A bundle under verification, and the data that it is compared with.

    Attributes:
        source: the folded checkpoint; None if it is not available.
        folder: receives the artifacts that are converted again.
        calibration: folder of the calibration images, if the user's own were used.
        thorough: convert again and measure accuracy on the whole dataset.
        place: device that artifacts are also compiled for; None for no device.
        name: name in progress lines and in the report.
        shared: data that the conversions of a tower share.
        matched: which weight of the file belongs to which layer, set by the check of weights; None if the weights
            cannot be read. `layers`: deviation of each layer from its weight.
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
    shared: dict[TowerName, Shared] = field(default_factory=dict)
    matched: dict[TowerName, tuple[Matched, ...] | None] = field(default_factory=dict)
    layers: dict[TowerName, tuple[StoredLayer, ...]] = field(default_factory=dict)
    _artifacts: dict[TowerName, Artifact] = field(init=False, default_factory=dict)
    _runners: dict[TowerName, Runner] = field(init=False, default_factory=dict)
    _answers: dict[TowerName, npt.NDArray[np.float32]] = field(init=False, default_factory=dict)
    _ahead: AskedAhead | None = field(init=False, default=None)
    _quantized: dict[TowerName, QuantizedFile | None] = field(init=False, default_factory=dict)
    _to_round: dict[TowerName, nn.Module] = field(init=False, default_factory=dict)
    _converted: dict[tuple[TowerName, str], Path] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.name or self.bundle.path.name

    @abstractmethod
    def searched(self, tower: TowerName) -> frozenset[str]:
        """Returns the layers of a tower that a search stored at 4 bits."""

    @abstractmethod
    def stages(self, tower: TowerName) -> list[Check]:
        """Returns the stages of a conversion, each compared with the stage before it; empty for targets without
        stages."""

    @abstractmethod
    def drop_shared(self, tower: TowerName) -> None:
        """Drops the data that conversions of a tower share, if nothing more is converted."""

    @property
    def complete(self) -> bool:
        """True if the bundle has both towers, so that accuracy can be measured."""
        return set(self.bundle.manifest.towers) == set(TOWERS)

    @property
    def needs_checkpoint(self) -> str:
        """Reason why a check was not run without the checkpoint."""
        return f"needs the checkpoint {self.bundle.manifest.checkpoint.file}; give it with `checkpoint`"

    def precision(self, tower: TowerName) -> str:
        """Returns the precision in which a tower's artifact stores its weights."""
        return self.bundle.manifest.towers[tower].precision

    def bound(self, tower: TowerName) -> Bound:
        """Returns the gate for the answers of a tower's artifact."""
        return self.gates.shipped(self.precision(tower), self.floor(tower), bool(self.head.names))

    def asked(self, tower: TowerName, inputs: npt.NDArray[np.generic] | None = None) -> npt.NDArray[np.intp]:
        """Returns the ascending indices of the inputs [N, ...] that the runtime of a tower runs. Uses the reference's
        inputs if `inputs` is None."""
        rows, manifest = self.evidence.reference.inputs.of(tower) if inputs is None else inputs, self.bundle.manifest
        return asked_rows(self.target, manifest.variant, manifest.preprocess.size, tower, rows, self.thorough)

    def tell_time(self) -> None:
        """Reports the expected duration of a slow runtime, before the runtime starts."""
        manifest = self.bundle.manifest
        precisions = {tower: entry.precision for tower, entry in manifest.towers.items()}
        notice = told_time(self.target, manifest.variant, manifest.preprocess.size, precisions, self.thorough)
        if self._ahead is None and notice is not None:
            self.progress(f"{self.name}: {notice}")

    def tell(self, tower: TowerName, what: str) -> None:
        """Reports which check of a tower starts now."""
        self.progress(f"{self.name}: {tower} tower, {what}")

    def artifact(self, tower: TowerName) -> Artifact:
        """Returns the artifact of a tower, opened once for all checks."""
        if tower not in self._artifacts:
            function = self.bundle.manifest.towers[tower].function
            self._artifacts[tower] = self.target.open(self.bundle.artifact(tower), function)
        return self._artifacts[tower]

    @cached_property
    def facts(self) -> dict[TowerName, dict[str, str]]:
        """Facts about each artifact in words, from the target."""
        return {tower: self.artifact(tower).facts for tower in self.bundle.manifest.towers}

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
        return Form(len(self.head.names), self.head.normalised, pictures, manifest.layout, self.contexts)

    @property
    def contexts(self) -> tuple[int, ...]:
        """Lengths in tokens that the text tower accepts, ascending; empty for a single length."""
        text = self.bundle.manifest.towers.get("text")
        return () if text is None else text.contexts or ()

    def wanted(self, tower: TowerName) -> npt.NDArray[np.float32]:
        """Returns the expected answers of a tower's artifact to the reference's inputs: [N, D], or probabilities [N,
        L].

        Raises:
            InvalidInput: the reference has no embeddings of the tower.
        """
        embeddings = self.evidence.reference.of(tower)
        if self.source is None:  # probabilities need the checkpoint's text tower
            return self.head.scaled(embeddings)
        return self.head.answers(self.source.model, embeddings)

    def floor(self, tower: TowerName) -> float | None:
        """Returns the noise floor of a tower: of the checkpoint if available, else the floor measured at export."""
        if self.source is not None:
            return self.evidence.reference.floor.get(tower)
        recorded = self.bundle.measurements
        return None if recorded is None else recorded.floor.get(tower)

    def four_bit(self, tower: TowerName) -> frozenset[str]:
        """Returns the 4-bit layers of a tower of precision "mixed"."""
        return self.searched(tower) if self.precision(tower) == "mixed" else frozenset()

    def storage(self, tower: TowerName) -> tuple[StoredWeights, ...]:
        """Returns the storage of a tower's weights: one row per grid, most bytes first; empty without the
        checkpoint."""
        if lacks_to_convert(self, tower) is not None:
            return ()
        return tuple(StoredWeights(tower=tower, **vars(row)) for row in summary(self.module(tower), self.grids(tower)))

    @cached_property
    def stored_weights(self) -> tuple[StoredWeights, ...]:
        """Storage of the weights of all towers."""
        return tuple(row for tower in self.bundle.manifest.towers for row in self.storage(tower))

    def module(self, tower: TowerName) -> nn.Module:
        """Returns the tower of the folded checkpoint with its head, as it was converted. With learned rounding, returns
        the tower before its weights were put on their grids.

        Raises:
            InvalidInput: the learned floats cannot be read.
        """
        assert self.source is not None
        if not self.chosen(tower):
            return self.head.module(self.source.model, tower)
        if tower not in self._to_round:
            module = tower_to_round(self.source, tower, self.target, tower == "text" and bool(self.contexts))
            read_floats(self.bundle, tower, module)
            self._to_round[tower] = module
        return self._to_round[tower]

    def chosen(self, tower: TowerName) -> Mapping[str, str]:
        """Returns the SHA-256 of every weight of a tower with learned rounding, by layer; empty without learned
        rounding."""
        rounding = self.bundle.manifest.rounding
        if rounding is None or tower not in rounding.towers:
            return {}
        return rounding.towers[tower].layers

    def grids(self, tower: TowerName) -> Storage:
        """Returns the expected storage of each tensor of a tower."""
        return storage_of(self.target, tower, self.module(tower), self.precision(tower), self.four_bit(tower))

    def runner(self, tower: TowerName) -> Runner:
        """Returns the loaded artifact of a tower, which stays loaded until `release_runner`.

        Raises:
            NotRun, RuntimeFailed: no runtime here can run it.
        """
        if tower not in self._runners:
            self._runners[tower] = self.artifact(tower).runner()
        return self._runners[tower]

    def release_runner(self, tower: TowerName) -> None:
        """Unloads the artifact of a tower, since a runtime may hold the weights twice. `runner` loads it again."""
        self._runners.pop(tower, None)

    def answers(self, tower: TowerName, runner: Runner) -> npt.NDArray[np.float32]:
        """Returns a runner's answers to the sampled inputs of a tower. The artifact itself runs only once.

        Raises:
            InvalidInput: the runner takes inputs of another shape.
        """
        is_artifact = runner is self._runners.get(tower)
        if is_artifact and tower in self._answers:
            return self._answers[tower]
        outputs = self._ahead.answers(tower) if is_artifact and self._ahead is not None else None
        if outputs is None:
            outputs = runner(self.evidence.reference.inputs.of(tower)[self.asked(tower)])
        if is_artifact:
            self._answers[tower] = outputs
        return outputs

    def ask_ahead(self) -> None:
        """Starts to compute the answers of the written artifacts in a background thread. Does nothing if the runtime is
        fast."""
        if self.target.capabilities.places.slow_runtime is None:
            return
        self.tell_time()
        requests: dict[TowerName, tuple[Runner, npt.NDArray[np.generic]]] = {}
        for tower in self.bundle.manifest.towers:
            with contextlib.suppress(InvalidInput, RuntimeFailed):  # its check hits the same error and reports it
                requests[tower] = (self.runner(tower), self.evidence.reference.inputs.of(tower)[self.asked(tower)])
        self._ahead = AskedAhead(requests)

    def stop_asking(self) -> None:
        """Cancels background answers that are no longer needed."""
        if self._ahead is not None:
            self._ahead.stop()

    def drop(self, tower: TowerName) -> None:
        """Drops all data of a tower that is as large as its file, after its checks. Keeps the data needed to measure
        accuracy."""
        self.artifact(tower).drop()
        self.release_runner(tower)
        self._quantized.pop(tower, None)
        measured = self.evidence.task is not None or self.evidence.sampled is not None
        slow = self.target.capabilities.places.slow_runtime is not None
        if not slow or not measured:  # else torch measures with these weights, see `task`
            self.matched.pop(tower, None)

    def quantized(self, tower: TowerName) -> QuantizedFile | None:
        """Returns the artifact of a tower opened for activation tracing (cached). None if its precision keeps
        activations in float.

        Raises:
            NotRun, RuntimeFailed: no runtime here can run it.
            InvalidInput: it is damaged, or its quantization parameters are not in the file.
        """
        if not precision_of(self.precision(tower)).calibrated:
            return None
        if tower not in self._quantized:
            self._quantized[tower] = self.artifact(tower).quantized()
        return self._quantized[tower]

    def made_again(self, tower: TowerName) -> Path | None:
        """Returns the artifact that `converted` has written at the tower's own precision. None if there is none."""
        return self._converted.get((tower, self.precision(tower)))

    def converted(self, tower: TowerName, precision: str | None = None) -> Path:
        """Converts a tower again with the bundle's options, at its own or another precision, and returns the artifact.

        Raises:
            NotRun: the packages that write this format are not installed.
            ExportError: the converter failed.
        """
        assert self.source is not None
        with refusing(WHY, DependencyMissing, into=NotRun):  # a bundle can be read and run without
            self.target.require_installed(converters=True)
        recorded = self.precision(tower)
        precision = precision or recorded
        if (tower, precision) not in self._converted:
            job = tower_job(self.source, tower, precision, head=self.head, form=self.form, calibration=self.calibration)
            job = replace(job, four_bit=self.four_bit(tower), shared=self.shared.setdefault(tower, Shared()))
            if self.chosen(tower) and precision == recorded:
                matches = self.matched.get(tower) or ()
                job = replace(job, module=with_stored(self.module(tower), matches, self.chosen(tower)), shared=None)
            path = self.folder / precision / self.target.artifact_name(job.variant, job.artifact, precision)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.target.write(job, path)
            if self.head.names:  # Core ML's own runner reads the labels' order next to the package
                (path.parent / "labels.json").write_text(labels_json(self.head.names), encoding="utf-8")
            self._converted[tower, precision] = path
            self.drop_shared(tower)
        return self._converted[tower, precision]


@dataclass
class WrittenSubject(Subject):
    """A bundle that this process has just written.

    Attributes:
        measured: checks of the conversion's stages, measured during the conversion.
        mixed: the layers of each tower that a search stored at 4 bits.
    """

    measured: Mapping[TowerName, tuple[Check, ...]] = field(default_factory=dict)
    mixed: Mapping[TowerName, frozenset[str]] = field(default_factory=dict)

    def searched(self, tower: TowerName) -> frozenset[str]:
        return self.mixed.get(tower, frozenset())

    def stages(self, tower: TowerName) -> list[Check]:
        return list(self.measured.get(tower, ()))

    def drop_shared(self, tower: TowerName) -> None:
        self.shared[tower].clear()  # the float32 twin is converted last


@dataclass
class OpenedSubject(Subject):
    """An opened bundle, whose files next to the artifacts are checked too.

    Attributes:
        fresh: the checkpoint's own answers to the bundle's inputs, computed before folding: see `Reference.again`;
            None if the checkpoint is not available.
        again: axes of a fit that was repeated now, and its record for the manifest; None if no fit was requested.
    """

    fresh: Reference | None = None
    again: tuple[Axes, Compacted] | None = None

    @cached_property
    def stored(self) -> Reference:
        """The inputs and answers in the bundle."""
        return Reference.read(self.bundle.golden)

    def searched(self, tower: TowerName) -> frozenset[str]:
        """Returns the 4-bit layers from the search log of the bundle."""
        return self.bundle.four_bit.get(tower, frozenset())

    def stages(self, tower: TowerName) -> list[Check]:
        """Measures the stages again. Activations are measured on the packaged samples, since the bundle does not
        contain its calibration images."""
        if self.source is None or not self.target.capabilities.formats.stages:
            return []
        if not self.thorough:
            return [Check.not_wanted("stages", tower)]
        job = tower_job(self.source, tower, self.precision(tower), head=self.head)
        return list(self.target.stage_checks(job, self.bundle.artifact(tower)))

    def drop_shared(self, tower: TowerName) -> None:
        if {(tower, self.precision(tower)), (tower, "fp32")} <= self._converted.keys():
            self.shared[tower].clear()


def head_of(bundle: Bundle) -> Head:
    """Returns the head of a bundle's artifacts."""
    classifier = bundle.manifest.classifier
    if classifier is not None:
        return Head(LabelSet(classifier.labels, classifier.template), own=classifier.template is None)
    return Head(normalised=any(entry.output.normalised for entry in bundle.manifest.towers.values()))


def lacks_to_convert(subject: Subject, tower: TowerName) -> str | None:
    """Returns a text that names the missing input of a conversion: the checkpoint, the calibration images, or the
    layers that a search chose. None if nothing is missing.

    Raises:
        InvalidInput: the given folder contains other images.
    """
    if subject.source is None:
        return subject.needs_checkpoint
    bundle, folder = subject.bundle, subject.calibration
    options, precision = bundle.manifest.options, subject.precision(tower)
    if precision == "mixed" and not subject.four_bit(tower):
        return f"needs {SEARCH_LOG}, which says the layers that have 4 bits; it is not in the bundle"
    if not precision_of(precision).calibrated or "calibration" not in options:
        return None
    if folder is None:
        return f"needs the images in {options['calibration']!r} that it was calibrated on; give them with `calibration`"
    if options.get("calibration_sha256") != calibration_digest(folder):
        raise InvalidInput(f"{folder} does not hold the images that {bundle.path.name} was calibrated on")
    return None
