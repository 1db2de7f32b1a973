"""Turns what train.py left in the build folder into the committed files: weights.safetensors and figures.json.

    python models/nano/publish.py --work BUILD_FOLDER --output models/nano

Weights are stored in float16, and the figures are those of the stored weights, read back as any user reads them.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from measure import evaluation_set, measure
from safetensors.torch import save_file
from torch import Tensor

from mobileclip_deploy.checkpoints import apple, load
from mobileclip_deploy.variants import load_variant

__all__ = ["full_token_table", "publish"]

UNSEEN_NOISE = 0.01
METADATA = {"variant": "nano", "layout": "apple", "form": "training", "licence": "CC-BY-SA-4.0"}


def full_token_table(trained: Tensor, vocabulary: Tensor, size: int) -> Tensor:
    """The trained rows [V, C] at their token ids in a table [size, C]; the other rows get the mean of the trained ones
    and a little seeded noise: a word the model never read says nothing, and no two rows are equal."""
    noise = torch.randn(size, trained.shape[1], generator=torch.Generator().manual_seed(0))
    table = trained.mean(0) + UNSEEN_NOISE * noise
    table[vocabulary] = trained
    return table


def apple_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under Apple's names and shapes; floating point as float16."""
    keymap = apple.keymap(load_variant("nano"))
    tensors = {}
    for key, value in state.items():
        name, shape = keymap.theirs(key)
        value = shape.theirs(value) if value.dim() else value
        tensors[name] = (value.half() if value.is_floating_point() else value).contiguous()
    return tensors


def publish(work: Path, output: Path) -> None:
    """Writes weights.safetensors (atomically) and figures.json into `output`."""
    saved = torch.load(work / "final.pt", weights_only=True)
    state = saved["average"]
    size = load_variant("nano").tokenizer.vocab_size
    key = "text.token_embedding.weight"
    state[key] = full_token_table(state[key], saved["vocabulary"], size)
    temporary = output / "weights.tmp"
    save_file(apple_layout(state), temporary, metadata=METADATA)
    temporary.chmod(0o644)
    os.replace(temporary, output / "weights.safetensors")
    figures = measure(load(output / "weights.safetensors", "nano"))
    report = {"dataset": "evaluation", "pairs": len(evaluation_set()[0]), "weights": "weights.safetensors", **figures}
    (output / "figures.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder in which train.py left final.pt")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    publish(arguments.work, arguments.output)


if __name__ == "__main__":
    main()
