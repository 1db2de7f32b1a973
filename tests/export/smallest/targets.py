"""A target whose artifacts answer as the checkpoint does, with as much noise as their precision is told to have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import mobileclip_deploy as mcd
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.variants import TowerName, Variant
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import Artifact, Capabilities, Storing, Target, TargetOptions, TensorInfo, TowerJob
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.rules import StorageRules


class NoisyRunner:
    """The checkpoint and noise."""

    engine = "noise"

    def __init__(self, model: mcd.MobileCLIP, tower: str, noise: float) -> None:
        self._model, self._tower, self._noise = model, tower, noise

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        exact = (embed_images if self._tower == "image" else embed_texts)(self._model, inputs)
        drawn = np.random.default_rng(0).standard_normal(exact.shape).astype(np.float32)
        scale = np.linalg.norm(exact, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
        return exact + self._noise * scale * drawn


class NoisyTarget(Target):
    """`noise`: relative, by "tower precision"; what is not in it is exact. `exported` counts conversions."""

    name = "noisy"
    title = "Noise"

    def __init__(self, model: mcd.MobileCLIP, precisions: tuple[str, ...], noise: Mapping[str, float]) -> None:
        super().__init__()
        self.capabilities = Capabilities(storing=Storing(precisions))
        self.noise, self.model = noise, model
        self.exported: list[str] = []
        self.stop_at: str | None = None

    def with_options(self, options: TargetOptions) -> NoisyTarget:
        return self

    def rules(self, precision: str) -> StorageRules:
        """As many bytes as the bits say, and nothing rounded but at fp16: what is told here is found in the file."""
        bits = PRECISIONS[precision].bits
        return StorageRules(eight=Grid(bits), rest_bits=bits, small=True, labels=True)

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{artifact}.json"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        assert not labels, "the search writes no classifier"
        shape = (0, *variant.image_input_shape) if tower == "image" else (0, variant.tokenizer.context_length)
        source = TensorInfo("in", "float32" if tower == "image" else "int64", shape, None, None)
        return source, TensorInfo("out", "float32", (0, variant.embed_dim))

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        name = f"{job.tower} {job.precision}"
        if name == self.stop_at:
            raise KeyboardInterrupt
        if job.precision != "fp32":
            self.exported.append(name)
        content = {"tower": job.tower, "noise": self.noise.get(name, 0), "bits": PRECISIONS[job.precision].bits}
        path.write_text(json.dumps(content) + " " * 1000 * PRECISIONS[job.precision].bits, encoding="utf-8")
        return ()

    def open(self, path: Path, function: str | None = None) -> NoisyArtifact:
        return NoisyArtifact(path, self)


class NoisyArtifact(Artifact):
    """The tower and its noise, as JSON."""

    def __init__(self, path: Path, target: NoisyTarget) -> None:
        super().__init__(path)
        self._target = target
        self._content = json.loads(path.read_text(encoding="utf-8"))

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self._target.tensors(self._target.model.variant, self._content["tower"])[:1]

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self._target.tensors(self._target.model.variant, self._content["tower"])[1:]

    def runner(self) -> NoisyRunner:
        return NoisyRunner(self._target.model, self._content["tower"], self._content["noise"])
