"""The loss is what arXiv 2311.17049 defines, computed here once more from the definition, in float64 and in loops."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mobileclip_deploy.training.trainer.objective import TeacherBatch, clip_loss, distillation_loss, reinforced_loss

Doubles = npt.NDArray[np.float64]
CHANCE = np.random.default_rng(0)


def unit(count: int, size: int) -> Doubles:
    values = CHANCE.normal(size=(count, size))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


IMAGES, TEXTS = unit(6, 5), unit(6, 5)
TEACHERS = [(unit(6, 7), unit(6, 7), 40.0), (unit(6, 3), unit(6, 3), 9.0)]
SCALE = 17.0


def softmax_rows(u: Doubles, v: Doubles, scale: float) -> Doubles:
    """S_tau(U, V) of the paper: row-wise softmax of U V^T / tau."""
    powers = np.exp(scale * u @ v.T)
    return powers / powers.sum(axis=1, keepdims=True)


def divergence(p: Doubles, q: Doubles) -> float:
    """KL(p || q) of each row, mean over rows."""
    return float(
        np.mean([sum(a * np.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)])
    )


def distillation_by_definition() -> float:
    terms = []
    for images, texts, scale in TEACHERS:
        to_text = divergence(softmax_rows(images, texts, scale), softmax_rows(IMAGES, TEXTS, SCALE))
        to_image = divergence(softmax_rows(texts, images, scale), softmax_rows(TEXTS, IMAGES, SCALE))
        terms.append(0.5 * to_text + 0.5 * to_image)
    return float(np.mean(terms))


def clip_by_definition(positives: Doubles) -> float:
    def one_way(u: Doubles, v: Doubles, wanted: Doubles) -> float:
        chances = softmax_rows(u, v, SCALE)
        return float(-np.mean([np.log(c[w > 0]).mean() for c, w in zip(chances, wanted, strict=True)]))

    return 0.5 * one_way(IMAGES, TEXTS, positives) + 0.5 * one_way(TEXTS, IMAGES, positives.T)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[TeacherBatch]]:
    teachers = [TeacherBatch(torch.from_numpy(i), torch.from_numpy(t), s) for i, t, s in TEACHERS]
    return torch.from_numpy(IMAGES), torch.from_numpy(TEXTS), torch.tensor(SCALE, dtype=torch.float64), teachers


def test_clips_part_is_cross_entropy_both_ways_and_a_shared_caption_belongs_to_both() -> None:
    images, texts, scale, _ = batch()
    assert clip_loss(images, texts, scale).item() == pytest.approx(clip_by_definition(np.eye(6)), rel=1e-12)
    positives = np.eye(6)
    positives[1, 4] = positives[4, 1] = 1
    found = clip_loss(images, texts, scale, torch.from_numpy(positives)).item()
    assert found == pytest.approx(clip_by_definition(positives), rel=1e-12)


def test_distillation_is_the_mean_over_teachers_in_float32_too_and_none_for_a_student_that_is_its_teacher() -> None:
    images, texts, scale, teachers = batch()
    found = distillation_loss(images, texts, scale, teachers).item()
    assert found == pytest.approx(distillation_by_definition(), rel=1e-12)
    assert distillation_loss(images, texts, scale, [TeacherBatch(images, texts, SCALE)]).item() == pytest.approx(0)
    single = [TeacherBatch(one.images.float(), one.texts.float(), one.scale) for one in teachers]
    found = distillation_loss(images.float(), texts.float(), scale.float(), single).item()
    assert found == pytest.approx(distillation_by_definition(), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_parts_are_weighted_by_lambda(weight: float) -> None:
    images, texts, scale, teachers = batch()
    wanted = (1 - weight) * clip_by_definition(np.eye(6)) + weight * distillation_by_definition()
    assert reinforced_loss(images, texts, scale, teachers, weight).item() == pytest.approx(wanted, rel=1e-12)
