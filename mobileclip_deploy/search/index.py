"""An index opened for reading: mapped into memory, searched exactly."""

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import StrPath, open_regular
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, UsageError, readable_reason
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
from mobileclip_deploy.search.scoring import Query, TopRows, rescored, scored
from mobileclip_deploy.search.storage import BITS, Store

RESCORED = 50
"""Minimum number of rows that sign bits propose for re-ranking by int8 scores; five times `top` if that is more."""


SMALL, JOINED = 1 << 10, 1 << 14
"""Row limits: blocks of fewer than `SMALL` rows are joined in memory, up to `JOINED` rows. An app may commit each
picture alone."""


@dataclass(frozen=True)
class Match:
    """A row that a query found: its id, its cosine with the query, and its index in the file."""

    id: str
    score: float
    row: int


@dataclass(frozen=True)
class Segment:
    """Rows of one block, or of small ones in sequence. `first` is the index of the first row; `gone` marks removed rows
    (bool [n])."""

    first: int
    arrays: dict[str, npt.NDArray[Any]]
    gone: npt.NDArray[np.bool_]

    def id(self, number: int) -> str:
        """Returns the id of row `number` of the segment, counted from 0."""
        ends = self.arrays["ends"]
        start = 0 if number == 0 else int(ends[number - 1])
        return self.arrays["ids"][start : int(ends[number])].tobytes().decode("utf-8", "surrogateescape")


class Index:
    """Content of an index as it was committed when it was opened. Later writers change nothing here.

    Args:
        path: of the file.
        check: read every byte and compare the checksum of each block. False opens a large index at once, but a damaged
            one then gives wrong matches (docs/search.md).

    Attributes:
        path: of the file.
        store: storage format of its vectors.
        description: variant, tower and embedding space of its vectors.
        rows: number of rows in all blocks, removed ones included.

    Raises:
        InvalidInput: the file is not an index, damaged, or of a newer version.
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
            problem = f"{where} cannot be read: {readable_reason(error)}"
            raise InvalidInput(f"{problem}; give a file that `embed` wrote, such as NAME.mcdx") from None
        self.header = header
        self.store: Store = header.store
        self.description: Description = header.description
        self.slot = read_slot(where, head)
        self._data = data
        self.blocks = read_blocks(where, data, header, self.slot)
        if check:
            self.check()
        self.segments = _segments(where, data, self.blocks, header.store)
        self.rows = sum(len(segment.gone) for segment in self.segments)
        self._count = self.rows - sum(int(segment.gone.sum()) for segment in self.segments)

    def check(self) -> None:
        """Reads every byte and compares the checksum of each block.

        Raises:
            InvalidInput: a block has another checksum.
        """
        for block in self.blocks:
            if zlib.crc32(self._data[block.start : block.end].data) != block.checksum:
                raise InvalidInput(f"{self.path} is damaged (the block before byte {block.end}); write it again")

    def __len__(self) -> int:
        """Returns the number of rows that are not removed."""
        return self._count

    @property
    def ids(self) -> list[str]:
        """Ids of the rows that are not removed, in order."""
        return [*self._rows_by_id]

    @cached_property
    def _rows_by_id(self) -> dict[str, int]:
        return {name: row for row, name, _ in self}

    def row(self, name: str) -> int | None:
        """Returns the row of an id; None if there is none, or it is removed."""
        return self._rows_by_id.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._rows_by_id

    def id(self, row: int) -> str:
        """Returns the id of a row.

        Raises:
            UsageError: there is no such row.
        """
        segment = self._segment(row)
        return segment.id(row - segment.first)

    def stamp(self, row: int) -> int:
        """Returns the stamp of a row; 0 if it has none.

        Raises:
            UsageError: there is no such row.
        """
        segment = self._segment(row)
        return int(segment.arrays["stamps"][row - segment.first])

    def _segment(self, row: int) -> Segment:
        if not 0 <= row < self.rows:
            raise UsageError(f"row {row}: {self.path} has rows 0 to {self.rows - 1}")
        return self.segments[bisect_right(self.segments, row, key=lambda segment: segment.first) - 1]

    def __iter__(self) -> Iterator[tuple[int, str, int]]:
        """Yields row, id and stamp of each row that is not removed, in order."""
        for segment in self.segments:
            stamps = segment.arrays["stamps"]
            for number in np.flatnonzero(~segment.gone):
                yield segment.first + int(number), segment.id(int(number)), int(stamps[number])

    def parts(self) -> Iterator[tuple[list[str], list[int], Floats]]:
        """Yields ids, stamps and vectors [n, D] of rows that are not removed, 4,096 rows or fewer at a time."""
        for segment in self.segments:
            present = np.flatnonzero(~segment.gone)
            for start in range(0, len(present), 4096):
                part = present[start : start + 4096]
                arrays = {name: segment.arrays[name][part] for name in self.store.arrays}
                ids = [segment.id(int(number)) for number in part]
                yield ids, segment.arrays["stamps"][part].tolist(), self.store.decode(arrays)

    def vectors(self) -> Iterator[tuple[list[str], Floats]]:
        """Yields the same as `parts`, without stamps."""
        return ((ids, vectors) for ids, _, vectors in self.parts())

    def search(self, queries: Floats, top: int = 20) -> list[list[Match]]:
        """Returns the rows with the largest cosines for each query, the largest first. Of equal ones, the row added
        first comes first.

        Args:
            queries: float32 [Q, D] or [D], of any length: they are scaled to 1.
            top: number of matches per query; fewer if the index contains fewer.

        Raises:
            UsageError: `top` is below 1.
            InvalidInput: a query has another dimension, contains NaN or infinity, or is all zeros.
        """
        if top < 1:
            raise UsageError(f"top={top}: give at least 1")
        return [self._found(Query.of(row), top) for row in self._unit(np.atleast_2d(queries))]

    def _unit(self, queries: Floats) -> Floats:
        if queries.ndim != 2 or queries.shape[1] != self.store.dimension:
            raise InvalidInput(f"queries {list(queries.shape)} do not fit an index of dimension {self.store.dimension}")
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise InvalidInput("a query has NaN or infinite elements, or only zeros")
        return (queries / lengths).astype(np.float32)

    def _found(self, query: Query, top: int) -> list[Match]:
        kind = next(iter(self.store.arrays))
        best = TopRows(max(RESCORED, 5 * top) if self.store.name == "bits" else top)
        for segment in self.segments:
            for start, scores in scored(kind, segment.arrays[kind], query, self.store):
                if kind.startswith("float") and not np.isfinite(scores).all():
                    raise InvalidInput(f"{self.path} has embeddings that are not finite; write it again with `embed`")
                gone = segment.gone[start : start + len(scores)]
                if gone.any():
                    scores = np.where(gone, -np.inf, scores)
                best.add(segment.first + start, scores)
        if self.store.name == BITS[0]:
            best, kind = self._again(best, query, top), "int8"
        factor = query.factor(kind, self.store)
        ranked = zip(best.rows, best.scores, strict=True)
        return [Match(self.id(int(row)), float(score) * factor, int(row)) for row, score in ranked]

    def _again(self, proposed: TopRows, query: Query, top: int) -> TopRows:
        """Re-ranks the candidates of the sign bits by their int8 scores."""
        best = TopRows(top)
        for row in np.sort(proposed.rows):
            segment = self._segment(int(row))
            best.add(int(row), rescored(segment.arrays["int8"], np.asarray([row - segment.first]), query))
        return best


def _segments(where: str, data: npt.NDArray[np.uint8], blocks: Sequence[Block], store: Store) -> list[Segment]:
    """Returns segments of rows, small blocks joined, with the removals of later blocks applied.

    Raises:
        InvalidInput: ids do not fit their block, or a removal names a row that does not exist.
    """
    gone = np.zeros(sum(block.rows for block in blocks if block.kind != GONE), np.bool_)
    groups: list[list[Block]] = []
    rows = joined = 0
    for block in blocks:
        if block.kind == GONE:
            marks = data[block.start : block.start + 8 * block.rows].view("<u8")
            if block.rows and int(marks.max()) >= rows:
                raise InvalidInput(f"{where} is damaged (it removes missing rows); write it again")
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
    """Returns the offset of the end of each id in the joined ids of the blocks.

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
