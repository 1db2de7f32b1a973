"""An index opened to be read: mapped into memory, searched exactly."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import StrPath, open_regular
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, UsageError, worded
from mobileclip_deploy.search.index_file import (
    DESCRIPTION,
    GONE,
    MOST_DESCRIPTION,
    Block,
    Description,
    joined_arrays,
    read_blocks,
    read_header,
    read_slot,
)
from mobileclip_deploy.search.scoring import Best, Query, rescored, scored
from mobileclip_deploy.search.storage import BITS, Store

RESCORED = 50
"""Rows that sign bits propose at least, to be scored again by their integers; five times `top` where that is more."""


SMALL, JOINED = 1 << 10, 1 << 14
"""Blocks of fewer rows are joined in memory, up to that many rows: an app may commit each picture alone."""


@dataclass(frozen=True)
class Match:
    """A row that a query found: its id, its cosine with the query, and its place in the index."""

    id: str
    score: float
    row: int


@dataclass(frozen=True)
class Segment:
    """The rows of one block, or of small ones in sequence: `first` is the first row's number, `gone` says which are
    removed (bool [n])."""

    first: int
    arrays: dict[str, npt.NDArray[Any]]
    gone: npt.NDArray[np.bool_]

    def id(self, number: int) -> str:
        """The id of its row `number`, counted from 0."""
        ends = self.arrays["ends"]
        start = 0 if number == 0 else int(ends[number - 1])
        return self.arrays["ids"][start : int(ends[number])].tobytes().decode("utf-8", "surrogateescape")


class Index:
    """What an index holds, as it was committed when this was opened: a writer that comes later changes nothing here.

    Args:
        path: of the file.
        check: read every byte and compare the checksum of each block. False opens a large index at once, and finds
            wrong matches in one that is damaged (docs/search.md).

    Attributes:
        path: of the file.
        store: how its vectors are stored.
        description: of what they are.
        rows: of all blocks, those that are removed included.

    Raises:
        InvalidInput: it is no index, damaged, or of a newer version.
    """

    def __init__(self, path: StrPath, *, check: bool = True) -> None:
        self.path = Path(path)
        where = str(self.path)
        if self.path.is_dir():
            raise InvalidInput(f"{where} is a folder, not an index; give a file that `embed` wrote, such as NAME.mcdx")
        try:
            with open_regular(self.path) as stream:
                head = stream.read(DESCRIPTION + MOST_DESCRIPTION)
                header = read_header(where, head)
                data = np.memmap(stream, np.uint8, "r")
        except OSError as error:
            told = f"{where} cannot be read: {worded(error)}"
            raise InvalidInput(f"{told}; give a file that `embed` wrote, such as NAME.mcdx") from None
        self.header = header
        self.store: Store = header.store
        self.description: Description = header.description
        self.slot = read_slot(where, head)
        self._data = data
        self.blocks = read_blocks(where, data, header, self.slot)
        if check:
            self.check()
        self.segments = _segments(where, data, self.blocks, header.store)
        self.rows = sum(len(one.gone) for one in self.segments)
        self._count = self.rows - sum(int(one.gone.sum()) for one in self.segments)

    def check(self) -> None:
        """Reads every byte and compares the checksum of each block.

        Raises:
            InvalidInput: a block is not as it was written.
        """
        for block in self.blocks:
            if zlib.crc32(self._data[block.start : block.end].data) != block.checksum:
                raise InvalidInput(f"{self.path} is damaged (the block before byte {block.end}); write it again")

    def __len__(self) -> int:
        """Rows that are not removed."""
        return self._count

    def id(self, row: int) -> str:
        """The id of a row."""
        segment = self._segment(row)
        return segment.id(row - segment.first)

    def _segment(self, row: int) -> Segment:
        return self.segments[bisect_right(self.segments, row, key=lambda segment: segment.first) - 1]

    def __iter__(self) -> Iterator[tuple[int, str, int]]:
        """Row, id and stamp of each row that is not removed, in order."""
        for segment in self.segments:
            stamps = segment.arrays["stamps"]
            for number in np.flatnonzero(~segment.gone):
                yield segment.first + int(number), segment.id(int(number)), int(stamps[number])

    def parts(self) -> Iterator[tuple[list[str], list[int], Floats]]:
        """Ids, stamps and vectors [n, D] of rows that are not removed, some thousands at a time."""
        for segment in self.segments:
            kept = np.flatnonzero(~segment.gone)
            for start in range(0, len(kept), 4096):
                part = kept[start : start + 4096]
                arrays = {name: segment.arrays[name][part] for name in self.store.arrays}
                ids = [segment.id(int(number)) for number in part]
                yield ids, segment.arrays["stamps"][part].tolist(), self.store.decode(arrays)

    def vectors(self) -> Iterator[tuple[list[str], Floats]]:
        """As `parts`, without stamps."""
        return ((ids, vectors) for ids, _, vectors in self.parts())

    def search(self, queries: Floats, top: int = 20) -> list[list[Match]]:
        """The rows with the largest cosines, the largest first; of equal ones the one that was added first.

        Args:
            queries: float32 [Q, D] or [D], of any length: they are scaled to 1.
            top: how many for each; fewer where the index holds fewer.

        Raises:
            UsageError: `top` is below 1.
            InvalidInput: a query has another dimension, holds NaN or infinite numbers, or nothing but zeros.
        """
        if top < 1:
            raise UsageError(f"top={top}: ask for at least 1")
        return [self._found(Query.of(row), top) for row in self._unit(np.atleast_2d(queries))]

    def _unit(self, queries: Floats) -> Floats:
        if queries.ndim != 2 or queries.shape[1] != self.store.dimension:
            raise InvalidInput(f"queries {list(queries.shape)} do not fit an index of dimension {self.store.dimension}")
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise InvalidInput("a query holds NaN or infinite numbers, or nothing but zeros")
        return (queries / lengths).astype(np.float32)

    def _found(self, query: Query, top: int) -> list[Match]:
        kind = next(iter(self.store.arrays))
        best = Best(max(RESCORED, 5 * top) if self.store.name == "bits" else top)
        for segment in self.segments:
            for start, scores in scored(kind, segment.arrays[kind], query, self.store):
                if kind.startswith("float") and not np.isfinite(scores).all():
                    raise InvalidInput(f"{self.path} holds embeddings that are not finite; write it again with `embed`")
                gone = segment.gone[start : start + len(scores)]
                if gone.any():
                    scores = np.where(gone, -np.inf, scores)
                best.add(segment.first + start, scores)
        if self.store.name == BITS[0]:
            best, kind = self._again(best, query, top), "int8"
        factor = query.factor(kind, self.store)
        ranked = zip(best.rows, best.scores, strict=True)
        return [Match(self.id(int(row)), float(score) * factor, int(row)) for row, score in ranked]

    def _again(self, proposed: Best, query: Query, top: int) -> Best:
        """The best of what sign bits proposed, by their integers."""
        best = Best(top)
        for row in np.sort(proposed.rows):
            segment = self._segment(int(row))
            best.add(int(row), rescored(segment.arrays["int8"], np.asarray([row - segment.first]), query))
        return best


def _segments(where: str, data: npt.NDArray[np.uint8], blocks: Sequence[Block], store: Store) -> list[Segment]:
    """Blocks of rows with the marks of later blocks upon them. Small blocks are joined.

    Raises:
        InvalidInput: ids do not fit their block, or a mark names no row.
    """
    gone = np.zeros(sum(block.rows for block in blocks if block.kind != GONE), np.bool_)
    groups: list[list[Block]] = []
    rows = joined = 0
    for block in blocks:
        if block.kind == GONE:
            marks = data[block.start : block.start + 8 * block.rows].view("<u8")
            if block.rows and int(marks.max()) >= rows:
                raise InvalidInput(f"{where} is damaged (it removes rows that are not there); write it again")
            gone[marks.astype(np.int64)] = True
            continue
        if not groups or max(block.rows, groups[-1][-1].rows) >= SMALL or joined + block.rows > JOINED:
            groups.append([])
            joined = 0
        groups[-1].append(block)
        joined += block.rows
        rows += block.rows
    segments: list[Segment] = []
    first = 0
    for group in groups:
        arrays = joined_arrays(group, data, store)
        arrays["ends"] = _checked_ends(where, group, arrays["ends"])
        count = len(arrays["ends"])
        segments.append(Segment(first, arrays, gone[first : first + count]))
        first += count
    return segments


def _checked_ends(where: str, blocks: Sequence[Block], ends: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Where each id ends in the joined ids of the blocks.

    Raises:
        InvalidInput: ids do not fit their block.
    """
    sizes = np.array([block.id_bytes for block in blocks], np.uint64)
    counts = np.array([block.rows for block in blocks], np.int64)
    last = (np.cumsum(counts) - 1)[counts > 0]
    fits = bool(np.all(ends <= np.repeat(sizes, counts)) and np.array_equal(ends[last], sizes[counts > 0]))
    if len(blocks) > 1:
        ends = ends + np.repeat(np.cumsum(sizes) - sizes, counts)
    if not fits or np.any(ends[1:] < ends[:-1]):
        raise InvalidInput(f"{where} is damaged (ids do not fit their block); write it again")
    return ends
