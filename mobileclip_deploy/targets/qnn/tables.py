"""Tables of words in a context binary: the compiler keeps their rows as they are, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.targets.graph import Constant, Graph

SAMPLED = 64
"""Rows that the place of a damaged table is looked for by."""


def looked_up(graph: Graph) -> Iterator[tuple[str, Array]]:
    """The tables of a graph by name: float16 or uint8 rows [words, width], and float16 scales [words, 1], as the
    compiler writes them."""
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
    """How a binary does not have a table, in words that `of NAME` follows; None where it has it."""
    if data.find(rows.tobytes()) >= 0:
        return None
    begins = _begins(data, rows)
    if begins is None:
        return "holds none of the rows"
    size = rows[0].nbytes
    found = (data[begins + size * number : begins + size * (number + 1)] for number in range(len(rows)))
    wrong = [number for number, row in enumerate(found) if row != rows[number].tobytes()]
    shown = ", ".join(map(str, wrong[:3])) + (", ..." if len(wrong) > 3 else "")
    return f"holds {len(wrong):,} rows ({shown}) that are not those"


def _begins(data: bytes, rows: Array) -> int | None:
    """Offset of the table that most of the sampled rows agree on."""
    votes: dict[int, int] = {}
    for number in np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(int)):
        place = data.find(rows[number].tobytes())
        if place >= 0 and rows[number].any():
            begins = place - rows[0].nbytes * int(number)
            votes[begins] = votes.get(begins, 0) + 1
    return max(votes, key=lambda begins: votes[begins]) if votes else None
