"""The TorchScript target: names, input and output; the file is written and read in `module_file`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.targets.base import Target
from mobileclip_deploy.targets.values import Runner, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.storage import StoredWeight

__all__ = ["TorchScriptTarget"]


class TorchScriptTarget(Target):
    name = "torchscript"
    title = "TorchScript"
    packages = ("torch",)
    proven: ClassVar[Mapping[str, str]] = {"torch": "2.13.0"}
    suffixes = (".ts",)
    order = 6
    precisions = ("fp32",)
    default_precision = "fp32"

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.ts"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo("pixels", "float32", (0, *variant.image_input_shape), (0.0, 1.0), "RGB")
        return TensorInfo("ids", "int64", (0, variant.tokens.context_length))

    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        if labels:
            return TensorInfo("probabilities", "float32", (0, labels))
        return TensorInfo("embedding", "float32", (0, *variant.answer_shape), normalised=False)

    def input_types(self, tower: TowerName) -> tuple[str, ...]:
        return ("float32",) if tower == "image" else ("int64", "int32")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.torchscript.module_file import write_module

        write_module(job, path, self.ports(job.variant, job.tower, job.form))
        return ()

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.torchscript.module_file import described

        return described(path)

    def operators(self, path: Path) -> dict[str, int]:
        from mobileclip_deploy.targets.torchscript.module_file import operators

        return operators(path)

    def graph(self, path: Path) -> Graph:
        from mobileclip_deploy.targets.torchscript.reading import read_graph

        return read_graph(path)

    def weights(self, path: Path) -> tuple[StoredWeight, ...]:
        from mobileclip_deploy.targets.torchscript.module_file import read_weights

        return read_weights(path)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.torchscript.module_file import TorchScriptRunner

        return TorchScriptRunner(path)

    def plain_runner(self, path: Path) -> Runner:
        return self.runner(path)
