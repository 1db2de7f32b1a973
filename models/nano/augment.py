"""Augmentation of a whole batch in tensor operations: pose, colours, background and holes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augment"]

GREY = torch.tensor([0.299, 0.587, 0.114])


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform random numbers in [low, high)."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def poses(count: int, mirrors: Tensor | None, generator: torch.Generator) -> Tensor:
    """Random affine maps from output to input coordinates, [count, 2, 3]: rotation, shear, scale, shift, mirror."""
    angle = uniform((count,), -0.3, 0.3, generator)
    zoom = torch.exp(uniform((count,), -0.15, 0.3, generator))
    stretch = torch.exp(uniform((count,), -0.12, 0.12, generator))
    shear = uniform((count,), -0.15, 0.15, generator)
    sine, cosine = angle.sin(), angle.cos()
    row_x = torch.stack((cosine, -sine + shear * cosine), 1) * (zoom * stretch)[:, None]
    row_y = torch.stack((sine, cosine + shear * sine), 1) * (zoom / stretch)[:, None]
    if mirrors is not None:
        flip = (torch.rand(count, generator=generator) < 0.4) & mirrors
        row_x = torch.where(flip[:, None], -row_x, row_x)
    shift = uniform((count, 2, 1), -0.15, 0.15, generator)
    return torch.cat((torch.stack((row_x, row_y), 1), shift), 2)


def colour_maps(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random linear maps of RGB: matrices [count, 3, 3] (hue, saturation, contrast) and offsets [count, 3]."""
    hue = torch.randn(count, generator=generator) * 0.25
    saturation = uniform((count,), 0.4, 1.5, generator)
    saturation[torch.rand(count, generator=generator) < 0.08] = 0.0
    # Rotation about the grey axis (Rodrigues' formula), then interpolation with the grey value.
    axis = torch.full((3,), 3**-0.5)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) * 3**-0.5
    sine, cosine = hue.sin()[:, None, None], hue.cos()[:, None, None]
    rotation = cosine * torch.eye(3) + sine * cross + (1 - cosine) * torch.outer(axis, axis)
    grey = GREY.expand(3, 3)
    matrix = saturation[:, None, None] * rotation + (1 - saturation[:, None, None]) * grey
    gain = uniform((count, 1, 1), 0.7, 1.25, generator) * uniform((count, 3, 1), 0.9, 1.1, generator)
    return matrix * gain, uniform((count, 3), -0.1, 0.1, generator)


def backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """[count, 3, 1, 1]: white for three images in four, any colour for the others."""
    colour = torch.rand((count, 3, 1, 1), generator=generator)
    white = torch.rand((count, 1, 1, 1), generator=generator) < 0.75
    return torch.where(white, torch.ones(()), colour)


def holes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """[count, 1, size, size]: 0 inside one random rectangle for an image in three, 1 elsewhere."""
    middle = uniform((count, 2, 1), 0, size, generator)
    half = uniform((count, 2, 1), 0.08 * size, 0.22 * size, generator)
    half = half * (torch.rand((count, 1, 1), generator=generator) < 0.33)
    inside = (torch.arange(size)[None, None] - middle).abs() < half
    return 1 - (inside[:, 0, :, None] & inside[:, 1, None, :]).float()[:, None]


def augment(rgba: Tensor, size: int, generator: torch.Generator, mirrors: Tensor | None = None) -> Tensor:
    """RGBA uint8 [N, 64, 64, 4] -> RGB float32 [N, 3, size, size] in [0, 1], channels last.

    `mirrors` [C], C dividing N: whether the images of a concept may be mirrored; none may without it.
    """
    count = rgba.shape[0]
    if mirrors is not None:
        mirrors = mirrors.repeat_interleave(count // mirrors.shape[0])
    image = rgba.permute(0, 3, 1, 2).float() / 255
    matrix, offset = colour_maps(count, generator)
    colour = torch.einsum("nij,njhw->nihw", matrix, image[:, :3]) + offset[:, :, None, None]
    alpha = image[:, 3:]
    # Premultiplied, so that interpolation at an outline mixes no colour from outside it.
    image = torch.cat((colour.clamp(0, 1) * alpha, alpha), 1)
    grid = F.affine_grid(poses(count, mirrors, generator), [count, 4, size, size], align_corners=False)
    image = F.grid_sample(image, grid, align_corners=False)
    image = image * holes(count, size, generator)
    image = image[:, :3] + (1 - image[:, 3:]) * backgrounds(count, generator)
    return image.contiguous(memory_format=torch.channels_last)
