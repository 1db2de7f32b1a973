"""Stored augmentations give torchvision's pixels, to the bit."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandAugment, functional
from torchvision.transforms.autoaugment import _apply_op

from mobileclip_deploy.training.datacompdr.randaugment import OPERATIONS, Augmentation, draw, parse, replay

NAMES = tuple(OPERATIONS)
SIZE = 48
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))


def test_the_operations_are_numbered_as_published() -> None:
    space = RandAugment()._augmentation_space(31, (224, 224))
    assert tuple(space) == NAMES
    assert len(NAMES) == 14


@pytest.mark.parametrize("number", range(14))
@pytest.mark.parametrize("size", [SIZE, 33])
def test_every_operation_gives_torchvisions_pixels(number: int, size: int) -> None:
    box = (3, 5, 41, 62)
    magnitudes, signed = RandAugment()._augmentation_space(31, (224, 224))[NAMES[number]]
    crop = functional.resized_crop(IMAGE, *box, [size, size], InterpolationMode.BICUBIC)
    values = [float(one) for one in magnitudes] if magnitudes.ndim else [0.0]
    for magnitude in values + [-one for one in values if signed]:
        wanted = _apply_op(crop, NAMES[number], magnitude, InterpolationMode.NEAREST, None)
        seen = replay(IMAGE, Augmentation(box, ((number, magnitude),)), size)
        assert torch.equal(seen, functional.pil_to_tensor(wanted)), magnitude


def test_operations_come_one_after_another_and_may_be_skipped() -> None:
    box = (0, 0, 70, 90)
    crop = functional.resized_crop(IMAGE, *box, [SIZE, SIZE], InterpolationMode.BICUBIC)
    assert torch.equal(replay(IMAGE, Augmentation(box, None), SIZE), functional.pil_to_tensor(crop))
    first = _apply_op(crop, "Rotate", 9.0, InterpolationMode.NEAREST, None)
    both = _apply_op(first, "Solarize", 178.5, InterpolationMode.NEAREST, None)
    assert torch.equal(replay(IMAGE, parse([list(box), [[5, 9.0], [11, 178.5]]]), SIZE), functional.pil_to_tensor(both))


def test_what_is_drawn_lies_in_torchvisions_space_and_depends_on_the_generator_alone() -> None:
    space = RandAugment()._augmentation_space(31, (224, 224))
    drawn = draw(400, 90, 70, 224, np.random.default_rng(1))
    assert drawn == draw(400, 90, 70, 224, np.random.default_rng(1))
    seen = set()
    for one in drawn:
        top, left, height, width = one.box
        assert 0 <= top <= 70 - height
        assert 0 <= left <= 90 - width
        assert 0.07 < height * width / (90 * 70) <= 1
        assert 0.7 < width / height < 1.42
        assert len(one.operations) == 2
        for number, magnitude in one.operations:
            magnitudes, signed = space[NAMES[number]]
            wanted = float(magnitudes[9]) if magnitudes.ndim else 0.0
            assert abs(magnitude) == pytest.approx(wanted, rel=1e-6)
            assert signed or magnitude >= 0
            seen.add((number, magnitude < 0))
        assert parse(one.stored() and [list(one.box), [list(op) for op in one.operations]]) == one
    assert len(seen) == 14 + sum(signed for _, signed in space.values())


def test_an_elongated_image_has_its_middle_cut_out() -> None:
    assert [one.box for one in draw(2, 1000, 3, 224, np.random.default_rng(0))] == [(0, 498, 3, 4)] * 2


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        ({}, "an augmentation is top, left"),
        ([[0, 0, 1], None], r"an augmentation is top, left, .*0\.3"),
        ([[0, 0, 0, 1], None], r"0\.2"),
        ([[-1, 0, 1, 1], None], r"0\.0"),
        ([[0, 0, 1, True], None], r"0\.3"),
        ([[0, 0, 1, 1], [[14, 0.0]]], r"1\.0\.0"),
        ([[0, 0, 1, 1], [[1, float("nan")]]], r"1\.0\.1"),
        ([[0, 0, 1, 1], [[10, 9]]], "bits"),
        ([[0, 0, 1, 1], [[1]]], r"1\.0\.1"),
        ([[0, 0, 1, 1], 5], r"and operations as pairs of index and magnitude"),
    ],
)
def test_what_is_no_augmentation_is_named(stored: object, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse(stored)
