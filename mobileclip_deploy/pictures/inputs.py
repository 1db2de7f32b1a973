"""`preprocess` and `tokenize`: from images and texts to the arrays that a runner takes."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.manifest import MANIFEST, Manifest
from mobileclip_deploy.artifacts.heads.contexts import fitting
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.errors import InvalidInput, reraising
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import decode_image, load_image, rgb_image
from mobileclip_deploy.network.model.preprocessing import preprocess as preprocess_image
from mobileclip_deploy.network.model.tokenizer import CLIP, encode
from mobileclip_deploy.network.model.variants import Variant, load_variant
from mobileclip_deploy.pictures.subjects import CheckedRunner

ImageLike = StrPath | bytes | Image.Image | npt.NDArray[np.uint8]
"""An image file, its content, an opened image, or bytes [H, W, 3] RGB or [H, W] grey."""

InputsOf = Bundle | CheckedRunner | MobileCLIP | Variant | StrPath
"""Sources of the inputs' format: a bundle or its folder, a runner, a model, or the name of a variant."""


def preprocess(images: ImageLike | Iterable[ImageLike], model: InputsOf) -> npt.NDArray[np.float32]:
    """Converts images to the input of the image tower of any target. All are in memory at once: for thousands use
    `embed`.

    Resizes and crops as the model's training did, to its size. Mean and std are left out, since they are inside the
    artifact or the runner. `load_runner(model, "image")` takes the same input for a checkpoint.

    Args:
        images: files, contents of files (bytes), opened images (PIL), arrays of bytes (uint8 [H, W, 3] RGB, or [H, W]
            grey), or one of them.
        model: source of the image tower's format: a bundle or its folder, a runner, a model from `load_model`, or a
            variant's name.

    Returns:
        float32 [N, 3, S, S] in [0, 1], RGB.

    Raises:
        InvalidInput: no image, or one that cannot be used, which is named.
        UsageError: `model` names neither a bundle nor a variant.
    """
    spec = _known(model)[0].preprocess
    sources = _listed(images)
    if not sources:
        raise InvalidInput("no images were given")
    pixels = np.empty((len(sources), 3, spec.size, spec.size), np.float32)
    for index, image in enumerate(sources):
        opened, name = _opened(image, index)
        with reraising(name, InvalidInput):
            pixels[index] = preprocess_image(opened, spec)
    return pixels


def tokenize(texts: str | Iterable[str], model: InputsOf | None = None) -> npt.NDArray[np.int64]:
    """Converts texts to the input of the text tower of any target, encoded as open_clip does; longer texts are cut.

    If the text tower of a bundle or a runner takes several lengths (`export(contexts=...)`), ids have the shortest that
    fits all the texts.

    Args:
        texts: strings, or one.
        model: as for `preprocess`. May be left out for all variants with CLIP's vocabulary and length: not for PE-Core,
            whose texts are shorter, and not for text towers with a vocabulary of their own (docs/languages.md).

    Returns:
        int64 [N, L]; L is the length of `model`, or shorter.

    Raises:
        InvalidInput: no text, or something other than strings.
        UsageError: `model` names neither a bundle nor a variant.
        DependencyMissing: `tokenizers` is not installed, which some vocabularies need.
    """
    config, contexts = (None, ()) if model is None else _known(model)
    tokens = CLIP if config is None else config.tokens
    prompts = [texts] if isinstance(texts, str) else list(texts)
    if not prompts:
        raise InvalidInput("no texts were given")
    ids = encode(prompts, tokens)
    if not contexts:
        return ids
    shortest = int(fitting(ids, contexts, tokens).max())
    return np.ascontiguousarray(ids[:, :shortest])


def _known(model: InputsOf) -> tuple[CheckedRunner | Variant | Manifest, tuple[int, ...]]:
    """Returns the source of the inputs' format, and the text tower's lengths if there are several."""
    if isinstance(model, CheckedRunner):
        return model, model.contexts if model.tower == "text" and len(model.contexts) > 1 else ()
    if isinstance(model, Variant):
        return model, ()
    if isinstance(model, MobileCLIP):
        return model.variant, ()
    if not isinstance(model, Bundle):
        if isinstance(model, str) and not (Path(model) / MANIFEST).is_file() and Path(model).name == model:
            return load_variant(model), ()
        model = Bundle.open_unchecked(model)
    text = model.manifest.towers.get("text")
    return model.manifest, (None if text is None else text.contexts) or ()


def _listed(images: ImageLike | Iterable[ImageLike]) -> list[Any]:
    """Returns a list of images: one image becomes a list of one, and an array of four dimensions the list of its
    images."""
    if isinstance(images, str | bytes | PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]
    return list(cast(Sequence[Any], images))


def _opened(image: object, number: int) -> tuple[Image.Image, str]:
    name = f"image {number}"
    if isinstance(image, str | PathLike):
        return load_image(image), str(image)
    if isinstance(image, bytes):
        return decode_image(image, name), name
    if isinstance(image, Image.Image):
        return rgb_image(image, name), name
    if not isinstance(image, np.ndarray):
        raise InvalidInput(f"{name} is {type(image).__name__}; {TAKEN}")
    if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)) or image.ndim < 2 or not image.size:
        raise InvalidInput(f"{name} is an array of {image.dtype} {list(image.shape)}; {TAKEN}")
    return rgb_image(Image.fromarray(np.ascontiguousarray(image)), name), name


TAKEN = "give files, their contents, PIL images, or arrays of bytes, uint8 [H, W, 3] or [H, W]"
