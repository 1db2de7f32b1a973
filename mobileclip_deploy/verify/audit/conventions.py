"""Conventions of inputs: the axes, range, mean, colours and type of pixels, and the arrangement of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocess,
    TokenizerSpec,
    TowerName,
    Variant,
)
from mobileclip_deploy.verify.audit.opening import Port

Triple = tuple[float, float, float]
FLOATS, INTEGERS = ("float32", "float16", "float64"), ("int32", "int64")
Axes = Literal["NCHW", "NHWC", "HWC", "CHW"]
Colours = Literal["RGB", "BGR"]
Mask = Literal["tokens", "ones"]
COLOUR_ORDERS: tuple[Colours, ...] = ("RGB", "BGR")
COLOURS: dict[Axes, int] = {"NCHW": 1, "NHWC": 3, "HWC": 2, "CHW": 0}
"""Position of the colours."""


@dataclass(frozen=True)
class Encoding:
    """Map from pixels p in [0, 1] to the values of an input: (p - mean) / std, per colour, red first."""

    name: str
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def __call__(self, pixels: Array) -> Array:
        return (pixels - np.array(self.mean)) / self.std

    def then(self, other: Encoding) -> Encoding:
        """Returns the map that makes both, this one first."""
        mean, std = np.array(self.std) * other.mean + self.mean, np.array(self.std) * other.std
        return Encoding("", tuple(mean.tolist()), tuple(std.tolist()))


BYTE = (1 / 255, 1 / 255, 1 / 255)
UNIT = Encoding("0 ... 1")
BYTES = Encoding("0 ... 255", std=BYTE)
SIGNED_BYTES = Encoding("-128 ... 127", (128 / 255,) * 3, BYTE)
SIGNED = Encoding("-1 ... 1", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = Encoding("CLIP's mean and std", CLIP_MEAN, CLIP_STD)
IMAGENET = Encoding("ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD)
ENCODINGS = (UNIT, BYTES, SIGNED, CLIP, IMAGENET, Encoding("0 ... 255 minus ImageNet's mean", IMAGENET_MEAN, BYTE))


@dataclass(frozen=True)
class ImageConvention:
    """Form in which a file takes pictures."""

    axes: Axes
    colours: Colours
    encoding: Encoding
    dtype: str
    channels: int = 3

    def values(self, pixels: Array) -> Array:
        """Converts pixels [N, 3, H, W] in [0, 1], RGB, to the input; without a batch N must be 1."""
        x = self.encoding(pixels.transpose(0, 2, 3, 1))
        x = x[..., ::-1] if self.colours == "BGR" else x
        if self.channels == 4:  # opaque
            x = np.concatenate((x, np.full_like(x[..., :1], 255)), axis=-1)
        x = x.transpose(0, 3, 1, 2) if self.axes in ("NCHW", "CHW") else x
        x = x if self.axes in ("NCHW", "NHWC") else x[0]
        return np.ascontiguousarray(x if self.dtype in FLOATS else np.rint(x)).astype(self.dtype)

    def describe(self) -> str:
        return f"{self.axes} {self.dtype}, {self.colours}, {self.encoding.name}"


def image_conventions(port: Port, spec: Preprocess) -> Iterator[ImageConvention]:
    """Yields the conventions that the type and shape of an input allow, the most usual ones first."""
    encodings: tuple[Encoding, ...] = ENCODINGS
    if all((spec.mean, spec.std) != (each.mean, each.std) for each in ENCODINGS):
        encodings = (*ENCODINGS, Encoding("the card's mean and std", spec.mean, spec.std))
    if port.dtype not in FLOATS:
        encodings = (SIGNED_BYTES if port.dtype == "int8" else BYTES,)
    for axes in image_axes(port):
        channels = 4 if port.shape[COLOURS[axes]] == 4 else 3
        for encoding, colours in product(encodings, COLOUR_ORDERS):
            yield ImageConvention(axes, colours, encoding, port.dtype, channels)
            if colours == "BGR" and encoding.mean != encoding.mean[::-1]:  # an app that turns pixels and no constants
                turned = Encoding(f"{encoding.name} (red's for blue)", encoding.mean[::-1], encoding.std[::-1])
                yield ImageConvention(axes, colours, turned, port.dtype, channels)


def conventions_of(roles: Roles, ports: Sequence[Port], variant: Variant) -> dict[TowerName, list[Convention]]:
    """Returns the conventions to try of each tower whose inputs a file has, the most usual ones first."""
    conventions: dict[TowerName, list[Convention]] = {}
    if roles.image is not None:
        conventions["image"] = list(image_conventions(ports[roles.image], variant.preprocess))
    if roles.ids is not None:
        conventions["text"] = list(text_conventions(ports[roles.ids], roles.mask is not None, variant.tokens))
    return conventions


def image_axes(port: Port) -> list[Axes]:
    """Returns the orders of axes that an input's shape allows; empty if it takes no picture."""
    rank = len(port.shape)
    if port.dtype not in (*FLOATS, *INTEGERS, "uint8", "int8") or rank not in (3, 4):
        return []
    orders: tuple[Axes, ...] = ("NCHW", "NHWC") if rank == 4 else ("HWC", "CHW")
    fitting = [axes for axes in orders if port.shape[COLOURS[axes]] in (3, 4)]
    return fitting or [axes for axes in orders if port.shape[COLOURS[axes]] == 0]


@dataclass(frozen=True)
class TextConvention:
    """Form in which a file takes token ids.

    Attributes:
        length: ids in a row.
        pad: id after the end token.
        pad_name: the id in words.
        start, end: True if the row has the tokens of start and end.
        shift: number added to every id.
        mask: content of the attention mask: "tokens" (1 for tokens, 0 for padding) or "ones".
    """

    length: int
    dtype: str
    pad: int
    pad_name: str
    start: bool = True
    end: bool = True
    shift: int = 0
    mask: Mask | None = None

    def values(self, ids: Array, spec: TokenizerSpec) -> tuple[Array, Array]:
        """Converts rows of the card's tokenizer [N, L] to the input and the attention mask, [N, length] each."""
        rows = np.full((len(ids), self.length), self.pad)
        mask = np.zeros_like(rows) if self.mask == "tokens" else np.ones_like(rows)
        for index, row in enumerate(ids):
            last = int(np.argmax(row == spec.eot)) if (row == spec.eot).any() else len(row) - 1
            tokens = row[0 if self.start or spec.sot is None else 1 : last + self.end][: self.length]
            rows[index, : len(tokens)], mask[index, : len(tokens)] = tokens + self.shift, 1
        return rows, mask

    def describe(self) -> str:
        parts = [f"{self.length} ids, {self.dtype}, padding {self.pad_name}"]
        parts += [] if self.start else ["without the start token"]
        parts += [] if self.end else ["without the end token"]
        parts += [f"every id plus {self.shift}"] if self.shift else []
        parts += {None: [], "tokens": ["attention mask 1 for tokens"], "ones": ["attention mask all 1"]}[self.mask]
        return ", ".join(parts)

    @property
    def mistake(self) -> str:
        """An app's difference from the usual arrangement in words."""
        if self.shift:
            return f"every id one too {'high' if self.shift > 0 else 'low'}"
        missing = {(False, True): "no start", (True, False): "no end", (False, False): "neither start nor end"}
        return f"padded with {self.pad}" if self.start and self.end else f"{missing[self.start, self.end]} token"


Convention = ImageConvention | TextConvention


def text_conventions(port: Port, masked: bool, spec: TokenizerSpec) -> Iterator[TextConvention]:
    """Yields the arrangements of ids to try, the card's first."""
    length = port.shape[-1] or spec.context_length
    pads = {spec.pad: f"{spec.pad}", spec.eot: f"{spec.eot} (the end token)"} | {0: "0", 1: "1"}
    usual = TextConvention(length, port.dtype, spec.pad, pads[spec.pad])
    forms = [replace(usual, pad=pad, pad_name=name) for pad, name in pads.items()]
    forms += [replace(usual, start=False), replace(usual, end=False), replace(usual, start=False, end=False)]
    forms += [replace(usual, shift=shift, pad=max(0, spec.pad + shift)) for shift in (1, -1)]
    masks: tuple[Mask | None, ...] = ("tokens", "ones") if masked else (None,)
    yield from (replace(form, mask=mask) for form, mask in product(forms, masks))


@dataclass(frozen=True)
class Roles:
    """Indices of a file's inputs: pixels, ids, attention mask and positions; None for those that it lacks."""

    image: int | None
    ids: int | None
    mask: int | None = None
    positions: int | None = None


def roles_of(inputs: Sequence[Port]) -> Roles:
    """Identifies the inputs of a file by shape, type and name.

    Raises:
        InvalidInput: there are neither pixels nor ids among them, or an input has no known role.
    """
    pictures = [index for index, port in enumerate(inputs) if image_axes(port)]
    rows = [index for index, port in enumerate(inputs) if _takes_rows(port) and index not in pictures]
    masks = [index for index in rows if "mask" in inputs[index].name.lower()]
    positions = [index for index in rows if "position" in inputs[index].name.lower()]
    ids = [index for index in rows if index not in (*masks, *positions)]
    if len(ids) == 2 and not masks:
        masks = [ids.pop()]
    roles = Roles(*((every[0] if every else None) for every in (pictures, ids, masks, positions)))
    assigned = {roles.image, roles.ids, roles.mask, roles.positions} - {None}
    if (roles.image is None and roles.ids is None) or len(assigned) != len(inputs):
        takes = "; ".join(f"{port.name[:40]} {port.dtype} {list(port.shape)}" for port in inputs)
        raise InvalidInput(f"its inputs ({takes}) are not pixels or token ids of a tower; give a tower's file")
    return roles


def _takes_rows(port: Port) -> bool:
    return len(port.shape) in (1, 2) and port.dtype in (*INTEGERS, *FLOATS, "bool")
