"""Arrays: names of their types, and a safe readers of .npy and .npz files from others."""

import io
import math
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import REASON, Malformed, reraising

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
NAMES = {"f": "floats", "iuf": "numbers"}


def plain_array(content: bytes, kinds: str) -> Array:
    """Reads the array of an .npy file.

    Args:
        kinds: accepted element types, by numpy's letters: a key of `NAMES`.

    Raises:
        ValueError: damaged, pickled objects, another type, or another size than in its header.
    """
    stream = io.BytesIO(content)
    message = f"not a plain array ({REASON})"
    # numpy parses a header as Python's own text.
    parsing = (SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
    with reraising(message, ValueError, EOFError, *parsing, into=Malformed):
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise Malformed("pickled objects, which are never run")
    # Checked before numpy allocates the size that the header claims.
    if dtype.kind not in kinds or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise Malformed(f"{dtype} {list(shape)} in {len(content):,} bytes, not an array of {NAMES[kinds]}")
    stream.seek(0)
    array: npt.NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def plain_arrays(content: bytes, kinds: str, limit: int) -> dict[str, Array]:
    """Reads the arrays of an .npz file by name, as `plain_array` does.

    Args:
        limit: most bytes of the unpacked arrays.

    Raises:
        ValueError: damaged, too large, or one of the arrays is not plain.
    """
    errors = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
    with (
        reraising(f"the npz is damaged ({REASON})", *errors, into=Malformed),
        zipfile.ZipFile(io.BytesIO(content)) as archive,
    ):
        if sum(entry.file_size for entry in archive.infolist()) > limit:
            raise Malformed(f"unpacks to more than {limit:,} bytes")
        contents = {entry.filename.removesuffix(".npy"): archive.read(entry) for entry in archive.infolist()}
    with reraising(f"the npz contains {REASON}", ValueError, into=Malformed):
        return {name: plain_array(value, kinds) for name, value in contents.items()}
