"""Augmentations are numbers: the same numbers give the same pixels, and each does what its name says."""

import numpy as np
import torch
from PIL import Image

from mobileclip_deploy.training.reinforcement.augmentation import draw, replay
from mobileclip_deploy.training.reinforcement.policy import PARAMETERS, AugmentationPolicy

PLAIN = {"width": 1.0, "height": 1.0, "contrast": 1.0, "saturation": 1.0}


def picture(width: int = 48, height: int = 32) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def one(**columns: float) -> torch.Tensor:
    return torch.tensor([[(PLAIN | columns).get(name, 0.0) for name in PARAMETERS]])


def pixels(**columns: float) -> torch.Tensor:
    return replay(picture(32, 32), one(**columns), 32)[0]


def test_the_image_is_replayed_as_it_is_mirrored_and_turned() -> None:
    image = torch.from_numpy(np.array(picture(32, 32))).permute(2, 0, 1) / 255
    assert torch.allclose(pixels(), image, atol=1e-5)
    assert torch.allclose(pixels(mirror=1.0), pixels().flip(2), atol=1e-5)
    assert torch.allclose(pixels(angle=np.pi / 2), pixels().rot90(1, (1, 2)), atol=1e-4)


def test_drawing_depends_on_the_seed_alone() -> None:
    drawn = [draw(AugmentationPolicy(), 5, 48, 32, np.random.default_rng((seed, 7))) for seed in (3, 3, 4)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_crops_lie_inside_the_image_and_have_the_share_that_was_asked_for() -> None:
    policy = AugmentationPolicy(scale=(0.3, 0.6))
    drawn = draw(policy, 500, 100, 80, np.random.default_rng(0))
    left, top, wide, high = drawn[:, :4].T
    assert (drawn[:, :4] >= 0).all()
    assert (left + wide <= 1 + 1e-6).all()
    assert (top + high <= 1 + 1e-6).all()
    assert (wide * high >= 0.3 - 1e-3).all()
    assert (wide * high <= 0.6 + 1e-3).all()


def test_a_policy_without_anything_draws_the_plain_augmentation() -> None:
    drawn = draw(
        AugmentationPolicy(scale=(1, 1), ratio=(1, 1), mirror=0, probability=0), 3, 32, 32, np.random.default_rng(0)
    )
    assert np.allclose(drawn, one().numpy())


def test_replaying_gives_the_same_pixels_and_at_two_sizes_the_same_view() -> None:
    drawn = torch.from_numpy(draw(AugmentationPolicy(), 6, 48, 32, np.random.default_rng(0)))
    assert torch.equal(replay(picture(), drawn, 24), replay(picture(), drawn, 24))
    large = torch.nn.functional.avg_pool2d(replay(picture(), drawn, 64), 2)
    assert (large - replay(picture(), drawn, 32)).abs().mean() < 0.03


def test_colours_change_as_named() -> None:
    before, grey = pixels(), pixels(saturation=0.0)
    assert torch.allclose(pixels(brightness=0.1), (before + 0.1).clamp(0, 1), atol=1e-5)
    assert torch.allclose(pixels(contrast=0.5), 0.5 + 0.5 * (before - 0.5), atol=1e-5)
    assert (grey.amax(0) - grey.amin(0)).max() < 1e-5
