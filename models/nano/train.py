"""Trains nano on the data that build_data.py wrote, and measures it on the held-out style.

    python models/nano/train.py --work BUILD_FOLDER --stop 3000
    python models/nano/train.py --work BUILD_FOLDER --start BUILD_FOLDER/final.pt --steps 2000 --seed 2

One process, one thread, seeded: the same versions on the same kind of processor give the same weights, unless --minutes
puts the schedule on the clock.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import augment
from captions import CaptionSource
from measure import measure
from publish import TOKENS
from torch import Tensor, nn
from torch.nn import functional as F
from widen import widened

from mobileclip_deploy.checkpoints import load
from mobileclip_deploy.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.model.variants import load_variant

MAX_LOGIT_SCALE = math.log(100)
LAYER_SCALE = 0.3
MONOCHROME_WEIGHT = 0.3
MONOCHROME = ("openmoji-black", "fluent-mono")


@dataclass(frozen=True)
class Recipe:
    """Every number that the result depends on."""

    steps: int
    stop: int
    variant: str = "nano"
    minutes: float = math.inf
    seed: int = 1
    concepts_per_step: int = 64
    images_per_concept: int = 2
    captions_per_step: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.04
    small_share: float = 0.6
    small_size: int = 48
    label_smoothing: float = 0.1
    ema_decay: float = 0.999


class ImageSampler:
    """Draws images of given concepts, each in a random style; monochrome styles come less often."""

    def __init__(self, work: Path, generator: torch.Generator) -> None:
        with np.load(work / "train.npz") as data:
            self.rgba = torch.from_numpy(data["rgba"])
            concept, style = data["concept"], data["style"]
        names = json.loads((work / "concepts.json").read_text(encoding="utf-8"))["styles"]
        weight = np.where(np.isin(style, [names.index(name) for name in MONOCHROME]), MONOCHROME_WEIGHT, 1.0)
        count = int(concept.max()) + 1
        members = [np.flatnonzero(concept == number) for number in range(count)]
        self.images = torch.zeros(count, max(map(len, members)), dtype=torch.long)
        self.weights = torch.zeros(self.images.shape)
        for number, rows in enumerate(members):
            self.images[number, : len(rows)] = torch.from_numpy(rows)
            self.weights[number, : len(rows)] = torch.from_numpy(weight[rows])
        self.generator = generator

    def draw(self, concepts: Tensor, each: int) -> Tensor:
        """Concepts [C] -> RGBA uint8 [C * each, 64, 64, 4]; row i belongs to concept i // each."""
        picks = torch.multinomial(self.weights[concepts], each, generator=self.generator)
        return self.rgba[self.images[concepts].gather(1, picks).flatten()]


def initialise(model: MobileCLIP, vocabulary: int) -> None:
    """Starting values: residual branches at LAYER_SCALE (the published 1e-5 is for runs a hundred times longer), and a
    token table that holds only the `vocabulary` tokens that captions use."""
    for name, parameter in model.named_parameters():
        if name.split(".")[-1].startswith("layer_scale"):
            nn.init.constant_(parameter, LAYER_SCALE)
    assert model.text is not None
    width = model.text.token_embedding.embedding_dim
    model.text.token_embedding = nn.Embedding(vocabulary, width)
    nn.init.normal_(model.text.token_embedding.weight, std=0.1)
    nn.init.normal_(model.text.positional_embedding, std=0.02)


def starting_weights(file: Path, vocabulary: Tensor) -> dict[str, Tensor]:
    """The averaged weights of an earlier run (.pt), or those of a published nano, its token table reduced to
    `vocabulary`."""
    if file.suffix == ".pt":
        average: dict[str, Tensor] = torch.load(file, weights_only=True)["average"]
        return average
    state = load(file, "nano").state_dict()
    state[TOKENS] = state[TOKENS][vocabulary]
    return state


def optimiser(model: nn.Module, anchors: nn.Parameter, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; matrices and kernels decay, everything else does not."""
    matrices = [
        p for n, p in model.named_parameters() if p.ndim > 1 and "embedding" not in n and "layer_scale" not in n
    ]
    chosen = {id(parameter) for parameter in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": [*rest, anchors], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def rate(progress: float, recipe: Recipe) -> float:
    """The learning rate at `progress` in [0, 1]. One cycle: linear warm-up, then half a cosine down to zero."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))


def soft_cross_entropy(logits: Tensor, positives: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy against the uniform distribution over each row's positives (0/1 mask, [R, C] as the logits)."""
    targets = positives / positives.sum(1, keepdim=True)
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    return -(targets * F.log_softmax(logits, 1)).sum(1).mean()


def contrastive_loss(
    images: Tensor, texts: Tensor, anchors: Tensor, scale: Tensor, owners: Tensor, meaning: Tensor, smoothing: float
) -> Tensor:
    """CLIP's symmetric loss over the step's pairs, and both towers against one anchor a concept.

    Args:
        images: [B, D] embeddings; texts: [T, D]; anchors: [K, D], a trained vector a concept that stands for all
            captions that are not in the step: every image meets all K concepts at no cost in the text tower.
        scale: the factor of the cosines.
        owners: [B] the concept of every image.
        meaning: [T, K] 1 where the caption is true of the concept: "cat" is true of a dozen.
    """
    images, texts, anchors = (F.normalize(part, dim=1) for part in (images, texts, anchors))
    of_image = F.one_hot(owners, anchors.shape[0]).float()
    loss = soft_cross_entropy(scale * images @ anchors.T, of_image, smoothing)
    loss = loss + soft_cross_entropy(scale * texts @ anchors.T, meaning, smoothing)
    pairs = meaning[:, owners]
    logits = scale * texts @ images.T
    told = pairs.any(0)
    loss = loss + 0.5 * soft_cross_entropy(logits, pairs)
    return loss + 0.5 * soft_cross_entropy(logits.T[told], pairs.T[told])


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the averaged weights and BatchNorm statistics towards the model's by 1 - decay."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)


@torch.no_grad()
def recompute_statistics(model: MobileCLIP, sampler: ImageSampler, captions: CaptionSource, recipe: Recipe) -> None:
    """Replaces the BatchNorms' running statistics by averages over training data under the final weights."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    count = captions.size
    for _ in range(48):
        concepts = torch.randperm(count, generator=sampler.generator)[: recipe.concepts_per_step]
        model.encode_image(augment(sampler.draw(concepts, 2), 64, sampler.generator))
        model.encode_text(captions.draw(concepts)[0])
    model.eval()
    for norm in norms:
        norm.momentum = 0.1


def write_atomically(path: Path, payload: dict[str, Any]) -> None:
    """torch.save to a temporary file beside `path`, then rename."""
    temporary = path.with_suffix(".tmp")
    torch.save(payload, temporary)
    os.replace(temporary, path)


class Training:
    """A model on its way: the weights, their average, the anchors, the data, and one optimiser for all."""

    def __init__(self, work: Path, recipe: Recipe, start: Path | None, output: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.output = recipe, output
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.captions = CaptionSource(work, random.Random(recipe.seed))
        self.sampler = ImageSampler(work, self.generator)
        self.model = build_model(load_variant(recipe.variant))
        initialise(self.model, len(self.captions.vocabulary))
        anchors = torch.randn(self.captions.size, self.model.variant.embed_dim) * 0.1
        if start is not None:
            self.model.load_state_dict(widened(starting_weights(start, self.captions.vocabulary), self.model))
            anchors = self._captions_as_anchors()
        self.anchors = nn.Parameter(anchors)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        self.model.train()
        self.optimizer = optimiser(self.model, self.anchors, recipe)
        self.steps = 0

    @torch.no_grad()
    def _captions_as_anchors(self) -> Tensor:
        """The embeddings of the concepts' names [K, D]: where anchors stand in a model that has learnt to read."""
        ids = self.captions.encode_labels()
        return F.normalize(torch.cat([self.model.eval().encode_text(part) for part in ids.split(256)]), dim=1)

    def step(self, progress: float, size: int) -> float:
        """One update with images of `size` pixels; returns the loss."""
        recipe = self.recipe
        concepts = torch.randperm(self.captions.size, generator=self.generator)[: recipe.concepts_per_step]
        rgba = self.sampler.draw(concepts, recipe.images_per_concept)
        pixels = augment(rgba, size, self.generator, self.captions.mirrors[concepts])
        ids, meaning = self.captions.draw(concepts[: recipe.captions_per_step])
        owners = concepts.repeat_interleave(recipe.images_per_concept)
        model = self.model
        images, texts, scale = model.encode_image(pixels), model.encode_text(ids), model.logit_scale.exp()
        loss = contrastive_loss(images, texts, self.anchors, scale, owners, meaning, recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(progress, recipe)
        self.optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        update_average(self.average, model, min(recipe.ema_decay, (1 + self.steps) / (10 + self.steps)))
        self.steps += 1
        return loss.item()

    def save(self, name: str) -> None:
        """Writes the averaged weights and the token ids that the rows of their token table stand for."""
        payload = {"average": self.average.state_dict(), "vocabulary": self.captions.vocabulary}
        write_atomically(self.output / name, payload)

    def run(self, report_every: int) -> None:
        """Trains to the end of the recipe, logs to stdout, leaves final.pt."""
        start, running, progress = time.time(), 0.0, 0.0
        while progress < 1 and self.steps < self.recipe.stop:
            size = self.recipe.small_size if progress < self.recipe.small_share else 64
            running += self.step(progress, size)
            minutes = (time.time() - start) / 60
            progress = max(self.steps / self.recipe.steps, minutes / self.recipe.minutes)
            if self.steps % report_every == 0:
                state = f"loss {running / report_every:.3f} scale {self.model.logit_scale.exp().item():.1f}"
                figures = measure(self.average, self.captions.compact, size)
                print(f"step {self.steps}, {minutes:.1f} min, {100 * progress:.0f}%: {state} {figures}", flush=True)
                running = 0.0
                self.save("checkpoint.pt")
        recompute_statistics(self.average, self.sampler, self.captions, self.recipe)
        print(f"final, step {self.steps}: {measure(self.average, self.captions.compact)}", flush=True)
        self.save("final.pt")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of build_data.py")
    parser.add_argument("--output", type=Path, help="folder for checkpoints [the one of --work]")
    parser.add_argument("--variant", default="nano", help="or one twice as wide as what it starts from")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--stop", type=int, help="end after this many steps, before the schedule does")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then, the schedule shortened to fit")
    parser.add_argument("--start", type=Path, help=".pt or .safetensors to go on from, at 64 px and a lower rate")
    parser.add_argument("--learning-rate", type=float, help="its highest [3e-3; 1.2e-3 with --start]")
    parser.add_argument("--average", type=float, help="decay of the running average [0.999; 0.995 with --start]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report-every", type=int, default=250, help="steps between looks at the held-out style")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stop = arguments.stop or arguments.steps
    recipe = Recipe(arguments.steps, stop, arguments.variant, arguments.minutes, arguments.seed)
    if arguments.start is not None:
        recipe = replace(recipe, learning_rate=1.2e-3, small_share=0.0, ema_decay=0.995)
    if arguments.learning_rate is not None:
        recipe = replace(recipe, learning_rate=arguments.learning_rate)
    if arguments.average is not None:
        recipe = replace(recipe, ema_decay=arguments.average)
    output = arguments.output or arguments.work
    output.mkdir(parents=True, exist_ok=True)
    Training(arguments.work, recipe, arguments.start, output).run(arguments.report_every)


if __name__ == "__main__":
    main()
