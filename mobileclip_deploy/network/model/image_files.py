"""Image files in folders, recognised by their endings, and their bytes."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.errors import InvalidInput, readable_reason

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Endings of image files in a folder, in lower case."""
OTHER_SUFFIXES = frozenset({".avif", ".heic", ".heif", ".jp2", ".jpx", ".jxl"})
"""Endings of pictures in formats that a folder is not searched for."""
IMAGE_BYTES = 1 << 29
"""Most bytes of a picture's file. Without compression, 100 megapixels take 300 or 400 MB."""


def image_files(folder: Path) -> list[Path]:
    """Returns the image files below a folder, by their endings, sorted; hidden ones are left out."""
    return sorted(walk_images(folder))


def walk_images(folder: Path, left_out: Counter[str] | None = None) -> Iterator[Path]:
    """Yields the files of `image_files` in the unsorted order of the system. Links to folders are not followed, and
    unreadable folders count as empty. `left_out` counts the `OTHER_SUFFIXES`."""
    left = [str(folder)]
    while left:
        try:
            entries = os.scandir(left.pop())
        except PermissionError:
            continue
        with entries:
            for entry in entries:
                path = Path(entry.path)
                suffix, hidden = path.suffix.lower(), path.name.startswith(".")
                if suffix in IMAGE_SUFFIXES and not hidden:
                    yield path
                elif left_out is not None and suffix in OTHER_SUFFIXES and not hidden:
                    left_out[suffix] += 1
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)


def image_bytes(path: Path) -> bytes:
    """Reads the bytes of an image file.

    Raises:
        InvalidInput: missing, not a file, unreadable, or larger than `IMAGE_BYTES`.
    """
    try:
        return read_regular(path, IMAGE_BYTES)
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: cannot be read ({readable_reason(error)})") from error
