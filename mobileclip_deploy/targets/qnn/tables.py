"""Word tables in a context binary: the compiler stores their rows unchanged, one after the other."""

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.targets.graph import Constant, Graph

SAMPLED = 64
"""Number of rows with which the position of a damaged table is located."""


def looked_up(graph: Graph) -> Iterator[tuple[str, Array]]:
    """Yields the tables of a graph with their names, as the compiler writes them: float16 or uint8 rows [words, width],
    and float16 scales [words, 1]."""
    for node in graph.nodes:
        value = dict(node.inputs).get("data") if node.type == "Gather" else None
        producer = graph.producer(value)
        if producer is not None and producer.type == "DequantizeLinear":
            value = producer.inputs[0][1]
        if isinstance(value, Constant) and value.values.ndim == 2:
            kind = value.values.dtype
            if kind == np.int8:
                yield value.name, (value.values.astype(np.int16) + 128).astype(np.uint8)
            elif kind.kind == "f":
                yield value.name, value.values.astype(np.float16)
            elif kind == np.uint8:
                yield value.name, value.values


def other_rows(data: bytes, rows: Array) -> str | None:
    """Describes how a table is missing from a binary, in words to be followed by `of NAME`. None if the binary has
    it."""
    if data.find(rows.tobytes()) >= 0:
        return None
    begins = _begins(data, rows)
    if begins is None:
        return "contains no row of the table"
    size = rows[0].nbytes
    stored_rows = (data[begins + size * index : begins + size * (index + 1)] for index in range(len(rows)))
    wrong = [index for index, row in enumerate(stored_rows) if row != rows[index].tobytes()]
    shown = ", ".join(map(str, wrong[:3])) + (", ..." if len(wrong) > 3 else "")
    return f"holds {len(wrong):,} rows ({shown}) that differ"


def _begins(data: bytes, rows: Array) -> int | None:
    """Returns the offset of the table that most of the sampled rows agree on. None if no row is found."""
    votes: dict[int, int] = {}
    for index in np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(int)):
        offset = data.find(rows[index].tobytes())
        if offset >= 0 and rows[index].any():
            begins = offset - rows[0].nbytes * int(index)
            votes[begins] = votes.get(begins, 0) + 1
    return max(votes, key=lambda begins: votes[begins]) if votes else None
