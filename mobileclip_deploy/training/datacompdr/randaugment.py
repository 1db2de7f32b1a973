"""Augmentations as Apple's reinforced datasets store them: a crop in source pixels, then operations of RandAugment.

The form is that of apple/ml-mobileclip, training/dr/transforms.py at commit 4144bb1 (`compress`, `decompress`). It
lists the parameters of each transform that has any, here random_resized_crop and rand_augment. The operations are those
of torchvision's RandAugment (arXiv 1909.13719) with nearest neighbours and black outside, which are Pillow's own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from mobileclip_deploy.errors import Malformed, reraising

MAGNITUDE, BINS = 9, 31
"""torchvision's defaults, used for the published datasets: one strength for all operations, the tenth of 31."""
SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


@dataclass(frozen=True)
class Augmentation:
    """One stored augmentation. `box` is top, left, height and width of the crop in pixels of the image. `operations`
    are pairs of an index of OPERATIONS and a magnitude, None where RandAugment was skipped."""

    box: tuple[int, int, int, int]
    operations: tuple[tuple[int, float], ...] | None

    def stored(self) -> list[Any]:
        """Returns its form in JSON."""
        return [list(self.box), None if self.operations is None else [list(operation) for operation in self.operations]]


def _affine(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=0)


def _angle(magnitude: float) -> float:
    # As torchvision computes it, through degrees, and with sine by cosine below: the last bit decides the nearest
    # pixel.
    return math.radians(math.degrees(math.atan(magnitude)))


def _shear_x(image: Image.Image, magnitude: float) -> Image.Image:
    return _affine(image, (1.0, math.tan(_angle(magnitude)), 0.0, 0.0, 1.0, 0.0))


def _shear_y(image: Image.Image, magnitude: float) -> Image.Image:
    angle = _angle(magnitude)
    return _affine(image, (1.0, 0.0, 0.0, math.sin(angle) / math.cos(angle), 1.0, 0.0))


def _enhanced(kind: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, magnitude: kind(image).enhance(1.0 + magnitude)


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, _: image,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": lambda image, magnitude: _affine(image, (1.0, 0.0, float(-int(magnitude)), 0.0, 1.0, 0.0)),
    "TranslateY": lambda image, magnitude: _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, float(-int(magnitude)))),
    "Rotate": lambda image, magnitude: image.rotate(magnitude, Image.Resampling.NEAREST, fillcolor=0),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "Posterize": lambda image, magnitude: ImageOps.posterize(image, int(magnitude)),
    "Solarize": lambda image, magnitude: ImageOps.solarize(image, math.ceil(magnitude)),
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
}
"""Operations by name, in the order of their stored indices. Magnitudes are a tangent for shears, pixels for
translations, degrees for rotations and the addition to 1 for colours. For Posterize they are the bits that stay, for
Solarize the lowest grey value that is inverted."""
_FUNCTIONS = tuple(OPERATIONS.values())
_POSTERIZE = tuple(OPERATIONS).index("Posterize")


_FROM = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
_SIZE = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
_NUMBER = Annotated[int, Field(strict=True, ge=0, lt=len(OPERATIONS))]
_MAGNITUDE = Annotated[float, Field(strict=True, ge=-1e4, le=1e4)]
_STORED: TypeAdapter[Any] = TypeAdapter(
    tuple[tuple[_FROM, _FROM, _SIZE, _SIZE], tuple[tuple[_NUMBER, _MAGNITUDE], ...] | None]
)


def parse(stored: Any) -> Augmentation:
    """Parses one augmentation from JSON.

    Raises:
        ValueError: it is of another form.
    """
    form = "top, left, height and width of a crop, and operations as pairs of index and magnitude, or none"
    with reraising(f"an augmentation is {form}", ValidationError, into=Malformed):
        augmentation = Augmentation(*_STORED.validate_python(stored))
    for index, magnitude in augmentation.operations or ():
        if index == _POSTERIZE and not 0 <= magnitude <= 8:
            raise Malformed(f"{magnitude} of 8 bits cannot be kept")
    return augmentation


def replay(image: Image.Image, augmentation: Augmentation, size: int) -> Tensor:
    """Applies an augmentation to an RGB image: uint8 [3, size, size].

    Follows the published training at every student's size: the crop is resized (bicubic), and the magnitudes are not
    scaled.

    Raises:
        ValueError: the crop reaches beyond the image.
    """
    top, left, height, width = augmentation.box
    if top + height > image.height or left + width > image.width:
        raise Malformed(
            f"an image of {image.width} x {image.height} pixels cannot contain the crop {list(augmentation.box)}"
        )
    view = image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BICUBIC)
    for index, magnitude in augmentation.operations or ():
        view = _FUNCTIONS[index](view, magnitude)
    return torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous()


def draw(count: int, width: int, height: int, size: int, chance: np.random.Generator) -> tuple[Augmentation, ...]:
    """Draws augmentations of an image as the published datasets' were drawn, for views of `size` pixels. They are
    torchvision's RandomResizedCrop (scale 0.08 to 1, ratio 3/4 to 4/3) and two operations of RandAugment at magnitude 9
    of 31."""
    return tuple(
        Augmentation(_drawn_box(width, height, chance), tuple(_drawn(size, chance) for _ in range(2)))
        for _ in range(count)
    )


def _drawn_box(width: int, height: int, chance: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(TRIES):
        area = width * height * chance.uniform(*SCALE)
        ratio = math.exp(chance.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(chance.integers(height - high + 1)), int(chance.integers(width - wide + 1)), high, wide
    # An elongated image: as much of its middle as the ratios allow.
    wide = min(width, round(height * RATIO[1])) or 1
    high = min(height, round(width / RATIO[0])) or 1
    return (height - high) // 2, (width - wide) // 2, high, wide


def _strength(share: float, size: int) -> Sequence[tuple[float, bool]]:
    """Returns the magnitude of each operation at a share of its range, and whether its sign is drawn (torchvision's
    `RandAugment._augmentation_space`)."""
    shear, shift, colour = (0.3 * share, True), (150.0 / 331.0 * size * share, True), (0.9 * share, True)
    posterize = (float(8 - round(MAGNITUDE / ((BINS - 1) / 4))), False)
    none = (0.0, False)
    rotate, solarize = (30.0 * share, True), (255.0 * (1 - share), False)
    return (none, shear, shear, shift, shift, rotate, *[colour] * 4, posterize, solarize, none, none)


def _drawn(size: int, chance: np.random.Generator) -> tuple[int, float]:
    index = int(chance.integers(len(_FUNCTIONS)))
    magnitude, signed = _strength(MAGNITUDE / (BINS - 1), size)[index]
    return index, -magnitude if signed and chance.integers(2) else magnitude
