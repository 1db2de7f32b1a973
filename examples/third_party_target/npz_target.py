"""A target in a package of its own: a tower's weights as a NumPy archive, computed by torch.

pip install examples/third_party_target
mobileclip-deploy export --target npz -o out/        # and verify, inspect, evaluate, compare, benchmark, doctor know it
"""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.folding import fold_structure
from mobileclip_deploy.model.architecture import build_model
from mobileclip_deploy.model.variants import Variant
from mobileclip_deploy.targets import Abilities, Artifact, Target, TensorInfo
from mobileclip_deploy.towers import make_tower


class NpzTarget(Target):
    """Weights by their names in torch, and beside them `about`: the card, the tower, the file's ports."""

    name, title = "npz", "NumPy archives"
    abilities = Abilities(suffixes=(".npz",), precisions=("fp32", "fp16"))

    def artifact_name(self, variant, artifact, precision):
        return f"{variant.name}_{artifact}.npz"

    def tensors(self, variant, tower, labels=0):
        source = TensorInfo(name="ids", dtype="int64", shape=(1, variant.tokens.context_length))
        if tower == "image":
            source = TensorInfo(name="pixels", dtype="float32", shape=(1, *variant.image_input_shape), range=(0.0, 1.0))
        return source, TensorInfo(name="embedding", dtype="float32", shape=(1, variant.embed_dim), normalised=False)

    def write(self, job, path):
        if job.labels:
            raise ExportError("npz holds towers, not classifiers")
        dtype = np.float16 if job.precision == "fp16" else np.float32
        weights = {name: value.numpy().astype(dtype) for name, value in job.module.state_dict().items()}
        about = json.dumps({"card": job.variant.model_dump(mode="json"), "tower": job.tower})
        np.savez(path, about=np.array(about), **weights)
        return ()

    def open(self, path, function=None):
        return NpzArtifact(path)


class NpzArtifact(Artifact):
    """An archive; its ports are those of the tower that it names."""

    @cached_property
    def ports(self):
        _, variant, tower = read(self.path)
        return NpzTarget().tensors(variant, tower)

    @property
    def inputs(self):
        return self.ports[:1]

    @property
    def outputs(self):
        return self.ports[1:]

    @property
    def operators(self):
        return {"weights": len(read(self.path)[0])}

    def runner(self):
        return NpzRunner(self.path)


class NpzRunner:
    """The tower, built again from its card, with the weights of the file: arrays in, embeddings [N, D] out."""

    engine = f"torch {torch.__version__}, weights from an archive"

    def __init__(self, path):
        weights, variant, name = read(path)
        self.tower = make_tower(fold_structure(build_model(variant, "meta")), name)
        self.tower.load_state_dict(
            {key: torch.from_numpy(value.astype(np.float32)) for key, value in weights.items()}, assign=True
        )

    @torch.no_grad()
    def __call__(self, inputs):
        return self.tower(torch.from_numpy(inputs)).numpy()


def read(path: Path):
    """Weights, variant and tower of a file."""
    with np.load(path) as archive:
        weights = dict(archive)
    about = json.loads(str(weights.pop("about")))
    return weights, Variant.model_validate(about["card"]), about["tower"]
