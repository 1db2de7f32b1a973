"""The figures of a model on the held-out style: retrieval in both directions and zero-shot classification."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.preprocessing import load_batch
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.model.variants import load_variant

__all__ = ["EVALUATION", "evaluation_set", "measure"]

EVALUATION = Path(__file__).parent / "evaluation"
ROUNDING = 1e-6


@cache
def evaluation_set() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [1911, 3, 64, 64] in [0, 1], caption ids [1911, 77], prompt ids [99, 77], every image's class [1911]."""
    rows = [json.loads(line) for line in (EVALUATION / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    images = load_batch([EVALUATION / row["image"] for row in rows], load_variant("nano").preprocess)
    classes = (EVALUATION / "classes.txt").read_text(encoding="utf-8").splitlines()
    template = json.loads((EVALUATION / "dataset.json").read_text(encoding="utf-8"))["template"]
    captions = torch.from_numpy(tokenize([row["text"] for row in rows]))
    prompts = torch.from_numpy(tokenize([template.format(name) for name in classes]))
    labels = torch.tensor([classes.index(row["label"]) for row in rows])
    return images, captions, prompts, labels


def recall(similarity: Tensor, depth: int) -> float:
    """Percentage of rows whose own column (the diagonal) is among the `depth` most similar ones.

    Ties count against it: 43 images have twins, and rounding must not decide between those.
    """
    own = similarity.diagonal()[:, None]
    return round(100 * ((similarity >= own - ROUNDING).sum(1) <= depth).double().mean().item(), 2)


@torch.no_grad()
def measure(
    model: MobileCLIP, encode: Callable[[Tensor], Tensor] = lambda ids: ids, size: int = 64
) -> dict[str, float]:
    """Percentages over the whole evaluation set.

    `encode` turns token ids into what the model's token table takes. Images are reduced to `size`: a model that has
    only seen smaller images so far is measured on such.
    """
    images, captions, prompts, labels = evaluation_set()
    if size != images.shape[-1]:
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    embed_images = torch.cat([model.encode_image(part) for part in images.split(256)])
    embed_texts = torch.cat([model.encode_text(encode(part)) for part in captions.split(256)])
    embed_classes = model.encode_text(encode(prompts))
    image, text, names = (F.normalize(part, dim=1) for part in (embed_images, embed_texts, embed_classes))
    similarity = image @ text.T
    figures = {f"image_to_text_recall@{depth}": recall(similarity, depth) for depth in (1, 5, 10)}
    figures |= {f"text_to_image_recall@{depth}": recall(similarity.T, depth) for depth in (1, 5, 10)}
    top1 = ((image @ names.T).argmax(1) == labels).double().mean().item()
    return figures | {"zero_shot_top1": round(100 * top1, 2)}
