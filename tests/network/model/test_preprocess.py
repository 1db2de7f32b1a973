"""Preprocessing equals torchvision's, whatever the file's mode and shape, and refuses what is not a whole image."""

import contextlib
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import saved
from PIL import Image, ImageOps
from torchvision import transforms

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.model import preprocessing as module
from mobileclip_deploy.network.model.preprocessing import decode_image, load_batch, load_image, preprocess
from mobileclip_deploy.network.model.variants import Preprocess


def spec_of(size: int = 64, resize: str = "shorter_side", interpolation: str = "bilinear") -> Preprocess:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return Preprocess(size=size, resize=resize, interpolation=interpolation, mean=mean, std=std)


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(width * 7919 + height).integers(0, 256, shape, dtype=np.uint8)


def torchvision_reference(image: Image.Image, spec: Preprocess) -> torch.Tensor:
    size = (spec.size, spec.size) if spec.resize == "squash" else spec.size
    resize = transforms.Resize(size, transforms.InterpolationMode(spec.interpolation), antialias=True)
    return transforms.Compose([resize, transforms.CenterCrop(spec.size), transforms.ToTensor()])(image)


specs = st.builds(
    spec_of,
    size=st.sampled_from([1, 31, 64, 224, 256]),
    resize=st.sampled_from(["shorter_side", "squash"]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), specs)
def test_equals_torchvision_bit_for_bit(width: int, height: int, spec: Preprocess) -> None:
    image = Image.fromarray(noise(width, height))
    result = preprocess(image, spec)
    assert result.shape == (3, spec.size, spec.size)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.array_equal(result, torchvision_reference(image, spec))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 300), (300, 1), (7, 2000), (2000, 7), (256, 256), (256, 341), (341, 256), (257, 256), (1001, 333)],
)
def test_equals_torchvision_at_the_edges(size: tuple[int, int], interpolation: str) -> None:
    image = Image.fromarray(noise(*size))
    for spec in (spec_of(256, interpolation=interpolation), spec_of(256, "squash", interpolation)):
        assert np.array_equal(preprocess(image, spec), torchvision_reference(image, spec))


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([31, 64, 224, 256, 336]))
def test_no_side_is_shorter_than_the_crop(width: int, height: int, size: int) -> None:
    assert min(module.resized_size(width, height, spec_of(size))) == size


def test_normalize_equals_torchvision() -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalize(x, spec_of()), transforms.Normalize(spec_of().mean, spec_of().std)(x))


def test_a_batch_holds_every_image_in_order(tmp_path: Path) -> None:
    paths = []
    for index, size in enumerate([(80, 64), (64, 99)]):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(noise(*size)).save(paths[-1])
    batch = load_batch(paths, spec_of())
    assert batch.shape == (2, 3, 64, 64)
    assert all(
        np.array_equal(row, preprocess(load_image(path), spec_of())) for row, path in zip(batch, paths, strict=True)
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff", "ppm", "jp2"])
def test_files_of_every_format_read_as_pillow_reads_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(noise(40, 30)).save(path)
    image = load_image(path)
    assert image.mode == "RGB"
    assert np.array_equal(image, Image.open(path).convert("RGB"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(40, 24)).save(path, exif=exif)
    image = load_image(path)
    assert image.size == ((24, 40) if orientation >= 5 else (40, 24))
    assert np.array_equal(image, ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert np.array_equal(image, ImageOps.exif_transpose(image))


def test_damaged_exif_does_not_hide_the_photograph(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise(40, 24)).save(path, exif=b"Exif\x00\x00not a header")
    assert load_image(path).size == (40, 24)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "P"])
def test_opaque_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tiff"
    image = Image.fromarray(noise(20, 10))
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    image.save(path)
    assert np.array_equal(load_image(path), image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    rgba = Image.fromarray(noise(20, 10, 4)).convert(mode)
    rgba.save(path)
    colour, alpha = np.asarray(rgba.convert("RGB"), float), np.asarray(rgba.getchannel("A"), float)[..., None] / 255
    expected = colour * alpha + 255 * (1 - alpha)
    assert np.abs(np.asarray(load_image(path), float) - expected).max() <= 1


def test_a_palette_entry_that_is_transparent_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putdata([0, 1])
    image.save(path, transparency=1)
    assert load_image(path).tobytes() == bytes([10, 20, 30, 255, 255, 255])


@pytest.mark.parametrize(
    ("mode", "pixels", "key", "expected"),
    [
        ("RGB", [(1, 2, 3), (9, 9, 9)], (9, 9, 9), [1, 2, 3]),
        ("L", [7, 90], 90, [7] * 3),
        ("I;16", [257 * 7, 4000], 4000, [7] * 3),
    ],
)
def test_a_colour_key_becomes_white(tmp_path: Path, mode: str, pixels: list, key: object, expected: list[int]) -> None:
    path = tmp_path / "image.png"
    image = Image.new(mode, (2, 1))
    for x, value in enumerate(pixels):
        image.putpixel((x, 0), value)
    image.save(path, transparency=key)
    assert load_image(path).tobytes() == bytes([*expected, 255, 255, 255])


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(path)
    assert np.asarray(load_image(path))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_big_endian_16_bit_grey(tmp_path: Path) -> None:
    path = tmp_path / "image.tiff"
    header = [(256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1)]  # width, height, bits, raw, grey
    entries = [*header, (273, 4, 200), (278, 3, 1), (279, 4, 4)]  # strip's offset, rows, bytes
    ifd = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    head = b"MM\x00*" + struct.pack(">IH", 8, len(entries)) + ifd + bytes(4)
    path.write_bytes(head.ljust(200, b"\0") + struct.pack(">HH", 65535, 257))
    assert np.asarray(load_image(path))[0, :, 0].tolist() == [255, 1]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    assert load_image(path).getpixel((4, 4)) == (255, 0, 0)


def encoded(format: str, size: tuple[int, int] = (64, 64)) -> bytes:
    return saved(lambda stream: Image.fromarray(noise(*size)).save(stream, format))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff(value: np.generic) -> bytes:
    return saved(lambda stream: Image.fromarray(np.full((4, 4), value)).save(stream, "TIFF"))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "an empty file"),
    "text": (lambda: b"not an image at all\n", "not an image of a known format"),
    "postscript, which Pillow would hand to Ghostscript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "not an image of a known format",
    ),
    "only a signature": (lambda: b"\x89PNG\r\n\x1a\n", "not an image of a known format|cannot be decoded"),
    "bomb that Pillow warns about": (lambda: png_header(11_000, 10_000), "more than 100 megapixels"),
    "bomb that Pillow refuses": (lambda: png_header(60_000, 60_000), "more than 100 megapixels"),
    "float pixels": (lambda: tiff(np.float32(0)), "float pixels of unknown range"),
    "integer pixels of unknown range": (lambda: tiff(np.int32(70_000)), "integer pixels outside 0..65535"),
}
TRUNCATED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_whole_image_is_refused_in_one_line(
    tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, reason = REFUSED[case]
    refuse_in_one_line(tmp_path / "image.png", make(), reason)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", TRUNCATED)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_image_is_refused_in_one_line(
    tmp_path: Path, format: str, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = encoded(format)
    refuse_in_one_line(tmp_path / "image.png", whole[: int(len(whole) * kept)], "truncated, damaged|known format")
    assert capfd.readouterr() == ("", "")


def refuse_in_one_line(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(InvalidInput, match=reason) as caught:
        warnings.simplefilter("always")
        load_image(path)
    assert not seen
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded("PNG"))
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InvalidInput, match="megapixels"):
        load_image(path)


def test_a_jpeg_of_two_hundred_megapixels_is_decoded_at_half_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)  # of twice as many Pillow says "bomb"
    ramp = np.linspace(0, 255, 65 * 64, dtype=np.uint8).reshape(64, 65)
    upright, turned = Image.fromarray(ramp).convert("RGB"), Image.Exif()
    turned[0x0112] = 6  # a phone's photograph is stored on its side
    upright.save(tmp_path / "big.jpg", quality=95, exif=turned)
    whole = np.asarray(upright.rotate(-90, expand=True).reduce(2), dtype=float)
    for image in (load_image(tmp_path / "big.jpg"), decode_image((tmp_path / "big.jpg").read_bytes(), "big")):
        assert (image.size, image.mode) == ((32, 33), "RGB")
        assert np.abs(np.asarray(image, dtype=float) - whole).mean() < 4
    monkeypatch.setattr(module, "MAX_JPEG", 64 * 64)
    with pytest.raises(InvalidInput, match="megapixels"):
        load_image(tmp_path / "big.jpg")
    upright.save(tmp_path / "big.png")
    with pytest.raises(InvalidInput, match="megapixels"):
        load_image(tmp_path / "big.png")


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path / "missing.jpg", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "nul\0", "cannot be read"),
    ]:
        with pytest.raises(InvalidInput, match=reason):
            load_image(path)


def test_what_preprocess_cannot_do_is_refused() -> None:
    image = Image.fromarray(noise(80, 64))
    with pytest.raises(InvalidInput, match="mode L"):
        preprocess(image.convert("L"), spec_of())


def test_an_image_that_would_grow_without_bounds_and_an_empty_batch_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("RGB", (30_000, 1)).save(path)
    with pytest.raises(InvalidInput, match=r"line\.png: 30000 x 1 pixels: too elongated"):
        load_batch([path], spec_of())
    with pytest.raises(InvalidInput, match="no images"):
        load_batch([], spec_of())


def test_a_grey_array_is_an_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 70)).astype(np.uint8)
    found = mcd.preprocess(grey, "nano")
    assert np.array_equal(found, mcd.preprocess(np.stack([grey] * 3, axis=2), "nano"))
    assert 0 <= found.min() < found.max() <= 1


def test_pictures_decoded_side_by_side_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("PNG", (10, 10))
    monkeypatch.setattr(module, "_room", module._Room(250))
    inside, most, together = 0, 0, threading.Barrier(2)

    def read(number: int) -> None:
        nonlocal inside, most
        with module.decoded(content, str(number)):
            inside += 1
            most = max(most, inside)
            together.wait(20)  # two at once, or nobody goes on
            inside -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))
    assert (inside, most) == (0, 2)


def test_a_picture_that_cannot_be_decoded_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded("PNG", (10, 10))
    monkeypatch.setattr(module, "_room", module._Room(100))
    for content in (whole[:60], whole):
        with contextlib.suppress(InvalidInput):
            decode_image(content, "a.png")
    assert module._room._left == 100
