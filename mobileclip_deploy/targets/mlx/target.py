"""The MLX target: names, input and output, options. MLX traces the ONNX target's graph."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.mlx.storage import RULES
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Pace, Ports, Precisions, RuntimePlace, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.foreign_file import ForeignFile
    from mobileclip_deploy.targets.mlx.function_file import Device

UNITS = ("gpu", "cpu")
READERS = ("0.32", "0.31")
NOT_TIMED = {
    "ios": "MLX runs on iPhones only in an app that includes it: measure in yours (docs/start_ios.md)",
    "mac": "MLX is timed on a Mac by `device='host'`",
}
# The CPU here takes 8 to 60 times as long as torch: it serves for proof, not for speed.
PACE = Pace(seconds={"float16": 1.0, "float32": 1.0})


@dataclass(frozen=True)
class MlxOptions(TargetOptions):
    """Options of the target. `unit`: gpu or cpu, recorded in the file. `reader`: the oldest MLX that reads it, 0.32
    (from 0.32.2) or 0.31 (up to 0.32.1), which have different forms."""

    unit: str = option("--unit", "Processor that runs the file: gpu or cpu.", default="gpu", metavar="UNIT")
    reader: str = option(
        "--reader", "MLX version of your app: 0.32 (from 0.32.2), or 0.31.", default="0.32", metavar="N.NN"
    )


class MlxTarget(Target):
    name = "mlx"
    title = "MLX"
    Options = MlxOptions
    options: MlxOptions
    capabilities = Capabilities(
        packages=Packages(
            extra="mlx",
            converters=("mlx", "onnx", "onnxscript"),
            converter_extra="mlx",
            proven={"mlx": "0.32.4"},
            runtime_package="mlx",
        ),
        formats=Formats(suffixes=(".mlxfn",), order=7),
        ports=Ports(named=False, why_no_contexts="a function in its file has one shape"),
        storing=Storing(
            precisions=("fp32", "fp16", "w8", "w4"),
            tables=("w8", "w4"),
            mixes=True,
            learns_rounding=True,
            absorbs_layer_scales=True,
            rules=RULES,
        ),
        places=Places(slow_runtime=PACE),
    )

    def settled(self, precisions: Precisions) -> MlxTarget:
        """Returns the target as it is; refuses an unknown unit or reader."""
        for name, allowed in (("unit", UNITS), ("reader", READERS)):
            if (chosen := getattr(self.options, name)) not in allowed:
                raise UsageError(f"unknown {name} {chosen!r}; known: {', '.join(allowed)}")
        return self

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.mlx.writing import write_function

        unit: Device = "gpu" if self.options.unit == "gpu" else "cpu"
        ports = self.ports(job.variant, job.tower, job.form)
        write_function(job, path, ports, unit, self.options.reader != "0.31")
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.mlx.opening import MlxArtifact

        return MlxArtifact(path, function)

    def open_foreign(self, path: Path) -> ForeignFile:
        from mobileclip_deploy.targets.foreign_file import opened_artifact

        return opened_artifact(self.open(path))

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        if device in NOT_TIMED:
            raise NotRun(NOT_TIMED[device])
        places = super().places(device, options)
        if device == "host" and options.get("unit", "gpu") == "gpu" and not _has_gpu():
            raise NotRun(
                "the file is for Apple's GPUs, and MLX finds none here: benchmark it on a Mac; the time of a CPU does "
                "not predict it"
            )
        return places


def _has_gpu() -> bool:
    if importlib.util.find_spec("mlx") is None and sys.platform != "darwin":
        return False  # on a Mac it is MLX that is missing
    from mobileclip_deploy.targets.mlx.opening import runtime

    mx = runtime().mx
    return bool(mx.is_available(mx.gpu))
