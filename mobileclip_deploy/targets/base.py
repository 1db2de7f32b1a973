"""What a target is: it writes a tower as an artifact, describes and checks the file, and runs it.

`Target` is all that the rest of the house knows of a deployment format. A new one is a folder, of this package or of
anybody's, with a subclass that an entry point of the group `mobileclip_deploy.targets` names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from mobileclip_deploy.errors import DependencyMissing, InvalidInput, NotRun, UsageError
from mobileclip_deploy.targets.options import TargetOptions
from mobileclip_deploy.targets.values import PLAIN, Attachment, Form, Place, Precisions, Runner, TensorInfo, TowerJob

if TYPE_CHECKING:  # `export --help` lists the options of every target, and must not wait for torch
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from mobileclip_deploy.layouts import Layout
    from mobileclip_deploy.mil import Program
    from mobileclip_deploy.mil.lint import LintReport
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.inspection import PackageInspection
    from mobileclip_deploy.targets.placement import Compiled
    from mobileclip_deploy.targets.rounded import RoundedFile
    from mobileclip_deploy.targets.storage import Storage

__all__ = ["Target"]


class Target(ABC):
    """One deployment format, with the options that were chosen of it.

    `title`: what people call it. `packages`: what reads and runs artifacts; `extra`: the pip extra that brings them.
    `converters`: what writing needs beside them, where that is more; `converter_extra` brings all. `proven`: of these
    and of what comes with them, the versions that one environment held when the whole test suite last passed,
    and those, behind `or`, that the target's own tests passed with beside them.
    `unavailable`: what of it is not built in, and what each would need. `suffixes`: of its artifacts, by which
    `inspect` knows them. `order`: where it stands in lists.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    converters: ClassVar[tuple[str, ...]] = ()
    proven: ClassVar[Mapping[str, str]] = {}
    extra: ClassVar[str | None] = None
    converter_extra: ClassVar[str | None] = None
    unavailable: ClassVar[Mapping[str, str]] = {}
    suffixes: ClassVar[tuple[str, ...]] = ()
    order: ClassVar[int] = 100
    Options: ClassVar[type[TargetOptions]] = TargetOptions
    precisions: tuple[str, ...]
    default_precision: str = "fp16"
    readable: ClassVar[bool] = False
    """Whether `program` gives an artifact as a program to be followed operation by operation."""
    tables: tuple[str, ...] = ()
    """Of its precisions those that a text tower's table of words can have while the rest has another
    (`w4p-table-w6p`)."""
    mixes: ClassVar[bool] = False
    """Whether it can store each layer at bits of its own (precision "mixed", see `TowerJob.four_bit`)."""
    recoverable: ClassVar[bool] = False
    """Whether `recover` can train on its storage: its exporter finds the very integers of a trained weight again."""
    learns_rounding: ClassVar[bool] = False
    """Whether `export(rounding=)` works for it though `recover` does not."""
    absorbs_layer_scales: ClassVar[bool] = False
    """Whether weights are trained with the layer scales multiplied into them."""
    absorbs_norms: ClassVar[bool] = False
    """Whether weights are trained with those of the norms before them multiplied into them."""

    runtime_package: ClassVar[str | None] = None
    """The package whose version a benchmark on this machine records; None: the first of `packages`."""
    runtime_packages: ClassVar[Mapping[str, str]] = {}
    """Of the runtimes that `places` names, those that are not called as the package is whose version the manifest
    records, with that package."""
    runtime_modules: ClassVar[tuple[str, ...]] = ()
    """What `import_runtime` imports."""
    named_tensors: ClassVar[bool] = True
    """Whether inputs and outputs have names in its artifacts, by which an app asks for them."""
    no_pictures: ClassVar[str] = "its artifacts take pixels of one size"
    """Why its image towers cannot take pictures of any size (`Form.pictures`)."""
    no_contexts: ClassVar[str] = "its text towers take ids of one length"
    """Why its text towers cannot take ids of several lengths (`Form.contexts`)."""
    refused_options: ClassVar[Mapping[str, str]] = {}
    """Options of other targets that this one was asked for and cannot have, by name, and why."""
    compiled_places: ClassVar[tuple[str, ...]] = ()
    """Places of a device, such as `gpu`, that an artifact can be compiled for on this machine (`compiled`)."""
    foreign_suffix: ClassVar[str | None] = None
    """Suffix of files that others wrote in this format and `declared` reads; None: it reads none."""

    def __init__(self, options: TargetOptions | None = None) -> None:
        self.options = self.Options() if options is None else options

    # What is decided before anything runs

    def storage(
        self, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
    ) -> Storage:
        """How each tensor of a tower (see `make_tower`), or of a classifier, will be stored.

        A target that does not say is taken to store every weight in the bits of the precision.

        Args:
            four_bit: see `TowerJob`.
        """
        from mobileclip_deploy.model.precision import PRECISIONS
        from mobileclip_deploy.targets.storage import evenly, with_table

        return with_table(module, precision, lambda name: evenly(module, PRECISIONS[name].bits))

    def absorb(self, tower: nn.Module) -> None:
        """Multiply into the weights of a folded tower, in place, what the exporter multiplies into them; the tower
        computes the same. A weight that was put on its grid then stays there."""
        from mobileclip_deploy.towers.absorbing import absorb_layer_scales, absorb_norms

        if self.absorbs_layer_scales:
            absorb_layer_scales(tower)
        if self.absorbs_norms:
            absorb_norms(tower)

    def fixed(self, tower: nn.Module) -> frozenset[str]:
        """The parameters of a tower, by name, that stay as `absorb` left them while others are trained: what exporters
        multiply into weights would move these off their grids."""
        from mobileclip_deploy.towers.absorbing import normed_layers

        norms = {norm for _, _, norm in normed_layers(tower)} if self.absorbs_norms else set()
        found = {f"{name}.weight" for name, module in tower.named_modules() if module in norms}
        return frozenset(found | {name for name, _ in tower.named_parameters() if "layer_scale" in name})

    @property
    def label(self) -> str:
        """What a bundle's folder calls the target."""
        return self.name

    def with_options(self, options: TargetOptions) -> Self:
        """The target with other options."""
        return type(self)(options)

    def variations(self) -> tuple[Target, ...]:
        """The targets that the options ask for, a bundle each: itself, unless an option names several backends."""
        return (self,)

    def variation(self, name: str) -> Target:
        """The target that is labelled `<its name>-<name>`.

        Raises:
            UsageError: there is none of that name.
        """
        raise UsageError(f"unknown target '{self.name}-{name}'; {self.name} is one target")

    def for_function(self, function: str | None) -> Target:
        """The target as it reads and runs one function of an artifact that holds several; itself for None.

        Raises:
            InvalidInput: its artifacts have no functions.
        """
        if function is None:
            return self
        raise InvalidInput(f"{self.name} artifacts have no functions; the manifest names {function!r}")

    def has(self, precisions: Precisions) -> bool:
        """Whether the target has these precisions for these towers."""
        return all(self._has(tower, precision) for tower, precision in precisions.items())

    def _has(self, tower: TowerName, precision: str) -> bool:
        from mobileclip_deploy.model.precision import is_precision, precision_of

        if precision in self.precisions or not is_precision(precision):
            return precision in self.precisions
        found = precision_of(precision)
        own = found.rest.removesuffix("a8")  # of a table, which nothing is multiplied by, w8a8 is w8
        return tower == "text" and found.rest in self.precisions and found.table in self.tables and found.table != own

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """Refuse what cannot be done before anything heavy runs.

        Args:
            mixed: the layers of precision "mixed" have been chosen; by itself the word means nothing.

        Raises:
            UsageError: a precision that this target does not have (the text lists those it has), or options that cannot
                be used with it.
            DependencyMissing: a package is not installed; the text holds the pip line.
        """
        for tower, precision in precisions.items():
            named = self.mixes and precision == "mixed" and mixed
            if not self._has(tower, precision) and not named:
                raise self._lacking(self.name, precision, self.precisions)
        self.require_converter()

    def _lacking(self, name: str, precision: str, known: Iterable[str]) -> UsageError:
        """A precision that `name` does not have, with those that it has."""
        text = f"{name} has no precision {precision}; it has {', '.join(known)}"
        rest, between, _ = precision.partition("-table-")
        if between and rest in known:
            others = [table for table in self.tables if table != rest.removesuffix("a8")]
            text += f"; at {rest} the table of words can have {', '.join(others)}"
            if not others:
                text = f"{name} stores the table of words in one way alone; give {rest} in the place of {precision}"
        return UsageError(text)

    def require_installed(self) -> None:
        """Refuse to read or run this format without its packages.

        Raises:
            DependencyMissing: one is not installed; the text holds the pip line.
        """
        self._require(self.packages, self.extra)

    def require_converter(self) -> None:
        """Refuse to export to this format without its packages and those that write it.

        Raises:
            DependencyMissing: one is not installed; the text holds the pip line.
        """
        if self._missing(self.converters):
            self._require((*self.packages, *self.converters), self.converter_extra or self.extra)
        self.require_installed()

    def _require(self, packages: tuple[str, ...], extra: str | None) -> None:
        missing = self._missing(packages)
        if missing:
            what = f"'mobileclip-deploy[{extra}]'" if extra else " ".join(missing)
            raise DependencyMissing(f"target {self.name} needs {', '.join(missing)}; type: pip install {what}")

    def _missing(self, packages: tuple[str, ...]) -> list[str]:
        return [package for package in packages if importlib.util.find_spec(package) is None]

    def require_searchable(self) -> None:
        """Refuse options that a search for the smallest bundle cannot follow; it tries each tower by itself.

        Raises:
            UsageError: see there.
            DependencyMissing: as `require_converter`.
        """
        self.require_converter()

    def settled(self, precisions: Precisions) -> Target:
        """The target with everything decided that the user left to it.

        Raises:
            UsageError: the options cannot be used with these precisions.
        """
        return self

    def uses(self, option: str) -> bool:
        """Whether the target, as it was chosen, makes anything of one of its options; a variation of it may not."""
        return True

    def advice(self, precisions: Precisions) -> str | None:
        """What the user should know about what was decided for them, in one line; None where there is nothing."""
        return None

    # What an app sees

    @abstractmethod
    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        """Path of an artifact inside its bundle; `artifact` is "image", "text" or "classifier"."""

    @abstractmethod
    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        """Name, type and shape of the artifact's input."""

    @abstractmethod
    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        """Name, type and shape of the artifact's output: an embedding, or with labels their probabilities."""

    def input_types(self, tower: TowerName) -> tuple[str, ...]:
        """The types of number that a layout may ask for of a tower's input; none but the target's own by default."""
        return ()

    def file(self, variant: Variant, artifact: str, precision: str, layout: Layout | None = None) -> str:
        """Path of an artifact inside its bundle, as a layout has it or as the target does."""
        if layout is None:
            return self.artifact_name(variant, artifact, precision)
        return layout.file(variant, artifact, precision)

    def port_names(self, job: TowerJob) -> tuple[str, str]:
        """What the input and the output of a job's artifact are called."""
        source, result = self.ports(job.variant, job.tower, job.form)
        return source.name, result.name

    def ports(self, variant: Variant, tower: TowerName, form: Form = PLAIN) -> tuple[TensorInfo, TensorInfo]:
        """Input and output of an artifact in a form, with a free first dimension where the options leave it so."""
        layout = form.layout
        source, result = self.input_info(variant, tower), self.output_info(variant, tower, form.labels)
        if layout is not None:
            named = layout.artifact("classifier" if form.labels else tower)
            source = replace(source, name=named.input.name, dtype=named.input.dtype or source.dtype)
            result = replace(result, name=named.output.name)
        if form.normalised:
            result = replace(result, normalised=True)
        if self.takes_batches(tower):
            source, result = (replace(info, shape=(0, *info.shape[1:])) for info in (source, result))
        if form.pictures and tower == "image":
            # One at a time: height, width and 3 or 4 channels.
            source = replace(source, dtype="uint8", shape=(0, 0, 0), range=(0.0, 255.0))
            result = replace(result, shape=(1, *result.shape[1:]))
        if form.contexts and tower == "text":
            source = replace(source, shape=(*source.shape[:-1], 0))
        return source, result

    def require_pictures(self) -> None:
        """Refuse to put resizing, cropping and scaling of pictures of any size into the artifact.

        Raises:
            UsageError: the text says why this format cannot.
        """
        raise UsageError(f"`input='bytes'` is refused for {self.title}: {self.no_pictures}")

    def require_contexts(self) -> None:
        """Refuse text towers that take ids of several lengths.

        Raises:
            UsageError: the text says why this format cannot.
        """
        raise UsageError(f"`contexts` is refused for {self.title}: {self.no_contexts}")

    def require_layout(self, layout: Layout) -> None:
        """Refuse a layout that wants what the format, or this target, does not have.

        Raises:
            UsageError: the text says what.
        """
        if layout.target != self.name:
            raise UsageError(f"the layout {layout.name} is of {layout.target}, not of {self.name}; leave `target` out")
        if not self.named_tensors:
            raise UsageError(f"{self.title} artifacts have no names of tensors, so that no layout can choose them")
        for tower in layout.towers:
            wanted, known = layout.artifact(tower).input.dtype, self.input_types(tower)
            if wanted is not None and wanted not in known and not layout.artifact(tower).input.any_size:
                has = " or ".join(known) or "a type of its own; leave dtype out"
                raise UsageError(
                    f"the layout {layout.name} wants {wanted} into the {tower} tower; {self.name} has {has}"
                )

    def takes_batches(self, tower: TowerName) -> bool:
        """Whether the options leave the first dimension free that `input_info` and `output_info` give as 1."""
        return False

    # Writing

    @abstractmethod
    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        """Write the artifact to `path`: the same job gives the same bytes.

        Returns:
            What each stage of the conversion computed, against the stage before it; none for one of a single step.

        Raises:
            ExportError: the converter failed, or a stage no longer computes what the one before it did.
        """

    def stage_checks(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        """What `write` would find of its stages, measured again with the artifact at `path` as the last.

        Raises:
            ExportError: a stage failed.
            RuntimeFailed: the runtime refused the artifact.
        """
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        """Bring what was written to where the options want it: as it is, or joined to one file.

        Args:
            folder: of the bundle.
            files: of each tower, relative to it.
        """
        return {tower: Place(file) for tower, file in files.items()}

    def attach(
        self,
        artifact: Path,
        inputs: npt.NDArray[np.generic],
        expected: npt.NDArray[np.float32],
        tolerance: float,
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

    def write_companions(self, folder: Path, variant: Variant) -> None:  # noqa: B027 (not every format has any)
        """Write the files that clients of this format expect beside the artifacts; none by default."""

    # Reading back

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

    def contents(self, path: Path) -> dict[str, dict[str, int]] | None:
        """For the manifest: what an artifact is made of, by kind, in counts and bytes; None where it is not told."""
        return None

    def inspect(self, path: Path) -> PackageInspection | None:
        """What `inspect` tells of an artifact, where that is more than input, output and operators; None otherwise."""
        return None

    def graph(self, path: Path) -> Graph | None:
        """The artifact as a graph that does not depend on names, order and encoding; None where it cannot be read so.

        Raises:
            InvalidInput: the file is damaged.
        """
        return None

    def weights(self, path: Path) -> tuple[StoredWeight, ...] | None:
        """The weights that stand in an artifact (of convolutions, products and tables); None where none can be read.

        Raises:
            InvalidInput: the file is damaged.
        """
        return None

    def program(self, path: Path, *, evaluate: bool = True) -> Program | None:
        """The artifact as a program that can be followed operation by operation; None where there is no such reader.

        Args:
            evaluate: whether its operations will be run, not only looked at.

        Raises:
            InvalidInput: the file is damaged.
        """
        return None

    def lint(self, path: Path, device: str) -> tuple[LintReport, ...]:
        """What of an artifact that is no `program` would leave the Neural Engine of a device, a report a function;
        none for formats that do not run there.

        Raises:
            UsageError: no such device.
            InvalidInput: the file is damaged.
        """
        return ()

    # Running

    @abstractmethod
    def runner(self, path: Path) -> Runner:
        """Load an artifact to run it here.

        Raises:
            NotRun: this machine has nothing that can run it.
            RuntimeFailed: the runtime refused it.
        """

    def plain_runner(self, path: Path) -> Runner | None:
        """Run an artifact with the numbers that stand in it, in float32, nothing else rounded; None where that cannot
        be done.

        Raises:
            NotRun: this machine has nothing that can run it.
            InvalidInput: the file is damaged.
        """
        return None

    def rounded(self, path: Path) -> RoundedFile | None:
        """An artifact of a precision that rounds activations, to be followed from one rounding to the next; None where
        that cannot be done.

        Raises:
            NotRun: this machine has nothing that can run it.
            InvalidInput: the file is damaged, or rounds by what does not stand in it.
            RuntimeFailed: the runtime refused it.
        """
        return None

    def runners(self, path: Path) -> Iterator[Callable[[], Runner]]:
        """A loader for every engine of this machine that an artifact may meet, to be checked one by one.

        A loader raises NotRun and RuntimeFailed as `runner` does.
        """
        yield lambda: self.runner(path)

    def compiled(self, path: Path, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        """Compile an artifact for one of `compiled_places`, and ask it for answers there.

        Args:
            inputs: of the tower, [N, ...]; the first of them are asked for.

        Raises:
            UsageError: there is no such place for this format.
            InvalidInput: the file is damaged.
            NotRun: this machine lacks what compiles for it, or it did not return in time.
        """
        self.require_place(place)
        raise NotImplementedError(f"{type(self).__name__} names the place {place}, and does not compile for it")

    def require_place(self, place: str) -> None:
        """Refuse a place that this format is not compiled for here.

        Raises:
            UsageError: see there.
        """
        if place not in self.compiled_places:
            has = f"it has {', '.join(self.compiled_places)}" if self.compiled_places else "it has none"
            raise UsageError(f"`place` {place!r}: {self.title} cannot be compiled for that on this machine; {has}")

    # Timing

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        """Where a bundle's artifacts run on a kind of device; nowhere on most. By default on the host, in a `runner`.

        Args:
            device: host, android, ios, mac or browser.
            options: the manifest's.

        Raises:
            NotRun: not this bundle's, or not as the device is; the text says why.
        """
        from mobileclip_deploy.targets.benchmarking import RuntimePlace

        return (RuntimePlace(self.name),) if device == "host" else ()

    def import_runtime(self) -> None:
        """Import what a session needs, before the clock of its loading runs."""
        for name in self.runtime_modules:
            importlib.import_module(name)

    def session(self, path: Path, setup: SessionSetup) -> Session:
        """Load an artifact on this machine, to be timed.

        Raises:
            NotRun: this machine has nothing that can run it.
        """
        from mobileclip_deploy.targets.benchmarking import RunnerSession

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
