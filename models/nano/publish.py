"""Turns a finished training into the files that are committed, or taught from: weights.safetensors and figures.json.

    python models/nano/publish.py --run BUILD_FOLDER/final.pt --output models/nano

Weights are stored in float16, and the figures are those of the stored weights, read back as any user reads them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from measure import evaluation_set, measure
from torch import Tensor

from mobileclip_deploy.checkpoints import apple, load
from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.model.architecture.mobileone import ConvBN
from mobileclip_deploy.model.variants import load_variant

__all__ = ["TOKENS", "condition", "full_token_table", "publish"]

UNSEEN_NOISE = 0.01
SMALL = 1e-2
TOKENS = "text.token_embedding.weight"


def full_token_table(trained: Tensor, vocabulary: Tensor, size: int) -> Tensor:
    """The trained rows [V, C] at their token ids in a table [size, C]; the other rows get the mean of the trained ones
    and a little seeded noise: a word the model never read says nothing, and no two rows are equal."""
    noise = torch.randn(size, trained.shape[1], generator=torch.Generator().manual_seed(0))
    table = trained.mean(0) + UNSEEN_NOISE * noise
    table[vocabulary] = trained
    return table


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


def trained(run: Path, variant: str) -> MobileCLIP:
    """The network of a run of train.py (.pt) or of `mobileclip-deploy train` (.safetensors)."""
    if run.suffix != ".pt":
        return load(run, variant)
    saved = torch.load(run, weights_only=True)
    state: dict[str, Tensor] = saved["average"]
    state[TOKENS] = full_token_table(state[TOKENS], saved["vocabulary"], load_variant(variant).tokenizer.vocab_size)
    model = build_model(load_variant(variant))
    model.load_state_dict(state)
    return model


def publish(run: Path, variant: str, output: Path) -> None:
    """Writes weights.safetensors (atomically) and figures.json into `output`."""
    metadata = {"variant": variant, "layout": "apple", "form": "training", "licence": "CC-BY-SA-4.0"}
    output.mkdir(parents=True, exist_ok=True)
    model = trained(run, variant)
    condition(model)
    write_tensors(output / "weights.safetensors", apple_layout(model.state_dict(), variant), metadata)
    figures = measure(load(output / "weights.safetensors", variant))
    report = {"dataset": "evaluation", "pairs": len(evaluation_set()[0]), "weights": "weights.safetensors", **figures}
    (output / "figures.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="final.pt, or weights.safetensors of `train`")
    parser.add_argument("--variant", default="nano")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    publish(arguments.run, arguments.variant, arguments.output)


if __name__ == "__main__":
    main()
