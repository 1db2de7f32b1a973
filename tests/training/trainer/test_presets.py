"""The papers' runs as presets: settings, schedule and loss."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.training.trainer.network import schedule
from mobileclip_deploy.training.trainer.objective import TeacherBatch, reinforced_loss
from mobileclip_deploy.training.trainer.recipe import PRESETS, Recipe, read_recipe


def recipe(folder: Path, text: str) -> Recipe:
    (folder / "recipe.yaml").write_text(f"version: 1\nvariant: nano\ndata: dr\n{text}")
    return read_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize(
    ("name", "steps", "batch", "distillation", "scales"),
    [
        ("datacompdr-12m", 30_000, 8192, 1.0, [100, 100]),
        ("datacompdr-1b", 200_000, 65_536, 1.0, [100, 100]),
        ("datacompdr-1b-vit", 200_000, 65_536, 0.75, [100, 100]),
        ("dfndr-12m", 30_000, 8192, 1.0, [70, 60]),
        ("dfndr-2b", 200_000, 65_536, 1.0, [70, 60]),
    ],
)
def test_a_preset_is_the_papers_script(
    tmp_path: Path, name: str, steps: int, batch: int, distillation: float, scales: list[int]
) -> None:
    found = recipe(tmp_path, f"preset: {name}\n")
    assert (found.steps, found.batch, found.distillation) == (steps, batch, distillation)
    assert (found.learning_rate, found.betas, found.weight_decay) == (1e-3, (0.9, 0.95), 0.2)
    assert (found.gradient_norm, found.warmup_steps) == (1.0, 1000)
    assert [(one.embed_dim, one.scale) for one in found.datacompdr.teachers] == [(768, scale) for scale in scales]


def test_the_recipe_goes_before_its_preset(tmp_path: Path) -> None:
    found = recipe(tmp_path, "preset: dfndr-2b\nsteps: 7\ndatacompdr: {skip_bad: true, images: dc}\n")
    assert (found.steps, found.batch) == (7, 65_536)
    assert (found.datacompdr.images, found.datacompdr.teachers[0].scale) == (tmp_path / "dc", 70)
    assert found.datacompdr.captions == "^syn_text_dfn_mscoco38k$"
    other = recipe(tmp_path, "preset: dfndr-2b\nsteps: 7\ndatacompdr: {skip_bad: true, images: elsewhere}\n")
    assert other.identity() == found.identity()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("preset: datacompdr-12\n", "unknown preset 'datacompdr-12', did you mean datacompdr-12m?"),
        ("preset: [1]\n", "unknown preset"),
        ("preset: dfndr-2b\ndatacompdr: {captions: '('}\n", "not a valid regular expression"),
        ("preset: dfndr-2b\ndatacompdr: {teachers: []}\n", "datacompdr.teachers"),
        ("preset: dfndr-2b\ndatacompdr: {mix: 1}\n", "unknown field datacompdr.mix"),
        ("steps: 1\nbatch: 2\nlearning_rate: 1\nwarmup_steps: 3\n", "schedule and warmup_steps need each other"),
    ],
)
def test_what_is_no_preset_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        recipe(tmp_path, text)
    assert what in refused.value.line


def test_the_rate_goes_up_a_line_and_down_a_cosine(tmp_path: Path) -> None:
    found = recipe(tmp_path, "preset: datacompdr-12m\nsteps: 12\nwarmup_steps: 4\n")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=found.learning_rate)
    going = schedule(optimizer, found)
    seen = []
    for _ in range(12):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        going.step()
    # open_clip's cosine_lr: base (step + 1) / warmup, then base (1 + cos(pi e / es)) / 2
    wanted = [1e-3 * step / 4 for step in range(1, 5)] + [5e-4 * (1 + math.cos(math.pi * e / 8)) for e in range(8)]
    assert seen == pytest.approx(wanted, rel=1e-12)


def test_the_loss_has_the_gradient_of_the_published_one() -> None:
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    images, texts = unit(6, 5).requires_grad_(), unit(6, 5).requires_grad_()
    scale = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    stored: list[tuple[Tensor, Tensor, float]] = [(unit(6, 4), unit(6, 4), 70.0), (unit(6, 3), unit(6, 3), 60.0)]

    def published(contrastive: float, distilled: float) -> Tensor:
        """apple/ml-mobileclip, training/open_clip_v2.patch, DistillClipLoss with average_after_softmax."""
        logits = scale * images @ texts.T
        labels = torch.arange(6)
        total = contrastive * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        for ours, flip in ((logits, False), (logits.T, True)):
            each = [factor * (b @ a.T if flip else a @ b.T) for a, b, factor in stored]
            wanted = sum((one.softmax(1) for one in each), torch.zeros(6, 6, dtype=torch.float64)) / len(each)
            total = total + distilled * -(wanted * ours.log_softmax(1)).sum(1).mean() / 2
        return total

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat([one.flatten() for one in torch.autograd.grad(loss, [images, texts, scale])])

    teachers = [TeacherBatch(*one) for one in stored]
    settings: list[dict[str, Any]] = list(PRESETS.values())
    for distillation in {one["distillation"] for one in settings}:
        ours = gradient(reinforced_loss(images, texts, scale, teachers, distillation))
        torch.testing.assert_close(ours, gradient(published(1 - distillation, distillation)), rtol=1e-12, atol=1e-14)
