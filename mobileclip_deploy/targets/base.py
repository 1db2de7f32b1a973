"""What a target is: it writes a tower as an artifact, describes and checks the file, and runs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.bundle.manifest import Attachment, TensorInfo
from mobileclip_deploy.errors import DependencyMissing, InvalidInput, NotRun, UsageError
from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.benchmarking import RunnerSession, RuntimePlace, Session, SessionSetup

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ExportOptions", "Place", "Runner", "Target", "TowerJob"]


@dataclass(frozen=True)
class ExportOptions:
    """What the user may choose beside target and precision.

    `deployment_target` is Core ML's, iOS15 to iOS18; None leaves it to the target. `calibration` is a folder of images
    (and prompts) for precisions that measure activations; None means the packaged samples.
    `multifunction` puts both towers into one Core ML package, a function each (iOS18).
    ExecuTorch's are `backend`, which its target settles, `fast_depthwise` (see targets/executorch/depthwise.py),
    `dynamic_batch` (of prompts), and what is written beside each .pte: `bundled_program`, `etrecord`.
    `four_bit` goes with precision "mixed": the weights of a tower to store at 4 bits, by `provenance.weight_sha256`;
    all others have 8, also one that is named and that a converter changed.
    """

    deployment_target: str | None = None
    calibration: Path | None = None
    backend: str | None = None
    fast_depthwise: bool = True
    dynamic_batch: bool = False
    bundled_program: bool = False
    etrecord: bool = False
    multifunction: bool = False
    four_bit: Mapping[TowerName, frozenset[str]] = field(default_factory=dict, hash=False)

    def recorded(self) -> dict[str, str]:
        """For the manifest: what was chosen, without paths of this machine."""
        chosen = {"deployment_target": self.deployment_target, "backend": self.backend}
        if not self.fast_depthwise:
            chosen["fast_depthwise"] = "off"
        if self.dynamic_batch:
            chosen["dynamic_batch"] = "on"
        if self.multifunction:
            chosen["multifunction"] = "on"
        if self.calibration is not None:
            from mobileclip_deploy.towers.calibration import calibration_digest

            chosen["calibration"] = self.calibration.resolve().name
            chosen["calibration_sha256"] = calibration_digest(self.calibration)
        return {name: value for name, value in chosen.items() if value is not None}

    @classmethod
    def restored(cls, recorded: dict[str, str]) -> ExportOptions:
        """What `recorded` wrote, as far as an artifact can be made again from it."""
        return cls(
            deployment_target=recorded.get("deployment_target"),
            backend=recorded.get("backend"),
            fast_depthwise=recorded.get("fast_depthwise") != "off",
            dynamic_batch=recorded.get("dynamic_batch") == "on",
            multifunction=recorded.get("multifunction") == "on",
        )


@dataclass(frozen=True)
class Place:
    """Where a tower is in its bundle: a file, and a function in it where it holds several."""

    file: str
    function: str | None = None


@dataclass(frozen=True)
class TowerJob:
    """One tower to be written: the module in eval mode, an input to trace it with, and what it is called.

    `calibration`: inputs of the tower, for precisions that measure activations; None for the others. `labels`: of a
    classifier, whose module gives probabilities [N, L] in this order; none for a tower that gives embeddings.
    """

    variant: Variant
    tower: TowerName
    module: nn.Module
    example: Tensor
    precision: str
    licence: str
    options: ExportOptions
    calibration: npt.NDArray[np.generic] | None = None
    labels: tuple[str, ...] = ()

    @property
    def free_batch(self) -> bool:
        """Whether ExecuTorch's text tower is to take several prompts at a time."""
        return self.options.dynamic_batch and self.tower == "text"


class Runner(Protocol):
    """Runs an artifact on this machine.

    Image towers take float32 [N, 3, S, S] in [0, 1], text towers int64 [N, 77]; both give float32 [N, D], not
    normalised; a classifier gives probabilities [N, L]. `engine` says what computed it, with its version.
    """

    engine: str

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]: ...


class Target(ABC):
    """One deployment format. A new target is one folder with a subclass and an entry in `targets.TARGETS`."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    precisions: tuple[str, ...]
    default_precision: str = "fp16"
    mixes: ClassVar[bool] = False
    """Whether it can store each layer at bits of its own (precision "mixed", see `ExportOptions.four_bit`)."""

    runtime_package: ClassVar[str | None] = None
    """The package whose version a benchmark on this machine records; None: the first of `packages`."""
    runtime_modules: ClassVar[tuple[str, ...]] = ()
    """What a session needs, imported before the clock of its loading runs."""
    foreign_suffix: ClassVar[str | None] = None
    """Suffix of files that others wrote in this format and `declared` reads; None: it reads none."""

    def mixable(self, tower: TowerName, name: str, shape: Sequence[int]) -> bool:
        """Whether a target that mixes can store a weight of a tower, by name and shape in torch, at 4 bits.

        Depthwise convolutions never are: they are few bytes, and the first to break. Positional embeddings are as
        exact as activations.
        """
        return not (len(shape) == 4 and shape[1] == 1) and "positional_embedding" not in name

    @property
    def label(self) -> str:
        """What a bundle's folder calls the target."""
        return self.name

    def for_function(self, function: str | None) -> Target:
        """The target as it reads and runs one function of an artifact that holds several; itself for None.

        Raises:
            InvalidInput: its artifacts have no functions.
        """
        if function is None:
            return self
        raise InvalidInput(f"{self.name} artifacts have no functions; the manifest names {function!r}")

    def place(
        self, folder: Path, variant: Variant, files: dict[TowerName, str], options: ExportOptions
    ) -> dict[TowerName, Place]:
        """Bring what was exported to where the options want it: as it is, or joined to one file.

        Args:
            folder: of the bundle.
            files: of each tower, relative to it.
        """
        return {tower: Place(file) for tower, file in files.items()}

    def contents(self, path: Path) -> dict[str, dict[str, int]] | None:
        """For the manifest: what an artifact is made of, by kind, in counts and bytes; None where it is not told."""
        return None

    def has(self, precisions: dict[TowerName, str]) -> bool:
        """Whether the target has these precisions for these towers."""
        return set(precisions.values()) <= set(self.precisions)

    def require(self, precisions: dict[TowerName, str], options: ExportOptions) -> None:
        """Refuse what cannot be done before anything heavy runs.

        Raises:
            UsageError: a precision that this target does not have (the text lists those it has), or calibration
                images for precisions that use none.
            InvalidInput: the calibration folder holds no image.
            DependencyMissing: a package is not installed; the text holds the pip line.
        """
        for tower, precision in precisions.items():
            # "mixed" means nothing by itself: it is refused as any unknown precision unless its layers are named.
            named = self.mixes and precision == "mixed" and bool(options.four_bit.get(tower))
            if precision not in self.precisions and not named:
                raise UsageError(f"{self.name} has no precision {precision}; it has {', '.join(self.precisions)}")
        from mobileclip_deploy.towers.calibration import check_calibration

        check_calibration(precisions, options.calibration)
        self.require_installed()

    def require_installed(self) -> None:
        """Refuse to export to, read or run this format without its packages.

        Raises:
            DependencyMissing: one is not installed; the text holds the pip line.
        """
        missing = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if missing:
            raise DependencyMissing(
                f"target {self.name} needs {', '.join(missing)}; type: pip install 'mobileclip-deploy[{self.name}]'"
            )

    def settle(self, precisions: dict[TowerName, str], options: ExportOptions) -> ExportOptions:
        """The options with everything decided that the user left to the target.

        Raises:
            UsageError: they cannot be used with these precisions.
        """
        return options

    def advice(self, precisions: dict[TowerName, str], options: ExportOptions) -> str | None:
        """What the user should know about what was decided for them, in one line; None where there is nothing."""
        return None

    @abstractmethod
    def artifact_name(self, variant: Variant, tower: TowerName, precision: str) -> str:
        """Path of the artifact inside its bundle."""

    @abstractmethod
    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        """Name, type and shape of the artifact's input."""

    @abstractmethod
    def output_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        """Name, type and shape of the artifact's output."""

    @abstractmethod
    def classifier_name(self, variant: Variant, precision: str) -> str:
        """Path of an image classifier inside its bundle."""

    @abstractmethod
    def probabilities_info(self, labels: int) -> TensorInfo:
        """Name, type and shape of a classifier's output."""

    def result_info(self, job: TowerJob) -> TensorInfo:
        """Name, type and shape of what a job's artifact gives: an embedding, or probabilities."""
        return self.probabilities_info(len(job.labels)) if job.labels else self.output_info(job.variant, job.tower)

    @abstractmethod
    def export(self, job: TowerJob, path: Path) -> None:
        """Write the artifact to `path`: the same job gives the same bytes.

        Raises:
            ExportError: the converter failed.
        """

    @abstractmethod
    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        """Input and output of an artifact as the file itself declares them.

        Raises:
            InvalidInput: the file is damaged or of another format.
        """

    @abstractmethod
    def operators(self, path: Path) -> dict[str, int]:
        """How often each operator type occurs in an artifact.

        Raises:
            InvalidInput: the file is damaged or of another format.
        """

    @abstractmethod
    def runner(self, path: Path) -> Runner:
        """Load an artifact to run it here.

        Raises:
            NotRun: this machine has nothing that can run it.
            RuntimeFailed: the runtime refused it.
        """

    def takes_batches(self, tower: TowerName, options: ExportOptions) -> bool:
        """Whether the options leave the first dimension free that `input_info` and `output_info` give as 1."""
        return False

    def export_in_stages(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        """As `export`; gives what `stage_checks` would, measured on the way."""
        self.export(job, path)
        return ()

    def stage_checks(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        """What each stage of an export computes, against the stage before it, with the artifact at `path` as the last.

        None for a target whose conversion is one step.

        Raises:
            ExportError: a stage failed.
            RuntimeFailed: the runtime refused the artifact.
        """
        return ()

    def attach(
        self,
        artifact: Path,
        inputs: npt.NDArray[np.generic],
        expected: npt.NDArray[np.float32],
        tolerance: float,
        options: ExportOptions,
    ) -> tuple[Attachment, ...]:
        """Write what the options ask for beside an artifact, and say which files there are; none by default.

        Args:
            inputs: of the tower, [N, ...].
            expected: what the checkpoint answers for them, [N, D].
            tolerance: by how much one value of an output may differ from the expected one.

        Raises:
            ExportError: what was written does not hold.
        """
        return ()

    def runners(self, path: Path) -> Iterator[Callable[[], Runner]]:
        """A loader for every engine of this machine that an artifact may meet, to be checked one by one.

        A loader raises NotRun and RuntimeFailed as `runner` does.
        """
        yield lambda: self.runner(path)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        """Where a bundle's artifacts run on a kind of device; nowhere on most. By default on the host, in a `runner`.

        Args:
            device: host, android, ios or mac.
            options: the manifest's.

        Raises:
            NotRun: not this bundle's, or not as the device is; the text says why.
        """
        return (RuntimePlace(self.name),) if device == "host" else ()

    def session(self, path: Path, setup: SessionSetup) -> Session:
        """Load an artifact on this machine, to be timed.

        Raises:
            NotRun: this machine has nothing that can run it.
        """
        return RunnerSession(self.runner(path))

    def runtime_version(self) -> str:
        """Of what runs artifacts on this machine."""
        package = self.runtime_package or next(iter(self.packages), None)
        return importlib.metadata.version(package) if package else "unversioned"

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """Inputs and outputs of a file that others wrote in this format; called in a process of its own.

        Raises:
            NotRun: this target reads no such files.
        """
        raise NotRun(f"{self.name} reads no files that others wrote")

    def write_companions(self, folder: Path, variant: Variant) -> None:  # noqa: B027 (not every format has any)
        """Write the files that clients of this format expect beside the artifacts; none by default."""
