"""Table of usual mistakes before a network, of apps and of converted files; `network_mistakes` has those in it."""

import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.image_files import image_bytes
from mobileclip_deploy.network.model.preprocessing import (
    MAX_PIXELS,
    decode_image,
    decoded,
    resized_size,
    rgb_image,
    tower_bytes,
)
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import Preprocess, TokenizerSpec
from mobileclip_deploy.verify.audit.conventions import (
    BYTES,
    CLIP,
    IMAGENET,
    SIGNED,
    SIGNED_BYTES,
    UNIT,
    Encoding,
    text_conventions,
)
from mobileclip_deploy.verify.audit.opening import Port

Stage = Literal["file", "frame", "resampling", "pixels", "values", "prompts", "encoding", "ids", "network"]


@dataclass(frozen=True, eq=False)
class Mistake:
    """One usual mistake.

    Attributes:
        stage: the step that it changes.
        text: the mistake in words.
        apply: function of the stage that makes it; of the network, the values of its attributes (`network_mistakes`).
        name: identifier among the causes of a file, the same in every version; empty if only apps make it.
        of_file: the mistake of a file in words, as the end of a sentence; None for `text`.
        forms: names of the encodings of pictures with which it is tried on a file; empty for all.
    """

    stage: Stage
    text: str
    apply: Any
    name: str = ""
    of_file: str | None = None
    forms: tuple[str, ...] = ()


Recipe = Mapping[Stage, Mistake]
"""Mistake of each stage; a stage without one is done as the checkpoint needs it."""


def _step(recipe: Recipe, stage: Stage, usual: Any) -> Any:
    return recipe[stage].apply if stage in recipe else usual


def opened(file: Path, mistake: Mistake | None) -> Image.Image:
    """Decodes an image file, perhaps with a mistake.

    Raises:
        InvalidInput: the file cannot be used.
    """
    decode: Callable[..., Image.Image] = decode_image if mistake is None else mistake.apply
    return decode(image_bytes(file), str(file))


def pixels_of(image: Image.Image, spec: Preprocess, recipe: Recipe) -> Array:
    """Returns pixels [S, S, 3] in [0, 1] of an RGB image, made with the mistakes of a recipe after decoding."""
    if "frame" in recipe:
        image, spec = recipe["frame"].apply(image, spec)
    if "resampling" in recipe:
        size = resized_size(image.width, image.height, spec)
        if size[0] * size[1] > MAX_PIXELS:
            raise InvalidInput("too elongated; crop the image first")
        image = recipe["resampling"].apply(image, size)
    return tower_bytes(image, spec).transpose(1, 2, 0) / 255


def network_input(pixels: Array, spec: Preprocess, recipe: Recipe) -> Floats:
    """Returns the network's input [3, S, S] of pixels [S, S, 3] in [0, 1]."""
    usual = Encoding("", spec.mean, spec.std)
    values = _step(recipe, "values", usual)(_step(recipe, "pixels", np.asarray)(pixels))
    return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)


def text_input(texts: Sequence[str], tokens: TokenizerSpec, recipe: Recipe) -> Array:
    """Returns token ids int64 [N, L], made with the mistakes of a recipe."""
    texts = list(_step(recipe, "prompts", list)(texts))
    return np.asarray(_step(recipe, "ids", np.asarray)(_step(recipe, "encoding", encode)(texts, tokens)))


def image_mistakes(spec: Preprocess) -> Iterator[Mistake]:
    """Yields mistakes of pictures: `file` (bytes to RGB), `frame` (crop), `resampling`, `pixels` ([S, S, 3] in 0 to 1)
    and `values` (these, to the network's input)."""
    for text, decode in (
        ("EXIF orientation ignored", lambda *content: rgb_image(_bare(*content), content[1])),
        (
            "EXIF orientation ignored, transparency dropped",
            lambda *content: _bare(*content).convert("RGBA").convert("RGB"),
        ),
        ("transparency on black", partial(_on, colour="black")),
        ("transparency dropped", partial(_on, colour=None)),
        ("colour profile applied", _colour_managed),
        ("JPEG decoded at reduced size", partial(_decoded, least=spec.resized)),
    ):
        yield Mistake("file", text, decode)
    for quality in (95, 90, 85, 80, 75, 60, 40):
        recoded = partial(lambda content, name, quality: _jpeg(decode_image(content, name), quality), quality=quality)
        yield Mistake("file", f"JPEG compressed again at quality {quality}", recoded)
    yield from _frames(spec)
    for method in ("bilinear", "bicubic", "nearest", "area", "Lanczos"):
        if method != spec.interpolation:
            yield Mistake("resampling", method, partial(_resized, method={"area": "BOX"}.get(method, method.upper())))
    for text, options in (
        ("bilinear without antialias", {"mode": "bilinear"}),
        ("bilinear without antialias, corners aligned", {"mode": "bilinear", "align_corners": True}),
        ("bicubic without antialias", {"mode": "bicubic"}),
    ):
        yield Mistake("resampling", text, partial(_interpolated, **options))
    for text, change in (
        ("BGR instead of RGB", lambda x: x[..., ::-1]),
        ("ARGB read as RGB", lambda x: np.concatenate([np.ones_like(x[..., :1]), x[..., :2]], -1)),
        ("grey", lambda x: np.repeat(x @ [0.299, 0.587, 0.114], 3).reshape(x.shape)),
        ("interleaved channels read as planes", lambda x: x.reshape(3, *x.shape[:2]).transpose(1, 2, 0)),
        ("planes read as interleaved channels", lambda x: x.transpose(2, 0, 1).reshape(x.shape)),
        ("upside down", lambda x: x[::-1]),
        ("mirrored", lambda x: x[:, ::-1]),
        *((f"rotated by {90 * turns} degrees", partial(np.rot90, k=turns)) for turns in (1, 2, 3)),
        ("linear light instead of sRGB", _linear),
        ("video range (16 to 235)", lambda x: (16 + x * 219) / 255),
        *((f"JPEG of the cropped picture at quality {q}", partial(_recompressed, quality=q)) for q in (90, 75, 50)),
    ):
        yield Mistake("pixels", text, change)
    yield Mistake("pixels", "rows and columns exchanged", lambda x: x.swapaxes(0, 1), "rows-columns")
    yield from _values(Encoding("its own", spec.mean, spec.std))


def _frames(spec: Preprocess) -> Iterator[Mistake]:
    def framed(image: Image.Image, spec: Preprocess, **changes: Any) -> tuple[Image.Image, Preprocess]:
        return image, spec.model_copy(update={"resize": "shorter_side", "crop_fraction": None, **changes})

    def barred(image: Image.Image, spec: Preprocess, grey: int) -> tuple[Image.Image, Preprocess]:
        return framed(ImageOps.pad(image, (spec.size, spec.size), Image.Resampling.BILINEAR, (grey,) * 3), spec)

    def square(image: Image.Image, spec: Preprocess, share: float) -> tuple[Image.Image, Preprocess]:
        side = min(image.size)
        left, top = int((image.width - side) * share), int((image.height - side) * share)
        return image.crop((left, top, left + side, top + side)), spec

    def thumbnail(image: Image.Image, spec: Preprocess, side: int) -> tuple[Image.Image, Preprocess]:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.BICUBIC)
        return small, spec

    if spec.resize == "shorter_side":
        yield Mistake("frame", "stretched instead of cropped", partial(framed, resize="squash"))
    else:
        yield Mistake("frame", "cropped instead of stretched", framed)
    if spec.crop_fraction is not None:
        yield Mistake("frame", "no margin around the crop", framed)
    for each in (0.875, 0.9, 0.95):
        yield Mistake("frame", f"central crop of {each:.1%} instead", partial(framed, crop_fraction=each))
    for colour, grey in (("black", 0), ("grey", 114), ("white", 255)):
        yield Mistake("frame", f"{colour} bars instead of a crop", partial(barred, grey=grey))
    yield Mistake("frame", "crop at the top left", partial(square, share=0))
    yield Mistake("frame", "cropped to a square before the resize", partial(square, share=0.5))
    for side in (side for side in (128, 256, 512) if side > spec.resized):
        yield Mistake("frame", f"read from a thumbnail of {side} pixels", partial(thumbnail, side=side))


def _values(card: Encoding) -> Iterator[Mistake]:
    plain = (card.mean, card.std) == (UNIT.mean, UNIT.std)
    for text, encoding in (("CLIP's mean and std", CLIP), ("ImageNet's mean and std", IMAGENET), ("-1 to 1", SIGNED)):
        # With an encoding that normalises alike the two would cancel out.
        inside = f"pixels normalised inside by {encoding.name}, which the checkpoint does not expect"
        name, forms = ("normalised-inside", (UNIT.name, BYTES.name)) if plain else ("", ())
        yield Mistake("values", text, encoding, name, inside, forms)
    yield Mistake("values", "0 to 255", BYTES.then(card))
    yield Mistake("values", "-128 to 127", SIGNED_BYTES)
    text, twice = "divided by 255 twice", Encoding("", std=(255.0,) * 3).then(card)
    yield Mistake("values", text, twice, "range", f"pixels {text}", (BYTES.name,))
    if plain:  # the others coincide with these
        return
    yield Mistake("values", "0 to 1, without mean and std", UNIT)
    yield Mistake("values", "0 to 255, without mean and std", BYTES)
    forms = (UNIT.name, BYTES.name)
    yield Mistake("values", "mean and std applied twice", card.then(card), "normalised-inside", forms=forms)
    for encoding in (CLIP, IMAGENET):
        yield Mistake("values", f"{encoding.name}, then its own", encoding.then(card))
    yield Mistake("values", "mean without std", Encoding("", card.mean))
    yield Mistake("values", "std without mean", Encoding("", std=card.std))


def _decoded(content: bytes, name: str, **options: Any) -> Image.Image:
    with decoded(content, name, **options) as image:
        return image


_raw = partial(_decoded, pixels="reference")


def _bare(content: bytes, name: str) -> Image.Image:
    """Decodes without metadata, but for a palette's or a key's transparency."""
    image = _raw(content, name).copy()
    image.info = {key: value for key, value in image.info.items() if key == "transparency"}
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


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _interpolated(image: Image.Image, size: tuple[int, int], **options: Any) -> Image.Image:
    """Resizes without antialias, as Core Graphics' and Android's fast filters, OpenCV and TensorFlow do."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(pixels, size[::-1], **options)
    return Image.fromarray(resized[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy())


def _resized(image: Image.Image, size: tuple[int, int], method: str) -> Image.Image:
    return image.resize(size, Image.Resampling[method])


def _linear(pixels: Array) -> Array:
    return np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)


def _recompressed(pixels: Array, quality: int) -> Array:
    return np.asarray(_jpeg(Image.fromarray(np.rint(pixels * 255).astype(np.uint8)), quality)) / 255


def text_mistakes(tokens: TokenizerSpec) -> Iterator[Mistake]:
    """Yields mistakes of texts: `prompts`, `encoding` (to ids) and `ids`."""
    for template in ("a photo of a {}", "a photo of a {}.", "a photo of {}", "a picture of {}", "{}."):
        added = partial(map, lambda text, form=template: form.replace("{}", text))
        yield Mistake("prompts", f"template {template!r} added", added)
    yield Mistake("prompts", "template left out", _without_template)
    yield Mistake("prompts", "punctuation dropped", partial(map, _unpunctuated))
    yield Mistake("prompts", "accents dropped", partial(map, _accentless))
    yield Mistake("encoding", "capitals kept", _cased_ids)
    yield Mistake("encoding", "cut without an end token", _uncut)
    length, last = tokens.context_length, tokens.vocab_size - 1
    _, *conventions = text_conventions(Port(name="ids", dtype="int64", shape=(1, length)), False, tokens)
    for form in conventions:
        arranged = partial(lambda ids, form: form.values(ids, tokens)[0].clip(0, last), form=form)
        yield Mistake("ids", form.mistake, arranged)
    yield Mistake("ids", "shifted by a position", lambda ids: np.insert(ids[:, :-1], 0, tokens.pad, axis=1))
    yield Mistake("ids", "padded on the left", partial(_right_aligned, tokens=tokens))
    for cut in (cut for cut in (8, 16, 32, 64) if cut < length):
        for ended in (True, False):
            text = f"cut after {cut} tokens{'' if ended else ' without an end token'}"
            yield Mistake("ids", text, partial(_of_length, length=cut, tokens=tokens, ended=ended))
    halves = partial(lambda ids: ids.astype(np.float16).astype(np.int64).clip(0, last))
    yield Mistake("ids", "ids rounded to float16", halves)


def _without_template(texts: Sequence[str]) -> list[str]:
    """Removes the words that all texts begin with, and a final full stop that all have."""
    words = [text.split(" ") for text in texts]
    shared = 0
    while len(words) > 1 and all(len(row) > shared + 1 and row[shared] == words[0][shared] for row in words):
        shared += 1
    bare = [" ".join(row[shared:]) for row in words]
    return [text.removesuffix(".") for text in bare] if all(text.endswith(".") for text in bare) else bare


def _unpunctuated(text: str) -> str:
    return "".join(letter for letter in text if letter.isspace() or not unicodedata.category(letter).startswith("P"))


def _accentless(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


def _cased_ids(texts: Sequence[str], tokens: TokenizerSpec) -> Array:
    return encode(texts, tokens.model_copy(update={"cleaning": "whitespace"}))


def _uncut(texts: Sequence[str], tokens: TokenizerSpec) -> Array:
    longer = tokens.model_copy(update={"context_length": 4 * tokens.context_length})
    return encode(texts, longer)[:, : tokens.context_length]


def _of_length(ids: Array, length: int, tokens: TokenizerSpec, ended: bool) -> Array:
    """Cuts after `length` tokens, with the end token as the last one or without it."""
    cut = ids.copy()
    cut[:, length:] = tokens.pad
    if ended:
        cut[(ids[:, length:] != tokens.pad).any(axis=1), length - 1] = tokens.eot
    return cut


def _right_aligned(ids: Array, tokens: TokenizerSpec) -> Array:
    ends = (ids == tokens.eot).argmax(axis=1)
    return np.stack([np.roll(row, len(row) - 1 - end) for row, end in zip(ids, ends, strict=True)])
