"""Members that are packed by gzip."""

from __future__ import annotations

import gzip
import io
import zlib

__all__ = ["gunzipped"]


def gunzipped(content: bytes, limit: int, what: str) -> bytes:
    """What was packed by gzip; of a bomb no more than the limit is unpacked.

    Raises:
        ValueError: it is damaged, or more than `limit` bytes; the text begins with `what` it is.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{what} is damaged ({error})") from error
    if len(unpacked) > limit:
        raise ValueError(f"{what} unpacks to more than {limit:,} bytes")
    return unpacked
