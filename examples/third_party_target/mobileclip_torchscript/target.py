"""The TorchScript target: names, input and output; heavy packages are imported when they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.targets import Artifact, Capabilities, Formats, Packages, Ports, Storing, Target, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.parity import Check

__all__ = ["TorchScriptTarget"]


class TorchScriptTarget(Target):
    name, title = "torchscript", "TorchScript"
    capabilities = Capabilities(
        packages=Packages(required=("torch",), proven={"torch": "2.13.0"}),
        formats=Formats(suffixes=(".ts",)),
        ports=Ports(
            "pixels", "ids", ids="int64", batch=0, input_types={"image": ("float32",), "text": ("int64", "int32")}
        ),
        storing=Storing(precisions=("fp32",), default_precision="fp32"),
    )

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_torchscript.writing import write_module

        write_module(job, path, self.ports(job.variant, job.tower, job.form))
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_torchscript.opening import TorchScriptArtifact

        return TorchScriptArtifact(path, function)
