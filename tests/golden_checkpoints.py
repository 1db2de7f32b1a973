"""Golden checkpoints rebuilt from their seed: networks of real size whose answers the reference implementations gave.

tests/golden/README.md says how a tensor follows from (seed, key, shape). Tests and benchmarks use them.
"""

import gzip
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobileclip_deploy.network.checkpoints.identity import identify
from mobileclip_deploy.network.checkpoints.loading import assemble
from mobileclip_deploy.network.checkpoints.tensor_files import TensorFile
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName, load_variant

FOLDER = Path(__file__).parent / "golden"
GOLDEN_NAMES = sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))


def fill(seed: int, key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of one tensor: float32 of `shape`, or the int64 counter."""
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.tensor(1000)
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "little")))
    n = math.prod(shape)
    if leaf == "running_mean":
        values = 0.1 * generator.standard_normal(n)
    elif leaf == "running_var":
        values = generator.uniform(0.5, 1.5, n)
    elif leaf in ("layer_scale", "gamma"):
        values = generator.uniform(0.1, 0.3, n)
    elif leaf == "logit_scale":
        values = np.full(n, math.log(50))
    elif leaf == "logit_bias":
        values = np.full(n, -10.0)
    elif leaf == "bias":
        values = 0.05 * generator.standard_normal(n)
    elif leaf == "weight" and len(shape) <= 1:
        values = generator.uniform(0.8, 1.2, n)
    elif "embedding" in key or "pos_embed" in key or leaf in ("cls_token", "class_embedding"):
        values = 0.3 * generator.standard_normal(n)
    else:
        values = generator.standard_normal(n)
        values /= math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else shape[0])
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def golden_images(seed: int, size: int) -> Tensor:
    """The three images [3, 3, S, S] float32, after all preprocessing."""
    generator = np.random.Generator(np.random.Philox(100 + seed))
    yy, xx = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    noise = generator.uniform(0, 1, (3, size, size))
    ramps = np.stack([yy, xx, 0.5 * (yy + xx)])
    frequencies = generator.uniform(4, 30, 3)
    waves = np.stack([0.5 + 0.5 * np.sin(frequencies[i] * xx * yy + i) for i in range(3)])
    return torch.from_numpy(np.stack([noise, ramps, waves]).astype(np.float32))


def relative_errors(ours: Tensor, golden: Tensor) -> float:
    """The largest ||ours - golden|| / ||golden|| over rows [N, D] or [N, T, D]."""
    ours, golden = ours.flatten(1), golden.flatten(1)
    return ((ours - golden).norm(dim=1) / golden.norm(dim=1)).max().item()


@dataclass(frozen=True)
class GoldenCheckpoint:
    """One golden checkpoint and what the reference answers for it."""

    name: str

    @cached_property
    def card(self) -> dict[str, Any]:
        """`variant`, `layout`, `seed`, `image_size`, `prompts`, `params` and `keys`."""
        with gzip.open(FOLDER / f"{self.name}.json.gz", "rt", encoding="utf-8") as stream:
            return dict(json.load(stream))

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        """`tokens`, `image_embeddings`, `text_embeddings`, `image_digest`."""
        with np.load(FOLDER / f"{self.name}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}

    @property
    def variant(self) -> str:
        return load_variant(self.card["variant"]).name

    @property
    def layout(self) -> str:
        return str(self.card["layout"])

    @cached_property
    def images(self) -> Tensor:
        return golden_images(self.card["seed"], self.card["image_size"])

    @property
    def tokens(self) -> Tensor:
        return self.arrays["tokens"].long()

    @property
    def image_bound(self) -> float:
        """The largest relative error of image embeddings; S2's random weights amplify rounding."""
        return 3e-4 if "-s2." in self.name else 3e-5

    def bound(self, tower: TowerName) -> float:
        """The largest relative error of a tower's embeddings in float32 (tests/golden/README.md)."""
        return self.image_bound if tower == "image" else 3e-5

    def inputs(self, tower: TowerName) -> Tensor:
        """Images [3, 3, S, S] float32 or token ids [5, 77] int64."""
        return self.images if tower == "image" else self.tokens

    def tensor(self, key: str) -> Tensor:
        return fill(self.card["seed"], key, tuple(self.card["keys"][key][0]))

    def state_dict(self) -> dict[str, Tensor]:
        return {key: self.tensor(key) for key in self.card["keys"]}

    def file(self) -> TensorFile:
        """The checkpoint as if it had been opened; every tensor is made when it is read."""
        shapes = {key: tuple(shape) for key, (shape, _) in self.card["keys"].items()}
        return TensorFile(Path(f"{self.name}.pt"), shapes, self.tensor)


@lru_cache(maxsize=1)
def folded_golden(name: str) -> MobileCLIP:
    """A golden checkpoint, folded; the last one asked for is kept."""
    golden = GoldenCheckpoint(name)
    model = assemble(identify(golden.file(), load_variant(golden.variant)))
    fold(model)
    return model
