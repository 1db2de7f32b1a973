"""The TorchScript target: names, input and output; what is heavy is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.targets import Abilities, Artifact, Target, TensorInfo, TowerJob
from mobileclip_deploy.targets.artifact import refuse_function

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check

__all__ = ["TorchScriptTarget"]


class TorchScriptTarget(Target):
    name, title = "torchscript", "TorchScript"
    abilities = Abilities(
        packages=("torch",),
        proven={"torch": "2.13.0"},
        suffixes=(".ts",),
        precisions=("fp32",),
        default_precision="fp32",
        input_types={"image": ("float32",), "text": ("int64", "int32")},
    )

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.ts"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        if tower == "image":
            source = TensorInfo("pixels", "float32", (0, *variant.image_input_shape), (0.0, 1.0), "RGB")
        else:
            source = TensorInfo("ids", "int64", (0, variant.tokens.context_length))
        if labels:
            return source, TensorInfo("probabilities", "float32", (0, labels))
        return source, TensorInfo("embedding", "float32", (0, *variant.answer_shape), normalised=False)

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_torchscript.writing import write_module

        write_module(job, path, self.ports(job.variant, job.tower, job.form))
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_torchscript.opening import TorchScriptArtifact

        refuse_function(self.name, function)
        return TorchScriptArtifact(path)
