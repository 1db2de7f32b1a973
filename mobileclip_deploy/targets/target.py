"""Interface of a deployment format: a target writes a tower as an artifact, and opens written artifacts.

The rest of the package knows a deployment format by `Target` only. A new target is a folder, in this package or another
one, with a subclass that an entry point of the group `mobileclip_deploy.targets` names. The smallest target, without
its runner and imports (examples/smallest_target.py):

    class PlainTarget(Target):
        name, title = "plain", "Plain ONNX"
        capabilities = Capabilities(
            formats=Formats((".plain",)), ports=Ports(ids="int64"), storing=Storing(("fp32",), "fp32")
        )

        def write(self, job: TowerJob, path: Path) -> tuple[()]:
            source, result = ([port.name] for port in self.ports(job.variant, job.tower))
            torch.onnx.export(job.module, (job.example,), path, input_names=source, output_names=result, dynamo=False)
            return ()

        def open(self, path: Path, function: str | None = None) -> Artifact:
            return PlainArtifact(path, function)


    class PlainArtifact(Artifact):
        inputs = property(lambda self: tuple(described(port) for port in self.runner().model.get_inputs()))
        outputs = property(lambda self: tuple(described(port) for port in self.runner().model.get_outputs()))

        @property
        def operators(self) -> dict[str, int]:
            self.runner()  # refuses a damaged file
            return Counter(node.op_type for node in onnx.load(self.path).graph.node)

        def runner(self) -> PlainRunner:
            return PlainRunner(self.path)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError
from mobileclip_deploy.targets.capabilities import Capabilities
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
    import numpy as np
    import numpy.typing as npt

    from mobileclip_deploy.artifacts.layouts import Layout
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.artifact import Artifact, Attached
    from mobileclip_deploy.targets.foreign_file import ForeignFile
    from mobileclip_deploy.targets.rules import StorageRules


class Target(ABC):
    """A deployment format, with chosen options.

    Attributes:
        name: name in manifests and on the command line.
        title: name for people.
        capabilities: everything known about the format before anything runs.
        Options: class of `options`, which a user may choose.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    capabilities: Capabilities
    Options: ClassVar[type[TargetOptions]] = TargetOptions
    options: TargetOptions

    def __init__(self, options: TargetOptions | None = None) -> None:
        self.options = self.Options() if options is None else options

    def with_options(self, options: TargetOptions) -> Self:
        """Returns the target with other options."""
        return type(self)(options)

    @property
    def label(self) -> str:
        """Name of the target in a bundle's folder: `name`, with the variation that its options choose."""
        variation = self.options.variation
        return self.name if variation is None else f"{self.name}-{variation}"

    # Decisions before anything runs

    def has(self, precisions: Precisions) -> bool:
        """Returns whether the target has these precisions for these towers."""
        return all(self.capabilities.storing.has(tower, precision) for tower, precision in precisions.items())

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """Refuses an export that cannot work, before anything heavy runs.

        Args:
            mixed: True if the layers of precision "mixed" have been chosen, without which that name has no meaning.

        Raises:
            UsageError: the target lacks a precision (the text lists those that it has), or the options cannot be used
                with it.
            DependencyMissing: a package is not installed; the text holds the pip line.
        """
        storing = self.capabilities.storing
        for tower, precision in precisions.items():
            named = storing.mixes and precision == "mixed" and mixed
            if not storing.has(tower, precision) and not named:
                raise UsageError(storing.lacking(self.label, tower, precision))
        self.require_installed(converters=True)
        self.settled(precisions)

    def require_installed(self, *, converters: bool = False) -> None:
        """Refuses to read, run or write this format without its packages.

        Args:
            converters: True if the packages for writing are needed too.

        Raises:
            DependencyMissing: a package is not installed; the text holds the pip line.
        """
        needs = self.capabilities.packages
        missing = needs.missing(converters=converters)
        if missing:
            extra = (needs.converter_extra or needs.extra) if {*missing} & {*needs.converters} else needs.extra
            what = f"'mobileclip-deploy[{extra}]'" if extra else " ".join(missing)
            where = f" (there are wheels for {needs.wheels})" if needs.wheels else ""
            raise DependencyMissing(f"target {self.name} needs {', '.join(missing)}; type: pip install {what}{where}")

    def require_form(self, form: Form) -> None:
        """Refuses a form that the format, or this target, does not support.

        Raises:
            UsageError: the text says why.
        """
        ports = self.capabilities.ports
        if form.layout is not None:
            _require_layout(self, form.layout)
        if form.pictures and ports.why_no_pictures is not None:
            raise UsageError(f"`input='bytes'` is not supported for {self.title}: {ports.why_no_pictures}")
        if form.contexts and ports.why_no_contexts is not None:
            raise UsageError(f"`contexts` is not supported for {self.title}: {ports.why_no_contexts}")

    def settled(self, precisions: Precisions) -> Target:
        """Returns the target with every decision made that the user left open.

        Raises:
            UsageError: the options cannot be used with these precisions.
        """
        return self

    def advice(self, precisions: Precisions) -> str | None:
        """Returns one line for the user about decisions made for them. None if there is nothing to say."""
        return None

    def rules(self, precision: str) -> StorageRules | None:
        """Returns how the format stores weights. None if the target has no rules: every weight then counts with the
        precision's bits."""
        return self.capabilities.storing.rules

    # Interface for apps

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        """Returns the path of an artifact inside its bundle; `artifact` is "image", "text" or "classifier"."""
        return f"{variant.name}_{artifact}{self.capabilities.formats.suffixes[0]}"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Returns name, type and shape of an artifact's input and output. A free dimension is 0.

        Args:
            labels: number of a classifier's labels, whose probabilities are the output; 0 if the output is an
                embedding.
        """
        return self.capabilities.ports.of(variant, tower, labels)

    def ports(self, variant: Variant, tower: TowerName, form: Form = PLAIN) -> tuple[TensorInfo, TensorInfo]:
        """Returns input and output of an artifact in a form."""
        source, result = self.tensors(variant, tower, form.labels)
        if form.layout is not None:
            named = form.layout.artifact("classifier" if form.labels else tower)
            source = replace(source, name=named.input.name, dtype=named.input.dtype or source.dtype)
            result = replace(result, name=named.output.name)
            if named.input.applied is not None:
                source = replace(source, range=named.input.applied.range)
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
        """Writes the artifact to `path`: the same job gives the same bytes.

        Returns:
            Comparisons of each conversion stage with the stage before it; empty for a conversion in one step.

        Raises:
            ExportError: the converter failed, or a stage no longer computes the same as the one before it.
        """

    def stage_checks(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        """Measures again the stage checks of `write`, with the artifact at `path` as the last stage.

        Raises:
            ExportError: a stage failed.
            RuntimeFailed: the runtime refused the artifact.
        """
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        """Arranges the written files as the options require: unchanged, or joined into one file.

        Args:
            folder: folder of the bundle.
            files: path of each tower, relative to the folder.
        """
        return {tower: Place(file) for tower, file in files.items()}

    def join(self, folder: Path, files: Mapping[TowerName, str], scale: float) -> Path | None:
        """Writes the file of both towers together that the options request, and returns it. None if they request none.

        Args:
            folder, files: as in `place`, which is called next.
            scale: factor of a cosine in a logit.
        """
        return None

    def joint_answers(
        self, path: Path, images: npt.NDArray[np.generic], ids: npt.NDArray[np.generic]
    ) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
        """Runs a file that `join` wrote. Returns its outputs by name, and the engine.

        Raises:
            NotRun: this target does not write such files.
            RuntimeFailed: the runtime refused it.
        """
        raise NotRun(f"{self.title} has no joint files")

    def attach(self, artifact: Path, expected: Expected) -> tuple[Attachment, ...]:
        """Writes the optional files that the options request next to an artifact, and returns them.

        Raises:
            ExportError: a written file fails its check.
        """
        attachments = []
        for kind, suffix in self.options.attachments.items():
            attached = self.open_attached(kind, artifact.with_suffix(suffix))
            assert attached is not None
            attached.write(artifact, expected)
            attachments.append(Attachment(kind, attached.path, expected.tolerance))
        return tuple(attachments)

    def open_attached(self, kind: str, path: Path) -> Attached | None:
        """Returns the optional file of a kind next to an artifact, not read yet. None if this target does not write the
        kind."""
        return None

    # Reading back and running

    @abstractmethod
    def open(self, path: Path, function: str | None = None) -> Artifact:
        """Returns an artifact to read and run; nothing is read yet.

        Args:
            function: name of the function, if the artifact holds several.

        Raises:
            InvalidInput: a function is named, and this format has no functions.
        """

    # Timing

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        """Returns the places where a bundle's artifacts run on a kind of device: see `Places.by_device`.

        Args:
            device: host, android, ios, mac or browser.
            options: options in the manifest.

        Raises:
            NotRun: this bundle cannot run there, or the device lacks something; the text says why.
        """
        packages, places = self.capabilities.packages, self.capabilities.places.by_device
        if device == "host" and device not in places:
            return (RuntimePlace(self.name),)
        if device == "host":
            try:
                packages.runtime_version()
            except PackageNotFoundError:
                what = packages.runtime if packages.extra is None else f"'mobileclip-deploy[{packages.extra}]'"
                raise NotRun(f"{packages.runtime} is not installed; type: pip install {what}") from None
        return places.get(device, ())

    def open_foreign(self, path: Path) -> ForeignFile:
        """Loads a file in this format that others wrote, with all its inputs and outputs; called in a separate process.

        Raises:
            InvalidInput: it is damaged, or reads files outside of its folder.
            NotRun: this target does not run such files, or lacks some of its operations.
        """
        raise NotRun(f"{self.name} cannot run files that other tools wrote")


def _require_layout(target: Target, layout: Layout) -> None:
    if layout.target != target.name:
        raise UsageError(f"the layout {layout.name} is for {layout.target}, not for {target.name}; leave `target` out")
    ports = target.capabilities.ports
    port_names = {ports.image, ports.text, ports.embedding, ports.probabilities}
    for name, artifact in layout.artifacts.items():
        if not ports.named and not {artifact.input.name, artifact.output.name} <= port_names:
            raise UsageError(
                f"{target.title} artifacts have no tensor names of their own: name those of {name} in the layout "
                f"{layout.name} {ports.image} and {ports.embedding}"
            )
    if layout.applied is not None and not ports.undoes_applied:
        raise UsageError(f"{target.title} takes pixels in [0, 1]; leave `applied` out of the layout {layout.name}")
    for tower in layout.towers:
        dtype, dtypes = layout.artifact(tower).input.dtype, ports.input_types.get(tower, ())
        if dtype is not None and dtype not in dtypes and not layout.artifact(tower).input.any_size:
            has = " or ".join(dtypes) or "its own type; leave dtype out"
            raise UsageError(
                f"the layout {layout.name} needs {dtype} as input of the {tower} tower; {target.name} has {has}"
            )
