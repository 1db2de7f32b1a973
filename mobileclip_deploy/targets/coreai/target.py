"""The Core AI target: names, input and output; conversion is in `authoring`, running in `runner`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules, storage_of
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import ComputeUnits, Pace, Ports, Precisions, RuntimePlace, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.foreign_file import ForeignFile

# The default, the CPU alone, and each kind of unit preferred. The runtime does not report where it ran, and some
# choices are reported to answer wrongly. So the golden answers are checked with each.
UNITS: tuple[ComputeUnits, ...] = ("default", "cpuOnly", "preferCPU", "preferGPU", "preferNeuralEngine")
PLACES = tuple(RuntimePlace("coreai", compute_units=unit) for unit in UNITS)


# Apple's runtime for Linux takes 10 times as long as torch in float32. For products of float16, which it sums itself,
# it takes 100 to 400 times as long (docs/coreai.md). `seconds` are those of S0 on a busy Xeon, both towers together.
PACE = Pace(seconds={"float16": 4.0, "float32": 0.35})
# Weights are stored as in Core ML's packages for iOS 18, except 4-bit integers and the table of words.
GROUPS = (32, 16, 8)
# The scale of a block is searched for; the lower end of the range reaches one step further.
FOUR = Grid(4, "integers", low=-8, high=7, scale_bytes=2, positive=True)
RULES = StorageRules(
    eight=integers(8, scale_bytes=2),
    four=Shared(FOUR, GROUPS),
    table=Shared(Grid(4, "table"), GROUPS),
    # The table adds most of the noise of a text tower at 4 bits. nano's has a worst case of 20.0 dB at w4p with these
    # blocks; with one palette per 32 rows it had 17.5, and failed its gate.
    words=Shared(FOUR, (16, 8)),
    rest_bits=16,
    labels=True,
)


class CoreAITarget(Target):
    name = "coreai"
    title = "Core AI"
    capabilities = Capabilities(
        packages=Packages(
            required=("coreai_torch",),  # it is for one version of coreai-core
            extra="coreai",
            wheels="Linux x86-64 (glibc 2.34 or newer) and macOS 26 on arm64, CPython 3.11 to 3.14",
            proven={"coreai-core": "1.0.0b3", "coreai-torch": "0.4.3"},
            runtime_package="coreai-core",
            runtime_modules=("coreai.runtime",),
        ),
        formats=Formats(suffixes=(".aimodel",), order=4),
        ports=Ports(
            embedding="final_emb_1",
            input_types={"image": ("float32",), "text": ("int32",)},
            why_no_pictures="its converter has no antialiased resizing, without which embeddings of photographs differ",
            why_no_contexts="its programs of a free length cannot be checked here, and unchecked files are not written",
        ),
        storing=Storing(
            precisions=("fp32", "fp16", "w8", "w6p", "w4p", "w4"),
            tables=("w8", "w6p", "w4p", "w4"),
            mixes=True,
            learns_rounding=True,
            rules=RULES,
        ),
        places=Places(by_device={"ios": PLACES, "mac": PLACES}, slow_runtime=PACE),
    )

    def advice(self, precisions: Precisions) -> str | None:
        """Returns a warning about these precisions from others' reports on devices, which cannot be tested here."""
        blocks = [name for tower, name in precisions.items() if _has_blocks(tower, name)]
        if not blocks:
            return None
        return (
            f"{' and '.join(dict.fromkeys(blocks))}: 8-bit integers with a scale per block are reported to give wrong "
            "results on the Neural Engine of iOS 27 (coreai-models 279); run the bundle's golden answers on a device "
            "before you ship it."
        )

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreai.authoring import write_asset

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_asset(job, path, storage, source.name, result.name)
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.coreai.opening import CoreAIArtifact

        return CoreAIArtifact(path, function)

    def open_foreign(self, path: Path) -> ForeignFile:
        from mobileclip_deploy.targets.foreign_file import opened_artifact

        return opened_artifact(self.open(path))


def _has_blocks(tower: TowerName, precision: str) -> bool:
    spec = precision_of(precision)
    table = spec.table or spec.rest
    return spec.rest in ("w4", "mixed") or (tower == "text" and table in ("w4", "w4p"))
