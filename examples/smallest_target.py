"""Smallest target: torch.onnx writes a tower, ONNX Runtime runs it. docs/extend.md and `Target`'s file show it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets import Artifact, Capabilities, Formats, Ports, Storing, Target, TensorInfo, TowerJob


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


class PlainRunner:
    engine = f"ONNX Runtime {ort.__version__}"

    def __init__(self, path: Path) -> None:
        try:
            self.model = ort.InferenceSession(path)
        except Exception as error:
            raise InvalidInput(f"{path} is damaged; export it again") from error

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        name = self.model.get_inputs()[0].name
        return np.concatenate([self.model.run(None, {name: element[None]})[0] for element in inputs])


def described(port: ort.NodeArg) -> TensorInfo:
    return TensorInfo(port.name, {"tensor(float)": "float32", "tensor(int64)": "int64"}[port.type], tuple(port.shape))
