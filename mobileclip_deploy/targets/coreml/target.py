"""The Core ML target: names, input and output, the oldest system that a package needs, and where in Core ML it runs;
conversion is in `package`, running in `runner`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun, UsageError, suggestion
from mobileclip_deploy.model.precision import PRECISIONS, precision_of
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.rules import Shared, StorageRules, storage_of
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import (
    ComputeUnits,
    Form,
    Place,
    Ports,
    Precisions,
    RuntimePlace,
    TensorInfo,
    TowerJob,
)

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")  # of two texts the older one is the smaller
DEFAULT_TARGET = "iOS16"
UNITS: tuple[ComputeUnits, ...] = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
PLACES = tuple(RuntimePlace("coreml", compute_units=unit) for unit in UNITS)
UNITS_VARIABLE = "MOBILECLIP_COREML_UNITS"
# The first system that reads packages of several functions.
MULTIFUNCTION_TARGET = "iOS18"
# The oldest system that can run a precision, and what of it that one is needed for.
NEEDED = {
    "fp32": ("iOS15", "ML programs"),
    "fp16": ("iOS15", "ML programs"),
    "w8": ("iOS16", "8-bit weights"),
    "w8a8": ("iOS17", "8-bit activations"),
    "w6p": ("iOS16", "palettized weights"),
    "w4p": ("iOS16", "palettized weights"),
    "w4p-p50": ("iOS18", "weights both pruned and palettized"),
    "w4": ("iOS18", "4-bit weights in blocks"),
    "mixed": ("iOS18", "4-bit weights in blocks"),
}


def allowed_units() -> tuple[ComputeUnits, ...]:
    """The compute units that Core ML is asked for: all, or those that MOBILECLIP_COREML_UNITS names, with commas.

    The GPU of a virtual Mac ends the process that computes on it.

    Raises:
        UsageError: one that is named there is none.
    """
    named = [name.strip() for name in os.environ.get(UNITS_VARIABLE, "").split(",") if name.strip()]
    for name in named:
        if name not in UNITS:
            raise UsageError(f"{UNITS_VARIABLE}={name} is no compute unit; known: {', '.join(UNITS)}")
    return tuple(unit for unit in UNITS if unit in named or not named)


@dataclass(frozen=True)
class CoreMLOptions(TargetOptions):
    """`deployment_target`: iOS15 to iOS18; None leaves it to the precisions. `multifunction` puts both towers into one
    package, one function per tower, which iOS 18 can read."""

    deployment_target: str | None = option(
        "--deployment-target", "The oldest system to run on [default: iOS16, or as needed].", metavar="iOSNN"
    )
    multifunction: bool = option(
        "--multifunction", "Both towers in one package, a function each (iOS18).", default=False
    )


def _parts(precisions: Iterable[str]) -> list[str]:
    """The precisions themselves, a table's own apart, each once."""
    found = [precision_of(name) for name in precisions]
    return list(dict.fromkeys(name for one in found for name in (one.rest, one.table) if name is not None))


def reported(precisions: Iterable[str]) -> str | None:
    """What others report of these precisions on devices, which nothing here can see; None for those without reports."""
    narrow = [name for name in _parts(precisions) if PRECISIONS[name].bits == 4]
    if not narrow:
        return None
    return (
        f"{' and '.join(narrow)}: 4-bit weights are reported to answer wrongly or to crash on the Neural Engine of "
        "macOS 26 (coremltools 2688, 2716); run the bundle's golden answers on a device before you ship it."
    )


def needed_target(precisions: Iterable[str], wanted: str | None = None) -> str:
    """The deployment target: as wanted, or the default raised to what precisions need.

    Args:
        precisions: of the towers.
        wanted: what the user gave; None where nothing was given.

    Raises:
        UsageError: unknown, or older than a precision needs.
    """
    if wanted is not None and wanted not in DEPLOYMENT_TARGETS:
        close = suggestion(wanted, DEPLOYMENT_TARGETS)
        raise UsageError(f"unknown deployment target {wanted!r}{close}; known: {', '.join(DEPLOYMENT_TARGETS)}")
    needed = max(_parts(precisions), key=lambda name: NEEDED[name][0])
    oldest, why = NEEDED[needed]
    if wanted is None:
        return max(DEFAULT_TARGET, oldest)
    if wanted < oldest:
        raise UsageError(
            f"precision {needed} needs {oldest} ({why}), and the deployment target given is {wanted}; "
            f"give {oldest} or leave it out"
        )
    return wanted


GROUPS = (32, 16, 8)
RULES = StorageRules(
    eight=integers(8, scale_bytes=2),
    four=Shared(integers(4, scale_bytes=2), GROUPS),
    table=Shared(Grid(4, "table"), GROUPS),
    rest_bits=16,
    labels=True,
)
# One table a weight, and a scale has a zero point.
BEFORE_IOS18 = replace(RULES, eight=integers(8, scale_bytes=3), table=Shared(Grid(4, "table")))


class CoreMLTarget(Target):
    name = "coreml"
    title = "Core ML"
    Options = CoreMLOptions
    options: CoreMLOptions
    abilities = Abilities(
        packages=("coremltools",),
        extra="coreml",
        proven={"coremltools": "9.0 or 9.1.dev1"},
        suffixes=(".mlpackage",),
        order=2,
        precisions=("fp32", "fp16", "w8", "w8a8", "w6p", "w4p", "w4p-p50", "w4"),
        tables=("w8", "w6p", "w4p", "w4"),
        mixes=True,
        recoverable=True,
        absorbs_layer_scales=True,
        readable=True,
        input_types={"image": ("uint8",), "text": ("int32",)},
        no_pictures="its image input takes bytes of one size already, and ML programs have no antialiased resizing; "
        "let Vision or Core Image resize (docs/coreml.md)",
        no_contexts=None,
        not_searched={"multifunction": "smallest searches a precision for each tower; leave `multifunction` out"},
        ports=Ports(embedding="final_emb_1", probabilities="classLabel_probs", pixels="uint8"),
        places=dict.fromkeys(("host", "ios", "mac"), PLACES),
        runtime_modules=("coremltools",),
    )

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, and refuses a deployment target that does not exist or is too old for what is wanted."""
        super().require(precisions, mixed)
        self.settled(precisions)

    def settled(self, precisions: Precisions) -> CoreMLTarget:
        """With the deployment target as it was given, or what precisions, and functions, need."""
        wanted, functions = self.options.deployment_target, self.options.multifunction
        if functions and len(precisions) == 1:
            (tower,) = precisions
            alone = f"leave it out for the {tower} tower alone"
            raise UsageError(f"`multifunction` puts both towers into one package; {alone}")
        oldest = needed_target(precisions.values(), wanted or (MULTIFUNCTION_TARGET if functions else None))
        if functions and oldest < MULTIFUNCTION_TARGET:
            raise UsageError(
                f"`multifunction` needs {MULTIFUNCTION_TARGET} (packages of several functions), and the deployment "
                f"target given is {oldest}; give {MULTIFUNCTION_TARGET} or leave one of the two out"
            )
        return CoreMLTarget(replace(self.options, deployment_target=oldest))

    def advice(self, precisions: Precisions) -> str | None:
        """What raised the deployment target, and what others report of these precisions."""
        oldest, told = self.settled(precisions).options.deployment_target, [reported(precisions.values())]
        if oldest is not None and self.options.deployment_target is None and oldest > DEFAULT_TARGET:
            raised = [name for name in dict.fromkeys(precisions.values()) if needed_target([name]) > DEFAULT_TARGET]
            why = "`multifunction`" if self.options.multifunction else " and ".join(raised)
            told.insert(0, f"Deployment target raised from {DEFAULT_TARGET} to {oldest}, which {why} needs.")
        return " ".join(text for text in told if text) or None

    def _oldest(self, precision: str) -> str:
        return self.options.deployment_target or needed_target([precision])

    def rules(self, precision: str) -> StorageRules:
        return RULES if self._oldest(precision) >= "iOS18" else BEFORE_IOS18

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Input and output of a tower. A classifier's output is a dictionary from label to probability, as Vision reads
        it; beside it stands `classLabel`."""
        source, result = super().tensors(variant, tower, labels)
        return source, TensorInfo(result.name, "dictionary", ()) if labels else result

    def require_form(self, form: Form) -> None:
        super().require_form(form)
        if form.contexts and self.options.multifunction:
            raise UsageError("`contexts` are of a text tower in a package of its own; leave `multifunction` out")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreml.package import write_package

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_package(job, path, self._oldest(job.precision), storage, source.name, result.name)
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreml.package import join

        name = f"{variant.name}.mlpackage"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact

        return CoreMLArtifact(path, function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        if device == "host" and platform.system() != "Darwin":
            raise NotRun("Core ML exists on macOS only (the evaluator's time is no latency)")
        units = allowed_units()
        return tuple(place for place in super().places(device, options) if place.compute_units in units)
