"""Writers of an index: created at once, or appended to by one writer at a time. A kill leaves the last commit."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import replacing
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.staging import lock_file
from mobileclip_deploy.base.files.writers import busy
from mobileclip_deploy.errors import DiskFull, InvalidInput, no_room, reraising
from mobileclip_deploy.search.index import Index, Segment
from mobileclip_deploy.search.index_file import Header, Slot, gone_block, rows_block

AT_ONCE = 1 << 14
"""Maximum rows per block: with 512 int8 elements each they take 8 MB."""
MOST_ID = 1 << 16
IndexRows = tuple[Sequence[str], Sequence[int], Floats]
"""Ids, stamps (which change with the file of a row; 0 if changes are not tracked) and vectors [n, D] float32 of length
1."""


class IndexWriter:
    """Writer that adds and removes rows. Readers see all changes at once after `commit`; without `commit` they see
    none.

    Attributes:
        clipped: number of int8 components that the scale clipped, of the rows that this writer added.
    """

    def __init__(self, path: Path, stream: BinaryIO, header: Header, slot: Slot, rows: int) -> None:
        self.path, self.header = path, header
        self._stream, self._slot, self._rows = stream, slot, rows
        self.clipped = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[tuple[IndexWriter, Index]]:
        """Yields a writer of an existing index, and the index as it is.

        Raises:
            UsageError: another process writes the index.
            InvalidInput: the file is not an index, or damaged.
        """
        with _locked(path) as stream:
            with reraising(f"{path} cannot be written", OSError):
                _cut(stream, Index(path).slot.end)  # rows of a writer that was killed
            index = Index(path)
            writer = cls(path, stream, index.header, index.slot, index.rows)
            try:
                yield writer, index
            except BaseException as error:
                # Windows cuts no file that is mapped: there the next writer does.
                with contextlib.suppress(OSError) if sys.platform == "win32" else contextlib.nullcontext():
                    _cut(stream, index.slot.end)
                if no_room(error) and not isinstance(error, DiskFull):
                    raise DiskFull(str(path)) from error
                raise

    def add(self, ids: Sequence[str], stamps: Sequence[int], vectors: Floats) -> None:
        """Appends rows.

        Raises:
            InvalidInput: a vector is not of length 1 or has another dimension, or an id is too long.
        """
        store = self.header.store
        if vectors.shape != (len(ids), store.dimension):
            raise InvalidInput(f"vectors {list(vectors.shape)} do not fit an index of dimension {store.dimension}")
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for name, length in zip(ids, lengths, strict=True):
            if not abs(length - 1) < 1e-3:
                raise InvalidInput(f"the embedding of {name} is of length {length:.4g}, not 1")
            if len(name.encode("utf-8", "surrogateescape")) > MOST_ID:
                raise InvalidInput(f"{name[:80]}... is a name of more than {MOST_ID:,} bytes")
        for start in range(0, len(ids), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            arrays, clipped = store.encode(vectors[part])
            self._append(rows_block(ids[part], np.asarray(stamps[part], np.uint64), arrays))
            self.clipped += clipped
        self._rows += len(ids)

    def copy(self, pieces: Sequence[tuple[Segment, npt.NDArray[np.int64]]]) -> None:
        """Appends rows of segments, as they are stored, in one block."""
        joined = {
            name: np.concatenate([segment.arrays[name][numbers] for segment, numbers in pieces])
            for name in (*self.header.store.arrays, "stamps")
        }
        ids = [segment.id(int(number)) for segment, numbers in pieces for number in numbers]
        self._append(rows_block(ids, joined.pop("stamps"), joined))
        self._rows += len(ids)

    def remove(self, rows: Iterable[int]) -> None:
        """Marks rows as removed, by their indices; their bytes stay until `compact`."""
        numbers = np.asarray(sorted(set(rows)), np.uint64)
        assert not numbers.size or int(numbers[-1]) < self._rows
        if numbers.size:
            self._append(gone_block(numbers))

    def commit(self) -> None:
        """Shows all additions and removals to readers. They are on the disk before the slot that names them is
        written."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._slot = Slot(self._slot.sequence + 1, self._stream.seek(0, os.SEEK_END))
        self._slot.write(self._stream)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _append(self, block: bytes) -> None:
        self._stream.seek(0, os.SEEK_END)
        left = memoryview(block)
        while left:  # an unbuffered file may write only a part
            left = left[self._stream.write(left) :]


def create(path: Path, header: Header, parts: Iterable[IndexRows]) -> int:
    """Writes a new index, whole or not at all, and replaces an existing file. Returns the number of clipped int8
    components.

    Raises:
        UsageError: another process appends to the existing index.
        InvalidInput: see `IndexWriter.add`.
        DiskFull: there is no room.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32" and path.is_file():
            with contextlib.suppress(InvalidInput):  # a file that cannot be written is replaced all the same
                stack.enter_context(_locked(path))
        partial = stack.enter_context(replacing(path))
        stream = stack.enter_context(partial.open("w+b"))
        stream.write(header.to_bytes())
        writer = IndexWriter(path, stream, header, Slot(0, 0), 0)
        for rows in gathered(parts):
            writer.add(*rows)
        writer.commit()
    return writer.clipped


def compact(path: Path) -> int:
    """Rewrites an index without removed rows and in as few blocks as possible. Returns the number of rows that were
    dropped.

    Raises:
        UsageError: another process writes the index.
        InvalidInput: the file is not an index, or damaged.
        DiskFull: there is no room for both the new and the old file.
    """
    if sys.platform == "win32":  # Windows cannot replace an open file: the lock is released just before
        with replacing(path) as partial, _locked(path):
            return _write_compact(path, partial)
    else:
        with _locked(path), replacing(path) as partial:
            return _write_compact(path, partial)


def _write_compact(path: Path, partial: Path) -> int:
    index = Index(path)
    with partial.open("w+b") as stream:
        stream.write(index.header.to_bytes())
        writer = IndexWriter(path, stream, index.header, Slot(0, 0), 0)
        pieces: list[tuple[Segment, npt.NDArray[np.int64]]] = []
        for segment in index.segments:
            present = np.flatnonzero(~segment.gone)
            for part in (present[start : start + AT_ONCE] for start in range(0, len(present), AT_ONCE)):
                if pieces and sum(len(numbers) for _, numbers in pieces) + len(part) > AT_ONCE:
                    writer.copy(pieces)
                    pieces = []
                pieces.append((segment, part))
        if pieces:
            writer.copy(pieces)
        writer.commit()
    return index.rows - len(index)


def _cut(stream: BinaryIO, end: int) -> None:
    """Truncates rows that a writer added and did not commit."""
    if os.fstat(stream.fileno()).st_size > end:
        stream.truncate(end)


def gathered(parts: Iterable[IndexRows]) -> Iterator[IndexRows]:
    """Yields the same rows, merged up to the size of a block: a part of a few pictures would be a block of its own."""
    ids: list[str] = []
    stamps: list[int] = []
    vectors: list[Floats] = []
    for names, part_stamps, values in parts:
        if ids and len(ids) + len(names) > AT_ONCE:
            yield ids, stamps, np.concatenate(vectors)
            ids, stamps, vectors = [], [], []
        ids += names
        stamps += part_stamps
        vectors.append(values)
    if ids:
        yield ids, stamps, np.concatenate(vectors)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Opens the index for writing by this process alone; the system releases the lock when the process ends.

    Raises:
        UsageError: another process writes the index.
        InvalidInput: the file cannot be opened.
    """
    descriptor = None
    try:
        while descriptor is None:  # the file was compacted between opening and locking
            descriptor = lock_file(path)
    except BlockingIOError:
        raise busy(path) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
    # Unbuffered: on a full disk, the buffer would be written again after the file was truncated.
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        yield stream
