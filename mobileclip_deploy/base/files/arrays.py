"""Arrays: names of their types, and a safe reader of .npy files from others."""

from __future__ import annotations

import io
import math
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
    with reraising(message, ValueError, EOFError, SyntaxError, RecursionError, MemoryError, into=Malformed):
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
