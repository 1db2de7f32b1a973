"""What a client makes of decoded pictures before it resizes them: clients/vectors/pictures.json."""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobileclip_deploy.network.model.preprocessing import decode_image

Bytes = npt.NDArray[np.uint8]

LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Kr and Kb of ITU-R BT.601 and BT.709."""
RANGES = {"full": (0, 255.0, 255.0), "video": (16, 219.0, 224.0)}
"""The luma of black, and how many steps luma and chroma have."""
SAYS = {
    "rgb": "as it is",
    "rgba": "on white, as Pillow's alpha_composite",
    "bgra": "red and blue exchanged, then as rgba",
    "grey": "all three channels alike",
    "grey16": "two bytes, the lower first; (value * 255 + 32767) // 65535",
    "rgb16": "two bytes a channel, the lower first; the higher is taken",
    "cmyk": "Pillow's convert: no profile",
    "ycbcr": "integers of 16 bits by the matrix and the range; `full` with bt601 is libjpeg's",
    "nv12": "as ycbcr; a plane of luma, then pairs of Cb and Cr, each for two by two pixels",
}
P3 = b"an embedded profile, Display P3 say"


def noise(count: int, seed: int) -> Bytes:
    """Bytes of a generator that every language writes in a line: x becomes (1664525 x + 1013904223) mod 2^32, and gives
    its highest byte; it begins at `seed`."""
    # Many steps at once: x after k steps is a[k] x + c[k].
    step = 1 << 12
    factors, terms = np.ones(step + 1, np.uint64), np.zeros(step + 1, np.uint64)
    for index in range(step):
        factors[index + 1] = factors[index] * 1664525 % 2**32
        terms[index + 1] = (terms[index] * 1664525 + 1013904223) % 2**32
    found, state = np.empty(-(-count // step) * step, np.uint8), np.uint64(seed)
    for start in range(0, count, step):
        states = (factors[1:] * state + terms[1:]) & np.uint64(2**32 - 1)
        found[start : start + step] = states >> np.uint64(24)
        state = states[-1]
    return found[:count]


def digests(content: bytes) -> dict[str, Any]:
    """SHA-256, and CRC-32 for languages that bring no other."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "crc32": zlib.crc32(content)}


def picture_vectors() -> dict[str, Any]:
    """Pictures of noise as decoders and cameras give them, and digests of the upright RGB bytes [H, W, 3]; and what
    is no picture."""
    return {
        "schema_version": 1,
        "layouts": SAYS,
        "coefficients": {f"{matrix} {span}": list(_steps(matrix, span)) for matrix in LUMA for span in RANGES},
        "cases": list(_cases()),
        "refused": list(_refused()),
    }


def _cases() -> Iterator[dict[str, Any]]:
    for orientation in range(1, 9):
        yield _case({"width": 5, "height": 3, "orientation": orientation}, 10 + orientation)
    yield _case({"width": 5, "height": 3, "orientation": 9}, 19) | {"what": "no orientation of EXIF's: as stored"}
    yield _case({"width": 7, "height": 4, "profile": True}, 20) | {"what": "Display P3: its profile is ignored"}
    for number, layout in enumerate(("rgba", "bgra", "grey", "grey16", "rgb16", "cmyk")):
        yield _case({"layout": layout, "width": 31, "height": 17}, 30 + number)
    yield _case({"layout": "bgra", "width": 6, "height": 9, "orientation": 6}, 40) | {"what": "a phone held upright"}
    for number, layout in enumerate(("ycbcr", "nv12")):
        for place, (matrix, span) in enumerate((matrix, span) for matrix in LUMA for span in RANGES):
            told = {"layout": layout, "width": 15, "height": 11, "matrix": matrix, "range": span}
            yield _case(told, 50 + 10 * number + place)


def _case(told: dict[str, Any], seed: int) -> dict[str, Any]:
    layout, width, height = told.get("layout", "rgb"), told["width"], told["height"]
    stored = noise(_size(layout, width, height), seed)
    kept = {key: value for key, value in told.items() if key != "profile"}
    return (
        {"what": SAYS[layout], "layout": layout, "orientation": 1}
        | kept
        | {"seed": seed}
        | digests(rgb_of(stored, told).tobytes())
    )


def _size(layout: str, width: int, height: int) -> int:
    if layout == "nv12":
        return width * height + 2 * (-(-width // 2) * -(-height // 2))
    pixel = {"rgba": 4, "bgra": 4, "grey": 1, "grey16": 2, "rgb16": 6, "cmyk": 4}.get(layout, 3)
    return pixel * width * height


def rgb_of(stored: Bytes, told: dict[str, Any]) -> Bytes:
    """Upright RGB [H, W, 3], by Pillow wherever it has such pictures: through the very function that reads files."""
    layout, shape = told.get("layout", "rgb"), (told["height"], told["width"])
    if layout in ("ycbcr", "nv12"):
        picture = Image.fromarray(_from_ycbcr(stored, told))
    elif layout == "grey16":
        picture = Image.fromarray(stored.view("<u2").reshape(shape))
    elif layout == "cmyk":
        picture = Image.frombytes("CMYK", shape[::-1], stored.tobytes())
    elif layout == "rgb16":
        return np.asarray(decode_image(_png16(stored.view("<u2").reshape(*shape, 3)), "rgb16"))
    else:
        picture = Image.fromarray(_channels(stored, layout, shape))
    exif = Image.Exif()
    exif[0x0112] = told.get("orientation", 1)
    content = io.BytesIO()
    extra = {"icc_profile": P3} if told.get("profile") else {}
    picture.save(content, "TIFF" if layout == "cmyk" else "PNG", exif=exif, **extra)
    return np.asarray(decode_image(content.getvalue(), layout))


def _channels(stored: Bytes, layout: str, shape: tuple[int, int]) -> Bytes:
    if layout == "grey":
        return stored.reshape(shape)
    pixels = stored.reshape(*shape, -1)
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3]]) if layout == "bgra" else pixels


def _from_ycbcr(stored: Bytes, told: dict[str, Any]) -> Bytes:
    width, height = told["width"], told["height"]
    if told["layout"] == "nv12":
        luma = stored[: width * height].reshape(height, width)
        pairs = stored[width * height :].reshape(-(-height // 2), -(-width // 2), 2)
        chroma = pairs.repeat(2, 0).repeat(2, 1)[:height, :width]
    else:
        pixels = stored.reshape(height, width, 3)
        luma, chroma = pixels[..., 0], pixels[..., 1:]
    scale, red, green_blue, green_red, blue = _steps(told["matrix"], told["range"])
    y = scale * (luma.astype(np.int64) - RANGES[told["range"]][0])
    cb, cr = (chroma[..., place].astype(np.int64) - 128 for place in (0, 1))
    sums = np.stack([y + red * cr, y - green_blue * cb - green_red * cr, y + blue * cb], -1)
    return ((sums + (1 << 15)) >> 16).clip(0, 255).astype(np.uint8)


def _steps(matrix: str, span: str) -> tuple[int, int, int, int, int]:
    """What luma, Cr in red, Cb in green, Cr in green and Cb in blue count, times 65,536."""
    (kr, kb), (_, lumas, chromas) = LUMA[matrix], RANGES[span]
    kg = 1 - kr - kb
    if (matrix, span) == ("bt601", "full"):
        parts = (1.402, 0.34414, 0.71414, 1.772)  # as libjpeg rounds them (jdcolor.c)
    else:
        parts = (2 * (1 - kr), 2 * (1 - kb) * kb / kg, 2 * (1 - kr) * kr / kg, 2 * (1 - kb))
    red, green_blue, green_red, blue = (round(65536 * part * 255 / chromas) for part in parts)
    return round(65536 * 255 / lumas), red, green_blue, green_red, blue


def _png16(values: npt.NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _refused() -> Iterator[dict[str, Any]]:
    for what, width, height, count in (
        ("too few bytes", 5, 3, 44),
        ("too many bytes", 5, 3, 46),
        ("no width", 0, 3, 0),
        ("a negative height", 5, -3, 45),
    ):
        yield {"what": what, "code": "picture", "layout": "rgb", "width": width, "height": height, "bytes": count}
