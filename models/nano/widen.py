"""A wider network that begins where a trained one ended: every channel twice, the same function (Net2Net, arXiv
1511.05641).

    MOBILECLIP_DEPLOY_CARDS=models/nano/teachers python models/nano/widen.py --start NANO.safetensors -o WIDE

What reads a doubled channel splits its weight between the two copies at random, so that their gradients differ and the
copies part in training.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.training.trainer.network import write_weights

__all__ = ["widened"]


@torch.no_grad()
def widened(state: dict[str, Tensor], model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The weights `state` of a network as weights of `model`, the same network with some widths doubled.

    Raises:
        ValueError: a size is neither equal nor doubled.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _widened(name, state[name], like, generator) for name, like in model.state_dict().items()}


def _widened(name: str, value: Tensor, like: Tensor, generator: torch.Generator) -> Tensor:
    if value.shape == like.shape:
        return value
    factors = [new / old for new, old in zip(like.shape, value.shape, strict=True)]
    if any(factor not in (1, 2) for factor in factors):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; {tuple(like.shape)} is not that doubled")
    if name.endswith(("qkv.weight", "qkv.bias")):  # three parts, each of all heads: copies of heads stay within a part
        value = torch.cat([part.repeat(2, *[1] * (part.ndim - 1)) for part in value.chunk(3)])
    elif factors[0] == 2:
        value = value.repeat(2, *[1] * (value.ndim - 1))
    if value.ndim > 1 and factors[1] == 2:
        # Tables of embeddings are looked up, not multiplied with channels.
        share = torch.ones(()) if "embedding" in name else torch.rand(value.shape, generator=generator)
        rest = share if "embedding" in name else 1 - share
        value = torch.cat((value * share, value * rest), dim=1)
    return value.contiguous()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--start", type=Path, required=True, help="checkpoint of the narrow network, training form")
    parser.add_argument("--narrow", default="nano", help="its variant")
    parser.add_argument("--variant", default="nano_wide", help="the wide one")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a checkpoint in training form")
    arguments = parser.parse_args()
    wide = build_model(load_variant(arguments.variant))
    wide.load_state_dict(widened(load(arguments.start, arguments.narrow).state_dict(), wide))
    write_weights(wide, arguments.output)


if __name__ == "__main__":
    main()
