"""What a target is: it writes a tower as an artifact, and opens what was written.

`Target` is all that the rest of the house knows of a deployment format. A new one is a folder, of this package or of
anybody's, with a subclass that an entry point of the group `mobileclip_deploy.targets` names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.options import TargetOptions
from mobileclip_deploy.targets.values import (
    PLAIN,
    Attachment,
    Expected,
    Form,
    Place,
    Precisions,
    RuntimePlace,
    TensorInfo,
    TowerJob,
)

if TYPE_CHECKING:  # `export --help` lists the options of every target, and must not wait for torch
    from mobileclip_deploy.artifacts.layouts import Layout
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.artifact import Artifact, Attached
    from mobileclip_deploy.targets.rules import StorageRules


class Target(ABC):
    """One deployment format, with the options that were chosen of it.

    Attributes:
        name: in manifests and on the command line; `title`: what people call it.
        abilities: what is known of it before anything runs.
        Options: the class of `options`, what a user may choose of it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    abilities: Abilities
    Options: ClassVar[type[TargetOptions]] = TargetOptions
    options: TargetOptions

    def __init__(self, options: TargetOptions | None = None) -> None:
        self.options = self.Options() if options is None else options

    def with_options(self, options: TargetOptions) -> Self:
        """The target with other options."""
        return type(self)(options)

    @property
    def label(self) -> str:
        """What a bundle's folder calls the target: its name, with the variation that its options choose."""
        variation = self.options.variation
        return self.name if variation is None else f"{self.name}-{variation}"

    # What is decided before anything runs

    def has(self, precisions: Precisions) -> bool:
        """Whether the target has these precisions for these towers."""
        return all(self.abilities.has(tower, precision) for tower, precision in precisions.items())

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
            named = self.abilities.mixes and precision == "mixed" and mixed
            if not self.abilities.has(tower, precision) and not named:
                raise UsageError(self.abilities.lacking(self.label, tower, precision))
        self.require_installed(converters=True)
        self.settled(precisions)

    def require_installed(self, *, converters: bool = False) -> None:
        """Refuse to read, run or write this format without its packages.

        Args:
            converters: those that write it are needed too.

        Raises:
            DependencyMissing: one is not installed; the text holds the pip line.
        """
        missing, own = self.abilities.missing(converters=converters), self.abilities
        if missing:
            extra = (own.converter_extra or own.extra) if {*missing} & {*own.converters} else own.extra
            what = f"'mobileclip-deploy[{extra}]'" if extra else " ".join(missing)
            where = f" (there are wheels for {own.wheels})" if own.wheels else ""
            raise DependencyMissing(f"target {self.name} needs {', '.join(missing)}; type: pip install {what}{where}")

    def require_form(self, form: Form) -> None:
        """Refuse a form that the format, or this target, cannot have.

        Raises:
            UsageError: the text says why.
        """
        own = self.abilities
        if form.layout is not None:
            _require_layout(self, form.layout)
        if form.pictures and own.no_pictures is not None:
            raise UsageError(f"`input='bytes'` is refused for {self.title}: {own.no_pictures}")
        if form.contexts and own.no_contexts is not None:
            raise UsageError(f"`contexts` is refused for {self.title}: {own.no_contexts}")

    def settled(self, precisions: Precisions) -> Target:
        """The target with everything decided that the user left to it.

        Raises:
            UsageError: the options cannot be used with these precisions.
        """
        return self

    def advice(self, precisions: Precisions) -> str | None:
        """What the user should know about what was decided for them, in one line; None where there is nothing."""
        return None

    def rules(self, precision: str) -> StorageRules | None:
        """How the format stores weights; None of a target that does not say, which is taken to store every weight in
        the bits of the precision."""
        return self.abilities.rules

    # What an app sees

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        """Path of an artifact inside its bundle; `artifact` is "image", "text" or "classifier"."""
        return f"{variant.name}_{artifact}{self.abilities.suffixes[0]}"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Name, type and shape of an artifact's input and output, a free dimension 0.

        Args:
            labels: how many a classifier has, whose output is their probabilities; 0: the output is an embedding.
        """
        return self.abilities.ports.of(variant, tower, labels)

    def ports(self, variant: Variant, tower: TowerName, form: Form = PLAIN) -> tuple[TensorInfo, TensorInfo]:
        """Input and output of an artifact in a form."""
        source, result = self.tensors(variant, tower, form.labels)
        if form.layout is not None:
            named = form.layout.artifact("classifier" if form.labels else tower)
            source = replace(source, name=named.input.name, dtype=named.input.dtype or source.dtype)
            result = replace(result, name=named.output.name)
        if form.normalised:
            result = replace(result, normalised=True)
        if form.pictures and tower == "image":
            # One at a time: height, width and 3 or 4 channels.
            source = replace(source, dtype="uint8", shape=(0, 0, 0), range=(0.0, 255.0))
            result = replace(result, shape=(1, *result.shape[1:]))
        if form.contexts and tower == "text":
            source = replace(source, shape=(*source.shape[:-1], 0))
        return source, result

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

    def attach(self, artifact: Path, expected: Expected) -> tuple[Attachment, ...]:
        """Write what the options ask for beside an artifact, and say which files there are.

        Raises:
            ExportError: what was written does not hold.
        """
        found = []
        for kind, suffix in self.options.attachments.items():
            attached = self.open_attached(kind, artifact.with_suffix(suffix))
            assert attached is not None
            attached.write(artifact, expected)
            found.append(Attachment(kind, attached.path, expected.tolerance if attached.tolerates else None))
        return tuple(found)

    def open_attached(self, kind: str, path: Path) -> Attached | None:
        """What stands beside an artifact; nothing of it is read yet. None of a kind that this target does not write."""
        return None

    # Reading back and running

    @abstractmethod
    def open(self, path: Path, function: str | None = None) -> Artifact:
        """An artifact, to be read and run; nothing of it is read yet.

        Args:
            function: of an artifact that holds several.

        Raises:
            InvalidInput: a function is named, and this format has none.
        """

    # Timing

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        """Where a bundle's artifacts run on a kind of device: see `Abilities.places`.

        Args:
            device: host, android, ios, mac or browser.
            options: the manifest's.

        Raises:
            NotRun: not this bundle's, or not as the device is; the text says why.
        """
        own = self.abilities
        if device == "host" and device not in own.places:
            return (RuntimePlace(self.name),)
        if device == "host":
            try:
                own.runtime_version()
            except PackageNotFoundError:
                what = own.runtime if own.extra is None else f"'mobileclip-deploy[{own.extra}]'"
                raise NotRun(f"{own.runtime} is not installed; type: pip install {what}") from None
        return own.places.get(device, ())

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """Inputs and outputs of a file that others wrote in this format; called in a process of its own.

        Raises:
            NotRun: this target reads no such files.
        """
        raise NotRun(f"{self.name} reads no files that others wrote")


def _require_layout(target: Target, layout: Layout) -> None:
    if layout.target != target.name:
        raise UsageError(f"the layout {layout.name} is of {layout.target}, not of {target.name}; leave `target` out")
    own = {*vars(target.abilities.ports).values()}
    for name, artifact in layout.artifacts.items():
        if not target.abilities.named_tensors and not {artifact.input.name, artifact.output.name} <= own:
            raise UsageError(
                f"{target.title} artifacts have no names of tensors: call those of {name} in the layout {layout.name} "
                f"{target.abilities.ports.image} and {target.abilities.ports.embedding}"
            )
    for tower in layout.towers:
        wanted, known = layout.artifact(tower).input.dtype, target.abilities.input_types.get(tower, ())
        if wanted is not None and wanted not in known and not layout.artifact(tower).input.any_size:
            has = " or ".join(known) or "a type of its own; leave dtype out"
            raise UsageError(f"the layout {layout.name} wants {wanted} into the {tower} tower; {target.name} has {has}")
