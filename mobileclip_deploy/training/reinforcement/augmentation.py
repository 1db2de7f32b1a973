"""Augmentations as numbers: drawn once, stored, and replayed to the same pixels at any image size.

An augmentation is a random resized crop (Pillow's antialiased resize of a box) and a mirror image. Then follow rotation
and shear about the centre, and a linear map of the colours. Sizes and positions are fractions of the image, so that
teachers and students with other input sizes see the same view.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.training.reinforcement.policy import PARAMETERS, AugmentationPolicy

GREY = (0.299, 0.587, 0.114)
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def draw(
    policy: AugmentationPolicy, count: int, width: int, height: int, chance: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draws augmentations for one image of `width` x `height` pixels: float32 [count, len(PARAMETERS)]."""
    area = chance.uniform(*policy.scale, count) * width * height
    ratio = np.exp(chance.uniform(math.log(policy.ratio[0]), math.log(policy.ratio[1]), count))
    # Clamped to the image, not drawn again: every image takes the same number of draws.
    wide = np.minimum(np.sqrt(area * ratio) / width, 1.0)
    high = np.minimum(np.sqrt(area / ratio) / height, 1.0)
    left, top = chance.uniform(size=count) * (1 - wide), chance.uniform(size=count) * (1 - high)
    mirror = (chance.uniform(size=count) < policy.mirror).astype(np.float64)
    bounds = (policy.angle, policy.shear, policy.brightness, policy.contrast, policy.saturation, policy.hue)
    applied = chance.uniform(size=(len(bounds), count)) < policy.probability
    amounts = chance.uniform(-1, 1, (len(bounds), count)) * applied * np.array(bounds)[:, None]
    amounts[3:5] += 1  # contrast and saturation are factors
    return np.stack([left, top, wide, high, mirror, *amounts], axis=1).astype(np.float32)


def crop(image: Image.Image, parameters: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Cuts the boxes of augmentations [K, P] from one RGB image and resizes them: uint8 [K, 3, size, size]."""
    boxes = parameters[:, :4].double().numpy()
    sides = np.array([image.width, image.height])
    views = []
    for start, extent in zip(boxes[:, :2] * sides, boxes[:, 2:] * sides, strict=True):
        low = np.clip(start, 0, sides)
        high = np.clip(start + extent, 0, sides)
        view = image.resize((size, size), RESAMPLING[interpolation], box=(*low, *high))
        views.append(torch.from_numpy(np.array(view)).permute(2, 0, 1))
    return torch.stack(views)


def transform(crops: Tensor, parameters: Tensor) -> Tensor:
    """Mirrors, rotates, shears and colours crops uint8 [N, 3, S, S] by augmentations [N, P]: float32 in [0, 1].

    Pixels from outside the crop repeat its edge. The result is channels last: every convolution keeps the layout of its
    input, and the image tower then trains and runs nearly twice as fast on a CPU.
    """
    columns = dict(zip(PARAMETERS, parameters.float().unbind(1), strict=True))
    pixels = crops.float() / 255
    sine, cosine = columns["angle"].sin(), columns["angle"].cos()
    flip = 1 - 2 * columns["mirror"]
    rows = torch.stack((cosine * flip, columns["shear"] * cosine - sine, sine * flip, columns["shear"] * sine + cosine))
    matrix = torch.cat((rows.T.reshape(-1, 2, 2), torch.zeros(len(pixels), 2, 1)), dim=2)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    # Brightness, and contrast, which turns about mid-grey, [N, 1, 1].
    offsets = (columns["brightness"] + 0.5 * (1 - columns["contrast"]))[:, None, None]
    coloured = (_colours(columns) @ pixels.flatten(2) + offsets).clamp(0, 1).reshape(pixels.shape)
    return coloured.contiguous(memory_format=torch.channels_last)


def replay(image: Image.Image, parameters: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Returns all augmentations [K, P] of one RGB image: float32 [K, 3, size, size] in [0, 1], before mean and std."""
    return transform(crop(image, parameters, size, interpolation), parameters)


def _colours(columns: dict[str, Tensor]) -> Tensor:
    """Returns hue (Rodrigues' rotation about the grey axis), saturation and contrast as matrices of RGB [N, 3, 3]."""
    axis = torch.full((3,), 3**-0.5)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) * 3**-0.5
    sine, cosine = columns["hue"].sin()[:, None, None], columns["hue"].cos()[:, None, None]
    rotation = cosine * torch.eye(3) + sine * cross + (1 - cosine) * torch.outer(axis, axis)
    saturation = columns["saturation"][:, None, None]
    matrix = saturation * rotation + (1 - saturation) * torch.tensor(GREY).expand(3, 3)
    return matrix * columns["contrast"][:, None, None]
