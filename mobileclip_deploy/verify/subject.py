"""A bundle under verification: everything that its checks need, each opened once and handed to all of them."""

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
from mobileclip_deploy.verify.learned_rounding import read_floats, tower_to_round, with_stored
from mobileclip_deploy.verify.matching import Matched
from mobileclip_deploy.verify.pace import AskedAhead, asked_rows, told_time


def checkpoint_looks(model: MobileCLIP, dataset: Dataset, progress: Progress = silent) -> Looks:
    """What a checkpoint finds on a dataset: the pictures as they stand at once, before anything is changed of it."""
    looks = Looks(model_embedder(model), dataset, progress=about("checkpoint", progress))
    looks.first(1)
    return looks


@dataclass(frozen=True)
class SampledReference:
    """Some images of a dataset of `total`, and what the checkpoint finds on them, image by image."""

    dataset: Dataset
    checkpoint: Measurement
    total: int


@dataclass(frozen=True)
class Evidence:
    """What bundles of one source are held against: its answers to real inputs, and its accuracy, where that counts, on
    a whole dataset or on some images of it. `cut`: what smaller embeddings lost there."""

    reference: Reference
    task: Looks | None = None
    sampled: SampledReference | None = None
    cut: Check | None = None


@dataclass
class Subject(ABC):
    """A bundle under verification, and what it is held against.

    Attributes:
        source: the folded checkpoint; None where it is not at hand.
        folder: takes what is converted again.
        calibration: the folder of images that it was calibrated on, if on one of the user's.
        thorough: convert again and measure accuracy on the whole dataset.
        place: of a device, that artifacts are compiled for as well; None for none.
        name: what progress and the report call it.
        shared: what conversions of a tower have in common.
        matched: which weight of the file is which layer's, as the check of weights found; None where weights cannot be
            read. `layers`: how far each is from it.
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
        """The layers of a tower that a search stored at 4 bits."""

    @abstractmethod
    def stages(self, tower: TowerName) -> list[Check]:
        """The stages of a conversion, each against the one before it, for targets that have any."""

    @abstractmethod
    def drop_shared(self, tower: TowerName) -> None:
        """Keep nothing of what conversions of a tower have in common, where nothing more is converted."""

    @property
    def complete(self) -> bool:
        """Whether the bundle has both towers, so that there is an accuracy to compare."""
        return set(self.bundle.manifest.towers) == set(TOWERS)

    @property
    def needs_checkpoint(self) -> str:
        """Why a check was not run where the source is not at hand."""
        return f"needs the checkpoint {self.bundle.manifest.checkpoint.file}; give it with `checkpoint`"

    def precision(self, tower: TowerName) -> str:
        """How the artifact of a tower stores numbers."""
        return self.bundle.manifest.towers[tower].precision

    def bound(self, tower: TowerName) -> Bound:
        """Within which the artifact of a tower has to answer."""
        return self.gates.shipped(self.precision(tower), self.floor(tower), bool(self.head.names))

    def asked(self, tower: TowerName, inputs: npt.NDArray[np.generic] | None = None) -> npt.NDArray[np.intp]:
        """The numbers of inputs [N, ...] that the runtime of a tower is asked, ascending; the reference's when None."""
        given, manifest = self.evidence.reference.inputs.of(tower) if inputs is None else inputs, self.bundle.manifest
        return asked_rows(self.target, manifest.variant, manifest.preprocess.size, tower, given, self.thorough)

    def tell_time(self) -> None:
        """Progress: how long a slow runtime takes, before it is asked."""
        manifest = self.bundle.manifest
        precisions = {tower: entry.precision for tower, entry in manifest.towers.items()}
        told = told_time(self.target, manifest.variant, manifest.preprocess.size, precisions, self.thorough)
        if self._ahead is None and told is not None:
            self.progress(f"{self.name}: {told}")

    def tell(self, tower: TowerName, what: str) -> None:
        """Progress: what is checked of a tower from now on."""
        self.progress(f"{self.name}: {tower} tower, {what}")

    def artifact(self, tower: TowerName) -> Artifact:
        """The artifact of a tower, opened once and asked by every check."""
        if tower not in self._artifacts:
            function = self.bundle.manifest.towers[tower].function
            self._artifacts[tower] = self.target.open(self.bundle.artifact(tower), function)
        return self._artifacts[tower]

    @cached_property
    def facts(self) -> dict[TowerName, dict[str, str]]:
        """What the target tells of each artifact in words."""
        return {tower: self.artifact(tower).facts for tower in self.bundle.manifest.towers}

    @cached_property
    def target(self) -> Target:
        """The target that wrote the bundle, with the options that the manifest records; until 0.3 that a file was asked
        for beside an artifact stood there alone."""
        manifest = self.bundle.manifest
        kinds = {kind: "on" for entry in manifest.towers.values() for kind in entry.attachments or {}}
        return restored_target(manifest.target, kinds | manifest.options)

    @cached_property
    def head(self) -> Head:
        """What the artifacts answer with."""
        return head_of(self.bundle)

    @cached_property
    def form(self) -> Form:
        """What was wanted of the artifacts beside their numbers."""
        manifest = self.bundle.manifest
        image = manifest.towers.get("image")
        pictures = image is not None and image.input.any_size
        return Form(len(self.head.names), self.head.normalised, pictures, manifest.layout, self.contexts)

    @property
    def contexts(self) -> tuple[int, ...]:
        """The lengths in tokens that the text tower takes, the longest last; none where it takes one."""
        text = self.bundle.manifest.towers.get("text")
        return () if text is None else text.contexts or ()

    def wanted(self, tower: TowerName) -> npt.NDArray[np.float32]:
        """What the artifact of a tower should answer to the reference's inputs: [N, D], or probabilities [N, L].

        Raises:
            InvalidInput: there are no reference embeddings of the tower.
        """
        embeddings = self.evidence.reference.of(tower)
        if self.source is None:  # probabilities need the checkpoint's text tower
            return self.head.scaled(embeddings)
        return self.head.answers(self.source.model, embeddings)

    def floor(self, tower: TowerName) -> float | None:
        """The noise floor of a tower: of the checkpoint where it is at hand, else as measured when it was exported."""
        if self.source is not None:
            return self.evidence.reference.floor.get(tower)
        recorded = self.bundle.measurements
        return None if recorded is None else recorded.floor.get(tower)

    def four_bit(self, tower: TowerName) -> frozenset[str]:
        """The layers of a tower of precision "mixed" that have 4 bits."""
        return self.searched(tower) if self.precision(tower) == "mixed" else frozenset()

    def storage(self, tower: TowerName) -> tuple[StoredWeights, ...]:
        """Storage of a tower's weights: one row per grid, the most bytes first; none without the checkpoint."""
        if lacks_to_convert(self, tower) is not None:
            return ()
        return tuple(StoredWeights(tower=tower, **vars(row)) for row in summary(self.module(tower), self.grids(tower)))

    @cached_property
    def stored_weights(self) -> tuple[StoredWeights, ...]:
        """Storage of the weights of all towers."""
        return tuple(row for tower in self.bundle.manifest.towers for row in self.storage(tower))

    def module(self, tower: TowerName) -> nn.Module:
        """The tower of the folded checkpoint with its head, as it was converted; where its rounding was learned, as it
        was before its weights were put on their grids.

        Raises:
            InvalidInput: what was learned cannot be read.
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
        """The SHA-256 of every weight of a tower whose rounding was learned, by layer; none where none was."""
        rounding = self.bundle.manifest.rounding
        if rounding is None or tower not in rounding.towers:
            return {}
        return rounding.towers[tower].layers

    def grids(self, tower: TowerName) -> Storage:
        """How each tensor of a tower should be stored."""
        return storage_of(self.target, tower, self.module(tower), self.precision(tower), self.four_bit(tower))

    def runner(self, tower: TowerName) -> Runner:
        """The artifact of a tower, loaded until it is released.

        Raises:
            NotRun, RuntimeFailed: nothing here can run it.
        """
        if tower not in self._runners:
            self._runners[tower] = self.artifact(tower).runner()
        return self._runners[tower]

    def release_runner(self, tower: TowerName) -> None:
        """Unload the artifact of a tower: a runtime may hold the weights twice. It is loaded again when it is asked for
        again."""
        self._runners.pop(tower, None)

    def answers(self, tower: TowerName, runner: Runner) -> npt.NDArray[np.float32]:
        """What a runner says to the inputs that the runtime of a tower is asked; the artifact itself is asked once.

        Raises:
            InvalidInput: it takes something of another shape.
        """
        own = runner is self._runners.get(tower)
        if own and tower in self._answers:
            return self._answers[tower]
        found = self._ahead.answers(tower) if own and self._ahead is not None else None
        if found is None:
            found = runner(self.evidence.reference.inputs.of(tower)[self.asked(tower)])
        if own:
            self._answers[tower] = found
        return found

    def ask_ahead(self) -> None:
        """Begin to ask a slow runtime for the answers of the artifacts as they were written, beside what is done until
        they are checked; nothing where the runtime is fast."""
        if self.target.abilities.pace is None:
            return
        self.tell_time()
        asked: dict[TowerName, tuple[Runner, npt.NDArray[np.generic]]] = {}
        for tower in self.bundle.manifest.towers:
            with contextlib.suppress(InvalidInput, RuntimeFailed):  # its check runs into the same, and tells it
                asked[tower] = (self.runner(tower), self.evidence.reference.inputs.of(tower)[self.asked(tower)])
        self._ahead = AskedAhead(asked)

    def stop_asking(self) -> None:
        """Leave what was begun to be asked ahead and is not needed any more."""
        if self._ahead is not None:
            self._ahead.stop()

    def drop(self, tower: TowerName) -> None:
        """Keep nothing of a tower that is as large as its file, when its checks are done; what accuracy is measured
        with is kept."""
        self.artifact(tower).drop()
        self.release_runner(tower)
        self._quantized.pop(tower, None)
        measured = self.evidence.task is not None or self.evidence.sampled is not None
        if self.target.abilities.pace is None or not measured:  # else torch measures with these weights, see `task`
            self.matched.pop(tower, None)

    def quantized(self, tower: TowerName) -> QuantizedFile | None:
        """The artifact of a tower of a precision that quantizes activations, loaded once to be followed; None of
        others.

        Raises:
            NotRun, RuntimeFailed: nothing here can run it.
            InvalidInput: it is damaged, or quantizes by what does not stand in it.
        """
        if not precision_of(self.precision(tower)).calibrated:
            return None
        if tower not in self._quantized:
            self._quantized[tower] = self.artifact(tower).quantized()
        return self._quantized[tower]

    def made_again(self, tower: TowerName) -> Path | None:
        """What `converted` has written at the tower's own precision; None where it has not."""
        return self._converted.get((tower, self.precision(tower)))

    def converted(self, tower: TowerName, precision: str | None = None) -> Path:
        """The artifact of a tower written once more with the bundle's options, at its own or another precision.

        Raises:
            NotRun: what writes this format is not installed.
            ExportError: the converter failed.
        """
        assert self.source is not None
        with refusing(WHY, DependencyMissing, into=NotRun):  # a bundle can be read and run without
            self.target.require_installed(converters=True)
        own = self.precision(tower)
        precision = precision or own
        if (tower, precision) not in self._converted:
            job = tower_job(self.source, tower, precision, head=self.head, form=self.form, calibration=self.calibration)
            job = replace(job, four_bit=self.four_bit(tower), shared=self.shared.setdefault(tower, Shared()))
            if self.chosen(tower) and precision == own:
                found = self.matched.get(tower) or ()
                job = replace(job, module=with_stored(self.module(tower), found, self.chosen(tower)), shared=None)
            path = self.folder / precision / self.target.artifact_name(job.variant, job.artifact, precision)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.target.write(job, path)
            if self.head.names:  # Core ML's own runner reads the labels' order beside the package
                (path.parent / "labels.json").write_text(labels_json(self.head.names), encoding="utf-8")
            self._converted[tower, precision] = path
            self.drop_shared(tower)
        return self._converted[tower, precision]


@dataclass
class WrittenSubject(Subject):
    """A bundle that was written just now, by the process that checks it.

    Attributes:
        measured: what its conversions measured of their stages.
        mixed: the layers of each tower that a search stored at 4 bits.
    """

    measured: Mapping[TowerName, tuple[Check, ...]] = field(default_factory=dict)
    mixed: Mapping[TowerName, frozenset[str]] = field(default_factory=dict)

    def searched(self, tower: TowerName) -> frozenset[str]:
        return self.mixed.get(tower, frozenset())

    def stages(self, tower: TowerName) -> list[Check]:
        return list(self.measured.get(tower, ()))

    def drop_shared(self, tower: TowerName) -> None:
        self.shared[tower].clear()  # a float32 twin is the last that is converted


@dataclass
class OpenedSubject(Subject):
    """A bundle that was opened: what stands in it beside its artifacts is checked too.

    Attributes:
        fresh: the checkpoint's own answers to the inputs in the bundle, asked before it was folded: see
            `Reference.again`; None where the checkpoint is not at hand.
        again: the axes of a fit that was made now, and what it says of them; None where none was asked for.
    """

    fresh: Reference | None = None
    again: tuple[Axes, Compacted] | None = None

    @cached_property
    def stored(self) -> Reference:
        """The inputs and answers in the bundle."""
        return Reference.read(self.bundle.golden)

    def searched(self, tower: TowerName) -> frozenset[str]:
        """As the log of the search in the bundle says."""
        return self.bundle.four_bit.get(tower, frozenset())

    def stages(self, tower: TowerName) -> list[Check]:
        """Measured again. Where activations are measured, they are on the packaged samples: the bundle names its own
        images, but has them not."""
        if self.source is None or not self.target.abilities.stages:
            return []
        if not self.thorough:
            return [Check.not_wanted("stages", tower)]
        job = tower_job(self.source, tower, self.precision(tower), head=self.head)
        return list(self.target.stage_checks(job, self.bundle.artifact(tower)))

    def drop_shared(self, tower: TowerName) -> None:
        if {(tower, self.precision(tower)), (tower, "fp32")} <= self._converted.keys():
            self.shared[tower].clear()


def head_of(bundle: Bundle) -> Head:
    """What a bundle's artifacts answer with."""
    classifier = bundle.manifest.classifier
    if classifier is not None:
        return Head(LabelSet(classifier.labels, classifier.template), own=classifier.template is None)
    return Head(normalised=any(entry.output.normalised for entry in bundle.manifest.towers.values()))


def lacks_to_convert(subject: Subject, tower: TowerName) -> str | None:
    """What a conversion of this tower needs and was not given: the checkpoint, the images that its exporter calibrated
    it on, or the layers that its search chose.

    Raises:
        InvalidInput: the folder given holds other images.
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
