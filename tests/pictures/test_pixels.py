"""Pixels as an app shows a picture, and as open_clip computes them: two ways that are never mixed."""

import io
from pathlib import Path

import numpy as np
import pytest
from evaluation.embedders import by_colour
from open_clip.transform import image_transform
from PIL import Image

from mobileclip_deploy.network.model.preprocessing import Pixels, decode_image, decoded, tower_bytes
from mobileclip_deploy.network.model.variants import Preprocess
from mobileclip_deploy.pictures.embedding import open_store

SPEC = Preprocess(size=32, resize="shorter_side", interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)


def saved(image: Image.Image, kind: str, **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def pictures() -> dict[str, bytes]:
    noise = np.random.default_rng(3).integers(0, 256, (60, 45, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    clear = Image.fromarray(noise)
    return {
        "alpha": saved(clear, "PNG"),
        "turned": saved(clear.convert("RGB"), "JPEG", exif=exif),
        "palette": saved(clear.convert("P"), "PNG", transparency=0),
        "plain": saved(clear.convert("RGB"), "PNG"),
    }


@pytest.mark.parametrize("name", pictures())
def test_reference_pixels_are_open_clip_s_to_the_bit(name: str) -> None:
    content = pictures()[name]
    wanted = image_transform(32, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")(
        Image.open(io.BytesIO(content))
    )
    with decoded(content, name, pixels="reference") as image:
        found = tower_bytes(image, SPEC, "reference")
    assert np.array_equal(found, (wanted.numpy() * 255).round().astype(np.uint8))
    same = np.array_equal(found, tower_bytes(decode_image(content, name), SPEC))
    assert same == (name == "plain")


def test_embeddings_of_both_are_cached_apart(tmp_path: Path) -> None:
    embedder = by_colour()
    kinds: tuple[Pixels, ...] = ("app", "reference")
    stores = [open_store(embedder, "image", tmp_path, pixels=pixels) for pixels in kinds]
    first, second = (store for store in stores if store is not None)
    first.close()
    second.close()
    assert len(list(tmp_path.glob("*.sqlite"))) == 2
