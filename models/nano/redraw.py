"""A network that begins from another's first layers and draws its last ones anew: another embedding space.

    python models/nano/redraw.py [--start NANO.safetensors] [--seed 101] -o START

Drawn anew are, of the image tower, the last stage, the last convolution and the projection; of the text tower, the last
two layers, the last norm and the projection. They decide every axis of the embedding. What is kept saves the hours that
the first layers take to learn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mobileclip_deploy.checkpoints.loading import load
from mobileclip_deploy.learning.training.network import start, write_weights
from mobileclip_deploy.learning.training.recipe import Recipe
from mobileclip_deploy.model.architecture import MobileCLIP

__all__ = ["redrawn"]

ANEW = (
    *("image.stages.3.position", "image.stages.3.blocks", "image.expand", "image.projection"),
    *("text.blocks.2", "text.blocks.3", "text.final_norm", "text.projection"),
)


def redrawn(trained: MobileCLIP, seed: int) -> MobileCLIP:
    """A network as `train` would draw it by this seed, with the first layers of a trained one."""
    drawn = Recipe(version=1, variant="nano", data=Path(), steps=1, batch=2, learning_rate=1, distillation=0, seed=seed)
    network = start(drawn)
    kept = {name: value for name, value in trained.state_dict().items() if not name.startswith(ANEW)}
    missing, unknown = network.load_state_dict(kept, strict=False)
    assert not unknown
    assert all(name.startswith(ANEW) for name in missing)
    return network


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--start", type=Path, default=Path(__file__).parent / "weights.safetensors")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a checkpoint in training form")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_weights(redrawn(load(arguments.start, "nano"), arguments.seed), arguments.output)


if __name__ == "__main__":
    main()
