"""Turns a finished training into the files that are committed: weights.safetensors and figures.json.

    python models/nano/publish.py --run RUN_FOLDER/weights.safetensors --output models/nano

Weights are stored in float16, and the figures are those of the stored weights, read back as any user reads them.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.network.checkpoints import apple
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder

__all__ = ["condition", "figures", "publish"]

SMALL = 1e-2


def apple_layout(state: dict[str, Tensor], variant: str) -> dict[str, Tensor]:
    """Our state dict under Apple's names and shapes; floating point as float16."""
    keymap = apple.keymap(load_variant(variant))
    tensors = {}
    for key, value in state.items():
        name, shape = keymap.theirs(key)
        value = shape.theirs(value) if value.dim() else value
        tensors[name] = (value.half() if value.is_floating_point() else value).contiguous()
    return tensors


@torch.no_grad()
def condition(model: MobileCLIP) -> None:
    """Scale up what a convolution gives so little of that its variance is below SMALL, in place and by powers of two,
    its BatchNorm with it: the function stays the same, and float16, which stores small variances coarsely, keeps it."""
    for block in model.modules():
        if isinstance(block, ConvBN):
            mean, variance = block.bn.running_mean, block.bn.running_var
            assert mean is not None
            assert variance is not None
            spread = variance + block.bn.eps
            factor = torch.exp2((0.5 * torch.log2(SMALL / spread)).ceil()).clamp(min=1)
            block.conv.weight.mul_(factor[:, None, None, None])
            mean.mul_(factor)
            variance.copy_(torch.where(factor > 1, factor**2 * spread - block.bn.eps, variance))


def figures(model: MobileCLIP) -> dict[str, float]:
    """Top-k and recall@k in percent on the held-out set, as `mobileclip-deploy evaluate` measures them."""
    found = measure(model_embedder(model), builtin_dataset()).result.figures
    return {name: round(figure.value, 2) for name, figure in found.items()}


def publish(run: Path, variant: str, output: Path) -> None:
    """Writes weights.safetensors and figures.json into `output`."""
    metadata = {"variant": variant, "layout": "apple", "form": "training", "licence": "CC-BY-SA-4.0"}
    output.mkdir(parents=True, exist_ok=True)
    model, weights = load(run, variant), output / "weights.safetensors"
    condition(model)
    save_tensors(weights, apple_layout(model.state_dict(), variant), metadata)
    measured = json.dumps({"weights": weights.name, **figures(load(weights, variant))}, indent=2)
    (output / "figures.json").write_text(measured + "\n", encoding="utf-8")
    print(measured)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="weights.safetensors of `mobileclip-deploy train`")
    parser.add_argument("--variant", default="nano")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    publish(arguments.run, arguments.variant, arguments.output)


if __name__ == "__main__":
    main()
