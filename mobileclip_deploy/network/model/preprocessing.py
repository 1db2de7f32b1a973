"""Conversion of an image file to a tower's input tensor, bit for bit as torchvision's Resize, CenterCrop and
ToTensor."""

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, UnidentifiedImageError

from mobileclip_deploy.errors import InvalidInput, readable_reason, reraising
from mobileclip_deploy.network.model.image_files import image_bytes
from mobileclip_deploy.network.model.variants import Preprocess

MAX_PIXELS = 100_000_000
"""Most pixels of an image. Larger ones are refused before they are decoded or enlarged; but see MAX_JPEG."""

MAX_JPEG = 250_000_000
"""Most pixels of a JPEG file, such as a phone's photograph of 200 megapixels. JPEG files above `MAX_PIXELS` are decoded
at half their size, from the same coefficients, which takes a quarter of the memory."""

PIXELS_AT_ONCE = 3 * MAX_PIXELS
"""Most pixels that threads decode at the same time: each takes 3 to 12 bytes until the picture has its final size."""

# Photographs' formats only: of Pillow's others, one starts Ghostscript (EPS) and several accept any bytes.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_JPEG = ("JPEG", "MPO")  # MPO: several JPEGs in one file, as phones write them; Pillow has another name for it
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Pixels = Literal["app", "reference"]
"""Pixels of an image file. "app": as `load_image` gives them. "reference": as open_clip and CLIP_benchmark compute
them. These drop transparency (what is transparent is mostly black) and ignore the EXIF orientation."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # errors that it logs are raised here as InvalidInput


def load_image(path: str | PathLike[str]) -> Image.Image:
    """Reads an image file as upright 8-bit RGB; the first frame of an animation.

    The EXIF orientation is applied. Transparency of any kind (alpha channel, palette, colour key) is composited on
    white. 16-bit grey is scaled to 8 bits with rounding (65535 to 255). CMYK and YCbCr are converted without colour
    management. An embedded ICC profile is ignored, as in the models' training pipelines. A JPEG of more than
    `MAX_PIXELS` pixels is decoded at half its width and height, rounded up.

    Raises:
        InvalidInput: missing, not a file, empty, unreadable, not an image of a known format, truncated or damaged; more
            than `MAX_PIXELS` pixels, or `MAX_JPEG` of a JPEG (seen from the header, before decoding); or pixels of
            unknown range (float).
    """
    if os.path.isdir(path):
        raise InvalidInput(f"{path}: a folder, not an image file")
    return decode_image(image_bytes(Path(path)), str(path))


def decode_image(content: bytes, name: str) -> Image.Image:
    """Decodes a file's content as `load_image` does; `name` is the name in errors."""
    with decoded(content, name) as image:
        return image


@contextlib.contextmanager
def decoded(content: bytes, name: str, least: int | None = None, pixels: Pixels = "app") -> Iterator[Image.Image]:
    """Decodes as `decode_image`, for the block. Other threads' pictures wait while such blocks hold `PIXELS_AT_ONCE`.

    Args:
        least: smallest side in pixels of a JPEG that is decoded at a half, a quarter or an eighth of its size. libjpeg
            leaves out the finer frequencies, which saves most of the work and changes pixels a little.
        pixels: see `Pixels`; a "reference" image keeps its mode.
    """
    if not content:
        raise InvalidInput(f"{name}: an empty file")
    with contextlib.ExitStack() as resources:
        yield _decode(content, name, least, resources, pixels)


class _Room:
    """A shared budget of a number, from which threads reserve."""

    def __init__(self, most: int) -> None:
        self._most, self._left, self._changed = most, most, threading.Condition()

    @contextlib.contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Waits until `count` is available, and returns it when the block ends."""
        count = min(count, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= count)
            self._left -= count
        try:
            yield
        finally:
            with self._changed:
                self._left += count
                self._changed.notify_all()


_room = _Room(PIXELS_AT_ONCE)


def _decode(content: bytes, path: str, least: int | None, held: contextlib.ExitStack, kind: Pixels) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large images and odd metadata
            with _opened(content) as image:
                pixels = image.width * image.height
                if pixels > (MAX_JPEG if image.format in _JPEG else MAX_PIXELS):
                    raise Image.DecompressionBombError
                if pixels > MAX_PIXELS:
                    image.draft(None, (image.width // 2, image.height // 2))
                elif least is not None:
                    image.draft(None, (least, least))  # it does nothing for other formats
                held.enter_context(_room.taken(image.width * image.height))
                image.load()
                if kind == "reference":
                    return image
                # Damaged metadata: shown as stored, as browsers and photo viewers do.
                with contextlib.suppress(Exception):
                    ImageOps.exif_transpose(image, in_place=True)
                return _to_rgb(image)
    except Image.DecompressionBombError:
        limits = f"{MAX_PIXELS // 10**6} megapixels ({MAX_JPEG // 10**6} of a JPEG)"
        raise InvalidInput(f"{path}: more than {limits}; scale the image down first") from None
    except UnidentifiedImageError:
        formats = ", ".join(_readable_formats())
        raise InvalidInput(f"{path}: not an image of a known format ({formats}); convert it to one of them") from None
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
    except Exception as error:  # Pillow's decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise InvalidInput(f"{path}: cannot be decoded ({readable_reason(error)})") from error


def _opened(content: bytes) -> ImageFile.ImageFile:
    """Opens the header of an image. Pillow refuses more than 179 megapixels, except through its JPEG class."""
    try:
        return Image.open(io.BytesIO(content), formats=_readable_formats())
    except Image.DecompressionBombError:
        try:
            return JpegImagePlugin.JpegImageFile(io.BytesIO(content))
        except SyntaxError:  # not a JPEG
            raise Image.DecompressionBombError from None


def rgb_image(image: Image.Image, name: str) -> Image.Image:
    """Converts an opened image to upright 8-bit RGB, as `load_image` does; `name` is the name in errors.

    Raises:
        InvalidInput: see `load_image`.
    """
    try:
        if image.width * image.height > MAX_PIXELS:
            raise InvalidInput(f"more than {MAX_PIXELS // 10**6} megapixels; scale the image down first")
        image.load()
        with contextlib.suppress(Exception):
            image = ImageOps.exif_transpose(image)  # a copy: the caller's stays as it is
        return _to_rgb(image)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None
    except Exception as error:  # an opened file is decoded now
        raise InvalidInput(f"{name}: cannot be decoded ({readable_reason(error)})") from error


def preprocess(image: Image.Image, spec: Preprocess) -> npt.NDArray[np.float32]:
    """Resizes and crops an RGB image, before mean and std, which are inside the exported graph.

    Equal bit for bit to torchvision's `Resize(resized, antialias=True)`, `CenterCrop(size)` and `ToTensor()` on a PIL
    image ("squash": `Resize((resized, resized))`). CenterCrop's padding never applies: no side is shorter than that.

    Args:
        image: RGB, from `load_image`.
        spec: the variant's `preprocess`.

    Returns:
        float32 [3, size, size] in [0, 1], RGB.

    Raises:
        InvalidInput: not RGB, or so elongated that the resized image would have more than `MAX_PIXELS` pixels.
    """
    return tower_bytes(image, spec).astype(np.float32) / np.float32(255)


def tower_bytes(image: Image.Image, spec: Preprocess, pixels: Pixels = "app") -> npt.NDArray[np.uint8]:
    """Returns the bytes [3, size, size] that `preprocess` divides by 255. Computed on the calling thread alone.

    Args:
        pixels: kind of the image. A "reference" image is scaled in its own mode, and converted to RGB last.

    Raises:
        InvalidInput: see `preprocess`.
    """
    if image.mode != "RGB" and pixels == "app":
        raise InvalidInput(f"an image of mode {image.mode} instead of RGB; read files with load_image")
    width, height = resized_size(image.width, image.height, spec)
    if width * height > MAX_PIXELS:
        raise InvalidInput(f"{image.width} x {image.height} pixels: too elongated; crop the image first")
    if (width, height) != image.size:
        image = image.resize((width, height), _RESAMPLING[spec.interpolation])
    left, top = round((width - spec.size) / 2), round((height - spec.size) / 2)
    image = image.crop((left, top, left + spec.size, top + spec.size))
    return np.ascontiguousarray(np.array(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1))


def load_batch(paths: Iterable[str | PathLike[str]], spec: Preprocess) -> npt.NDArray[np.float32]:
    """Reads and preprocesses image files: float32 [N, 3, size, size] in [0, 1].

    Raises:
        InvalidInput: no path was given, or `load_image` or `preprocess` refuses a file, which is named.
    """
    rows = []
    for path in paths:
        image = load_image(path)
        with reraising(str(path), InvalidInput):
            rows.append(preprocess(image, spec))
    if not rows:
        raise InvalidInput("no images were given")
    return np.stack(rows)


@cache
def _readable_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise InvalidInput("float pixels of unknown range; convert to 8 or 16 bits first")
    if image.mode.startswith("I"):
        image = _grey_from_16_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    rgb = image if image.mode == "RGB" else image.convert("RGB")  # convert would copy it
    rgb.info = {}  # pixels only: an orientation left here would be applied twice
    return rgb


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InvalidInput("integer pixels outside 0..65535; convert to 8 or 16 bits first")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def resized_size(width: int, height: int, spec: Preprocess) -> tuple[int, int]:
    """Returns width and height of an image after the resize, before the crop."""
    if spec.resize == "squash":
        return spec.resized, spec.resized
    shorter, longer = sorted((width, height))
    longer = int(spec.resized * longer / shorter)  # torchvision truncates, it does not round
    return (spec.resized, longer) if width <= height else (longer, spec.resized)
