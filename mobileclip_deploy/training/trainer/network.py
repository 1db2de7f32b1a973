"""The trained network, its optimizer and schedule, and the file of its weights."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.checkpoints.fitting import CandidateIdentity
from mobileclip_deploy.network.checkpoints.identity import TUNED_FROM
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.preprocessing import METADATA
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.variants import TOWERS, Variant, load_variant
from mobileclip_deploy.training.trainer.recipe import Optimisation, Recipe

EMBEDDING_STD = 0.02
LORA_SCALE = 2.0  # alpha / rank, for the usual alpha of twice the rank


def start(recipe: Recipe) -> MobileCLIP:
    """Returns the network that a training begins with, in training mode.

    Raises:
        UsageError: the recipe continues from a folded checkpoint, which has nothing left to train.
        CheckpointError: its checkpoint cannot be read.
    """
    variant = load_variant(recipe.variant)
    torch.manual_seed(recipe.seed)
    if recipe.start is None:
        model = build_model(variant)
        _draw(model, recipe.layer_scale)
    else:
        model = load(recipe.start, recipe.variant, preprocess=recipe.preprocess)
        if is_folded(model):
            raise UsageError(f"{recipe.start} is folded; give a checkpoint in training form")
    preprocess = None if model.provenance is None else model.provenance.preprocess
    model.provenance = Provenance(
        variant=variant.name,
        layout=_layout(variant),
        sha256="0" * 64,
        file="in training",
        licence=variant.licence.name,
        research_only=variant.licence.research_only,
        preprocess=preprocess,
    )
    model.requires_grad_(True).train()
    if recipe.statistics is not None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    if recipe.lora is not None:
        _add_factors(model, recipe.lora)
    return model


class LowRank(nn.Module):
    """Parametrization of a weight [out, in (, 1, 1)]: itself plus a product of two trained factors, which is zero at
    first (LoRA, arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, weight[0].numel()))
        self.up = nn.Parameter(torch.zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as PEFT draws them

    def forward(self, weight: Tensor) -> Tensor:
        return weight + LORA_SCALE * (self.up @ self.down).reshape(weight.shape)


def _add_factors(model: MobileCLIP, rank: int) -> None:
    """Freezes all weights except the temperature, and adds factors to every matrix and 1 x 1 convolution."""
    model.requires_grad_(False)
    model.logit_scale.requires_grad_(True)
    for module in [*model.modules()]:
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        if isinstance(module, nn.Linear) or (module.kernel_size == (1, 1) and module.groups == 1):
            parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank))


def merge_factors(model: MobileCLIP) -> MobileCLIP:
    """Returns the model with the factors of LoRA, if it has them, merged into its weights."""
    for module in [*model.modules()]:
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return model


@torch.no_grad()
def _draw(model: MobileCLIP, layer_scale: float) -> None:
    for name, parameter in model.named_parameters():
        if name.split(".")[-1].startswith("layer_scale"):
            parameter.fill_(layer_scale)
    assert model.text is not None
    nn.init.normal_(model.text.token_embedding.weight, std=EMBEDDING_STD)
    nn.init.normal_(model.text.positional_embedding, std=EMBEDDING_STD)


def optimizer(model: nn.Module, objective: nn.Module, recipe: Optimisation) -> torch.optim.AdamW:
    """Returns AdamW. Matrices and kernels of the model decay; other parameters and those of the objective do not."""
    decaying = [parameter for name, parameter in model.named_parameters() if _decays(name, parameter)]
    chosen = {id(parameter) for parameter in decaying}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen] + [*objective.parameters()]
    groups = [{"params": decaying, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    if isinstance(recipe, Recipe) and recipe.layer_decay is not None:
        groups = _by_layer(model, groups, recipe)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas or (0.9, 0.98), fused=True)


LAYER = re.compile(r"^(image|text)\.(?:stages|blocks)\.(\d+)\.")
FIRST = ("image.stem.", "image.class_token", "image.positional_", "image.pre_norm.", "text.token_", "text.positional_")


def _by_layer(model: nn.Module, groups: list[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the groups divided by layer: the rate falls by `layer_decay` from each layer to the one before it."""
    matches = {name: LAYER.match(name) for name, _ in model.named_parameters()}
    depth: dict[str, int] = {
        tower: 1 + max((int(m[2]) for m in matches.values() if m and m[1] == tower), default=-1) for tower in TOWERS
    }
    below = {}  # number of layers between a parameter and the end of its tower
    for name, parameter in model.named_parameters():
        match, tower = matches[name], name.partition(".")[0]
        if match is not None:
            below[id(parameter)] = depth[tower] - int(match[2])
        elif name.startswith(FIRST):
            below[id(parameter)] = depth[tower] + 1
    divided: list[dict[str, Any]] = []
    for group in groups:
        layers: dict[int, list[Tensor]] = {}
        for parameter in group["params"]:
            layers.setdefault(below.get(id(parameter), 0), []).append(parameter)
        rates = {layer: recipe.learning_rate * (recipe.layer_decay or 1) ** layer for layer in layers}
        divided += [group | {"params": layers[layer], "lr": rates[layer]} for layer in sorted(layers)]
    return divided


def schedule(optimizer: torch.optim.Optimizer, recipe: Optimisation) -> torch.optim.lr_scheduler.LRScheduler:
    """Returns the schedule of the learning rate: torch's one cycle, or a linear rise followed by a cosine down to 0.
    The latter is open_clip's `cosine_lr` (src/open_clip_train/scheduler.py), as in the papers' runs."""
    if recipe.warmup_steps is None:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=recipe.steps,
            pct_start=recipe.warmup,
            cycle_momentum=False,
        )
    rising, total = recipe.warmup_steps, recipe.steps

    def share(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and "embedding" not in name and "layer_scale" not in name


def write_weights(model: MobileCLIP, path: Path, tuned_from: str | None = None) -> None:
    """Writes a checkpoint in training form, float32, in the first layout that the variant's card names. `tuned_from`:
    name of the file that the training began with."""
    layout, state = _layout(model.variant), model.state_dict()
    candidate = CandidateIdentity(load_variant(model.variant.name), layout, model.towers)
    tensors = candidate.stored({ours: state[ours].cpu() for ours in candidate.expected})
    metadata = {"variant": model.variant.name, "layout": layout, "form": "training"}
    if model.provenance is not None and (pictures := model.provenance.preprocess) is not None:
        metadata[METADATA] = pictures.model_dump_json(exclude={"taken_from"})
    if tuned_from is not None:
        metadata[TUNED_FROM] = tuned_from
    save_tensors(path, tensors, metadata)


def _layout(variant: Variant) -> str:
    return next(iter(variant.layouts))
