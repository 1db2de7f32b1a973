"""Decoders of a sample's members, which execute nothing in them: captions, augmentations, embeddings, image.

The members are those that apple/ml-mobileclip-dr writes (src/raygen/datasetio.py, `TarWriter`, at commit 418551d) and
apple/ml-mobileclip reads (hf_dataset_example.py at commit 4144bb1). They are `syn.json`, `paug.json`, `npz` or
`pth.gz`, `txt` and the image.
"""

import gzip
import io
import json
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mobileclip_deploy.base.files.arrays import plain_arrays
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, readable_reason, reraising
from mobileclip_deploy.network.model.preprocessing import MAX_PIXELS
from mobileclip_deploy.training.datacompdr.randaugment import Augmentation, parse

IMAGE_SUFFIXES = ("jpg", "png", "jpeg", "webp")
FORMATS = ("JPEG", "PNG", "WEBP")
LIMIT = 64 << 20
"""Most bytes of a member, packed and unpacked. Thirty float32 embeddings of 1,536 values take 0.2 MB."""


def text(content: bytes) -> str:
    """Decodes a true caption.

    Raises:
        ValueError: it is not UTF-8.
    """
    return content.decode("utf-8").strip()


def captions(content: bytes) -> dict[str, tuple[str, ...]]:
    """Decodes the sets of synthetic captions by their keys, in the order of the file.

    Raises:
        ValueError: no JSON object of lists of texts.
    """
    sets: dict[str, tuple[str, ...]] = {}
    for key, value in _object(content).items():
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(caption, str) for caption in listed):
            raise Malformed(f"{key} is not a list of texts")
        sets[key] = tuple(listed)
    return sets


def parameters(content: bytes) -> tuple[Augmentation, ...]:
    """Decodes the augmentations. `param_aug` is a list or, as in the published files, a text that holds one as JSON.

    Raises:
        ValueError: neither.
    """
    stored = _object(content).get("param_aug")
    if isinstance(stored, str):
        stored = _json(stored)
    if not isinstance(stored, list) or not stored:
        raise Malformed("param_aug is not a list of augmentations")
    return tuple(parse(augmentation) for augmentation in stored)


def embeddings(content: bytes, suffix: str) -> dict[str, Tensor]:
    """Decodes the float arrays [rows, values] of an `npz`, or of a `pth.gz`, a compressed file of torch.save.

    Raises:
        ValueError: damaged, pickled objects, larger than `LIMIT`, no table of floats, or values that are not finite.
    """
    arrays = {"npz": _npz, "pth.gz": _torch}[suffix](content)
    for name, value in arrays.items():
        if value.ndim != 2 or not value.is_floating_point():
            raise Malformed(f"{name} is {str(value.dtype).removeprefix('torch.')} {list(value.shape)}, not embeddings")
        if not torch.isfinite(value).all():
            raise Malformed(f"{name} has NaN or infinite elements")
    return arrays


def image(content: bytes) -> Image.Image:
    """Decodes an image as the published pipeline does: RGB, transparency dropped, the EXIF orientation not applied. The
    crops were drawn on such pixels.

    Raises:
        ValueError: it cannot be decoded.
    """
    # Pillow's decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, ...
    with reraising(f"the image cannot be decoded ({REASON})", Exception, into=Malformed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about large images and odd metadata
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise Malformed(f"more than {MAX_PIXELS // 10**6} megapixels")
            return opened.convert("RGBA").convert("RGB")


def _json(content: str | bytes) -> Any:
    with reraising(REASON, ValueError, RecursionError, into=Malformed):
        return json.loads(content)


def _object(content: bytes) -> Mapping[str, Any]:
    value = _json(content)
    if not isinstance(value, dict):
        raise Malformed(f"a {type(value).__name__} instead of a JSON object")
    return value


def _npz(content: bytes) -> dict[str, Tensor]:
    arrays = plain_arrays(content, "f", LIMIT)
    return {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in arrays.items()}


def _torch(content: bytes) -> dict[str, Tensor]:
    unpacked = _gunzipped(content)
    try:
        with zipfile.ZipFile(io.BytesIO(unpacked)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise Malformed("the pth.gz contains a compressed zip, which torch.save never writes")
        tensors = torch.load(io.BytesIO(unpacked), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise Malformed("the pth.gz contains pickled objects, which are never run") from None
    except Malformed:
        raise
    except Exception as error:  # a damaged pickle can raise any exception
        raise Malformed(f"the pth.gz is damaged ({readable_reason(error)})") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided and value.is_contiguous()
        for name, value in tensors.items()
    ):
        raise Malformed("the pth.gz contains something other than named tensors")
    return tensors


def _gunzipped(content: bytes) -> bytes:
    """Unpacks gzip up to `LIMIT` bytes and refuses more, so that a bomb cannot fill the memory."""
    with reraising(f"the pth.gz is damaged ({REASON})", OSError, EOFError, zlib.error, into=Malformed):
        unpacked = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LIMIT + 1)
    if len(unpacked) > LIMIT:
        raise Malformed(f"the pth.gz unpacks to more than {LIMIT:,} bytes")
    return unpacked


def refusal(shard: object, name: str, error: ValueError) -> InvalidInput:
    """Returns the error for one bad member of a shard."""
    return InvalidInput(
        f"{shard}: {name}: {readable_reason(error)}; download the shard again, or leave such samples out with "
        "`skip_bad: true` in the recipe"
    )
