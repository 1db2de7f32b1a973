"""Usual mistakes of apps before and after a tower, each as a function that makes it."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.inputs import in_batches
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.image_files import image_bytes
from mobileclip_deploy.network.model.open_clip_files import open_clip_module
from mobileclip_deploy.network.model.preprocessing import (
    MAX_PIXELS,
    decode_image,
    decoded,
    resized_size,
    rgb_image,
    tower_bytes,
)
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocess,
    TokenizerSpec,
)

Recipe = Mapping[str, str]
"""Name of the cause in each stage; a stage without one is done as the checkpoint needs it."""
Stages = Mapping[str, Mapping[str, Callable[..., Any]]]

QUALITIES = (95, 90, 85, 80, 75, 60, 40)
LETTERBOX = {"black": 0, "grey": 114, "white": 255}


def _bare(image: Image.Image) -> Image.Image:
    """Returns a copy without metadata, but for a palette's or a key's transparency."""
    copy = image.copy()
    copy.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return copy


def _raw(content: bytes, name: str) -> Image.Image:
    with decoded(content, name, pixels="reference") as image:
        return image


def _on(content: bytes, name: str, *, colour: str | None) -> Image.Image:
    """Decodes with transparency on a colour, or with the hidden colours shown if it is None."""
    image = _raw(content, name)
    if not image.has_transparency_data:
        return decode_image(content, name)
    image = ImageOps.exif_transpose(image).convert("RGBA")
    if colour is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, colour), image)
    return image.convert("RGB")


def _colour_managed(content: bytes, name: str) -> Image.Image:
    image, profile = decode_image(content, name), _raw(content, name).info.get("icc_profile")
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        managed = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, which apps ignore as well
        return image
    return image if managed is None else managed


def _reduced(content: bytes, name: str, least: int) -> Image.Image:
    with decoded(content, name, least) as image:
        return image


def _recoded(content: bytes, name: str, quality: int) -> Image.Image:
    return _jpeg(decode_image(content, name), quality)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _framed(image: Image.Image, spec: Preprocess, **changes: Any) -> tuple[Image.Image, Preprocess]:
    return image, spec.model_copy(update={"resize": "shorter_side", "crop_fraction": None, **changes})


def _barred(image: Image.Image, spec: Preprocess, grey: int) -> tuple[Image.Image, Preprocess]:
    return _framed(ImageOps.pad(image, (spec.size, spec.size), Image.Resampling.BILINEAR, (grey,) * 3), spec)


def _square(image: Image.Image, spec: Preprocess, share: float) -> tuple[Image.Image, Preprocess]:
    """Crops a square before the resize. `share`: 0 for the upper left, 0.5 for the centre."""
    side = min(image.size)
    left, top = int((image.width - side) * share), int((image.height - side) * share)
    return image.crop((left, top, left + side, top + side)), spec


def _thumbnail(image: Image.Image, spec: Preprocess, side: int) -> tuple[Image.Image, Preprocess]:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return small, spec


def _interpolated(image: Image.Image, size: tuple[int, int], mode: str, corners: bool = False) -> Image.Image:
    """Resizes without antialias, as Core Graphics' and Android's fast filters, OpenCV and TensorFlow do."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(pixels, size[::-1], mode=mode, align_corners=corners)
    return Image.fromarray(resized[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy())


def _resized(image: Image.Image, size: tuple[int, int], method: str) -> Image.Image:
    return image.resize(size, Image.Resampling[method])


def _linear(pixels: Array) -> Array:
    return np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)


def _recompressed(pixels: Array, quality: int) -> Array:
    return np.asarray(_jpeg(Image.fromarray(np.rint(pixels * 255).astype(np.uint8)), quality)) / 255


def image_stages(spec: Preprocess) -> Stages:
    """Returns the causes of images by stage: `file` (bytes to RGB), `frame` (crop), `resampling`, `pixels` ([S, S, 3]
    in 0 to 1) and `values` (these, to the network's input)."""
    usual = ("bilinear", "bicubic", "nearest")
    return {
        "file": {
            "EXIF orientation ignored": lambda content, name: rgb_image(_bare(_raw(content, name)), name),
            "EXIF orientation ignored, transparency dropped": lambda content, name: (
                _bare(_raw(content, name)).convert("RGBA").convert("RGB")
            ),
            "transparency on black": partial(_on, colour="black"),
            "transparency dropped": partial(_on, colour=None),
            "colour profile applied": _colour_managed,
            "JPEG decoded at reduced size": partial(_reduced, least=spec.resized),
            **{f"JPEG compressed again at quality {each}": partial(_recoded, quality=each) for each in QUALITIES},
        },
        "frame": _frames(spec),
        "resampling": {
            **{name: partial(_resized, method=name.upper()) for name in usual if name != spec.interpolation},
            "area": partial(_resized, method="BOX"),
            "Lanczos": partial(_resized, method="LANCZOS"),
            "bilinear without antialias": partial(_interpolated, mode="bilinear"),
            "bilinear without antialias, corners aligned": partial(_interpolated, mode="bilinear", corners=True),
            "bicubic without antialias": partial(_interpolated, mode="bicubic"),
        },
        "pixels": {
            "BGR instead of RGB": lambda x: x[..., ::-1],
            "ARGB read as RGB": lambda x: np.concatenate([np.ones_like(x[..., :1]), x[..., :2]], -1),
            "grey": lambda x: np.repeat(x @ [0.299, 0.587, 0.114], 3).reshape(x.shape),
            "interleaved channels read as planes": lambda x: x.reshape(3, *x.shape[:2]).transpose(1, 2, 0),
            "planes read as interleaved channels": lambda x: x.transpose(2, 0, 1).reshape(x.shape),
            "upside down": lambda x: x[::-1],
            "mirrored": lambda x: x[:, ::-1],
            "rows and columns exchanged": lambda x: x.swapaxes(0, 1),
            **{f"rotated by {90 * turns} degrees": partial(np.rot90, k=turns) for turns in (1, 2, 3)},
            "linear light instead of sRGB": _linear,
            "video range (16 to 235)": lambda x: (16 + x * 219) / 255,
            **{
                f"JPEG of the cropped picture at quality {each}": partial(_recompressed, quality=each)
                for each in (90, 75, 50)
            },
        },
        "values": _values(np.array(spec.mean), np.array(spec.std)),
    }


def _frames(spec: Preprocess) -> dict[str, Callable[..., Any]]:
    other: dict[str, Callable[..., Any]] = {"cropped instead of stretched": _framed}
    if spec.resize == "shorter_side":
        other = {"stretched instead of cropped": partial(_framed, resize="squash")}
    if spec.crop_fraction is not None:
        other["no margin around the crop"] = _framed
    return {
        **other,
        **{f"central crop of {each:.1%} instead": partial(_framed, crop_fraction=each) for each in (0.875, 0.9, 0.95)},
        **{f"{colour} bars instead of a crop": partial(_barred, grey=grey) for colour, grey in LETTERBOX.items()},
        "crop at the top left": partial(_square, share=0),
        "cropped to a square before the resize": partial(_square, share=0.5),
        **{
            f"read from a thumbnail of {side} pixels": partial(_thumbnail, side=side)
            for side in (128, 256, 512)
            if side > spec.resized
        },
    }


def _values(mean: Array, std: Array) -> dict[str, Callable[[Array], Array]]:
    values: dict[str, Callable[[Array], Array]] = {
        "CLIP's mean and std": lambda x: (x - CLIP_MEAN) / CLIP_STD,
        "ImageNet's mean and std": lambda x: (x - IMAGENET_MEAN) / IMAGENET_STD,
        "-1 to 1": lambda x: 2 * x - 1,
        "0 to 255": lambda x: (255 * x - mean) / std,
        "-128 to 127": lambda x: 255 * x - 128,
        "divided by 255 twice": lambda x: (x / 255 - mean) / std,
    }
    if not mean.any() and (std == 1).all():  # the others coincide with these
        return values
    return values | {
        "0 to 1, without mean and std": lambda x: x,
        "0 to 255, without mean and std": lambda x: 255 * x,
        "mean and std applied twice": lambda x: ((x - mean) / std - mean) / std,
        "CLIP's mean and std, then its own": lambda x: ((x - CLIP_MEAN) / CLIP_STD - mean) / std,
        "ImageNet's mean and std, then its own": lambda x: ((x - IMAGENET_MEAN) / IMAGENET_STD - mean) / std,
        "mean without std": lambda x: x - mean,
        "std without mean": lambda x: x / std,
    }


def opened(file: Path, stages: Stages, recipe: Recipe) -> Image.Image:
    """Decodes an image file with the cause of a recipe.

    Raises:
        InvalidInput: the file cannot be used.
    """
    decode = stages["file"][recipe["file"]] if "file" in recipe else decode_image
    image: Image.Image = decode(image_bytes(file), str(file))
    return image


def image_input(image: Image.Image, spec: Preprocess, stages: Stages, recipe: Recipe) -> Floats:
    """Returns the network's input [3, S, S] from an RGB image, made with the causes of a recipe after decoding."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    if "frame" in recipe:
        image, spec = stages["frame"][recipe["frame"]](image, spec)
    if "resampling" in recipe:
        size = resized_size(image.width, image.height, spec)
        if size[0] * size[1] > MAX_PIXELS:
            raise InvalidInput("too elongated; crop the image first")
        image = stages["resampling"][recipe["resampling"]](image, size)
    pixels = tower_bytes(image, spec).transpose(1, 2, 0) / 255
    if "pixels" in recipe:
        pixels = stages["pixels"][recipe["pixels"]](pixels)
    values = stages["values"][recipe["values"]](pixels) if "values" in recipe else (pixels - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)


TEMPLATES = ("a photo of a {}", "a photo of a {}.", "a photo of {}", "a picture of {}", "{}.")


def _without_template(texts: Sequence[str]) -> list[str]:
    """Removes the words that all texts begin with, and a final full stop that all have."""
    words = [text.split(" ") for text in texts]
    shared = 0
    while len(words) > 1 and all(len(row) > shared + 1 and row[shared] == words[0][shared] for row in words):
        shared += 1
    bare = [" ".join(row[shared:]) for row in words]
    return [text.removesuffix(".") for text in bare] if all(text.endswith(".") for text in bare) else bare


def _accentless(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


@cache
def _cased() -> Any:
    return open_clip_module("tokenizer").SimpleTokenizer(clean="whitespace")


def _cased_ids(texts: Sequence[str], tokens: TokenizerSpec) -> Array:
    """Encodes without making letters small. A vocabulary of its merges alone has no such tokenizer: as usual."""
    if tokens.kind is not None:
        return encode(texts, tokens.model_copy(update={"cleaning": "whitespace"}))
    return encode(texts, tokens) if tokens.merges else _cased()(list(texts), tokens.context_length).numpy()


def _uncut(texts: Sequence[str], tokens: TokenizerSpec) -> Array:
    longer = tokens.model_copy(update={"context_length": 4 * tokens.context_length})
    return encode(texts, longer)[:, : tokens.context_length]


def _of_length(ids: Array, length: int, tokens: TokenizerSpec, ended: bool) -> Array:
    """Cuts after `length` tokens, with the end token as the last one or without it."""
    cut = ids.copy()
    cut[:, length:] = tokens.pad
    if ended:
        longer = (ids[:, length:] != tokens.pad).any(axis=1)
        cut[longer, length - 1] = tokens.eot
    return cut


def _padded(ids: Array, pad: int, tokens: TokenizerSpec) -> Array:
    return np.where(np.arange(ids.shape[1]) > _ends(ids, tokens)[:, None], pad, ids)


def _ends(ids: Array, tokens: TokenizerSpec) -> Array:
    return np.asarray((ids == tokens.eot).argmax(axis=1))


def _right_aligned(ids: Array, tokens: TokenizerSpec) -> Array:
    return np.stack([np.roll(row, len(row) - 1 - end) for row, end in zip(ids, _ends(ids, tokens), strict=True)])


def text_stages(tokens: TokenizerSpec) -> Stages:
    """Returns the causes of texts by stage: `prompts`, `encoding` and `ids`."""
    each = {template: partial(map, lambda text, form=template: form.replace("{}", text)) for template in TEMPLATES}
    first = len(tokens.first)

    def shifted(ids: Array, by: int) -> Array:
        moved = np.full_like(ids, tokens.pad)
        moved[:, max(by, 0) : ids.shape[1] + min(by, 0)] = ids[:, max(-by, 0) : ids.shape[1] - max(by, 0)]
        return moved

    return {
        "prompts": {
            **{f"template {template!r} added": function for template, function in each.items()},
            "template left out": _without_template,
            "punctuation dropped": partial(
                map, lambda text: "".join(x for x in text if x.isspace() or not unicodedata.category(x).startswith("P"))
            ),
            "accents dropped": partial(map, _accentless),
        },
        "encoding": {"capitals kept": _cased_ids, "cut without an end token": _uncut},
        "ids": {
            "no start token": lambda ids: shifted(ids, -first),
            "no end token": lambda ids: np.where(ids == tokens.eot, tokens.pad, ids),
            "neither start nor end token": lambda ids: shifted(np.where(ids == tokens.eot, tokens.pad, ids), -first),
            "shifted by a position": lambda ids: shifted(ids, 1),
            "every id one too high": lambda ids: np.minimum(ids + 1, tokens.vocab_size - 1),
            "every id one too low": lambda ids: np.maximum(ids - 1, 0),
            **{
                f"padded with {pad}": lambda ids, pad=pad: _padded(ids, pad, tokens)
                for pad in sorted({0, 1, tokens.eot, tokens.vocab_size - 1} - {tokens.pad})
            },
            "padded on the left": lambda ids: _right_aligned(ids, tokens),
            **{
                f"cut after {length} tokens{'' if ended else ' without an end token'}": lambda ids, n=length, e=ended: (
                    _of_length(ids, n, tokens, e)
                )
                for length in (8, 16, 32, 64)
                for ended in (True, False)
                if length < tokens.context_length
            },
            "ids rounded to float16": lambda ids: (
                ids.astype(np.float16).astype(np.int64).clip(0, tokens.vocab_size - 1)
            ),
        },
    }


def text_input(texts: Sequence[str], tokens: TokenizerSpec, stages: Stages, recipe: Recipe) -> Array:
    """Returns token ids int64 [N, L], made with the causes of a recipe."""
    if "prompts" in recipe:
        texts = list(stages["prompts"][recipe["prompts"]](texts))
    ids = (stages["encoding"][recipe["encoding"]] if "encoding" in recipe else encode)(texts, tokens)
    return np.asarray(stages["ids"][recipe["ids"]](ids) if "ids" in recipe else ids)


def embed_input(model: MobileCLIP, tower: Literal["image", "text"], inputs: Array) -> Floats:
    """Embeds inputs of the network itself, with images already normalised: [N, D]."""
    return in_batches(model.encode_image if tower == "image" else model.encode_text, inputs)
