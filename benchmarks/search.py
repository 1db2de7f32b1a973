"""How long an exact search takes beside NumKong's and USearch's own over the same bytes, in turns.

    python benchmarks/search.py [--rounds 30]

Prints a row per size: CPU time of `Index.search` for 20 matches, as a ratio of each library's, with the 95% interval of
the median ratio. NumKong gives scores alone; USearch's exact search gives the nearest 20. The last column is of our own
search where NumKong is not installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numkong
import numpy as np
from usearch.index import MetricKind  # type: ignore[attr-defined]
from usearch.index import search as usearch_exact

from mobileclip_deploy.embeddings import Index, Store
from mobileclip_deploy.embeddings.index_file import Description, Header
from mobileclip_deploy.embeddings.scoring import Query
from mobileclip_deploy.embeddings.writing import create

SIZES = ((300_000, 512), (1_000_000, 64))
TOP = 20


def written(path: Path, count: int, dimension: int) -> Index:
    """An index of random unit vectors."""
    chance = np.random.default_rng(0)

    def parts() -> object:
        for start in range(0, count, 10_000):
            vectors = chance.standard_normal((10_000, dimension), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            yield [f"photos/IMG_{start + number:07d}.HEIC" for number in range(10_000)], [0] * 10_000, vectors

    store = Store("int8", dimension, 6 / np.sqrt(dimension) / 127)
    create(path, Header(store, Description(embedding_space="random", variant="random")), parts())  # type: ignore[arg-type]
    return Index(path)


def measured(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of each way, in turns in an order shuffled anew every round; the first round is not kept."""
    order, chance = list(ways), np.random.default_rng(1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        chance.shuffle(order)
        for name in order:
            before = time.process_time()
            ways[name]()
            if number:
                times[name].append(1e3 * (time.process_time() - before))
    return times


def interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """Median of ratios, and the 95% interval of it by resampling."""
    chance = np.random.default_rng(2)
    medians = np.median(chance.choice(ratios, (2000, len(ratios))), axis=1)
    return float(np.median(ratios)), *np.quantile(medians, (0.025, 0.975)).tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    print("| vectors | numbers | CPU ms | of NumKong's scores | of USearch's exact search | of ours by numpy alone |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count, dimension in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            times = compared(written(Path(folder) / "a.mcdx", count, dimension), rounds)
        ours = np.asarray(times["ours"])
        told = [interval(ours / np.asarray(times[name])) for name in ("numkong", "usearch", "without")]
        cells = " | ".join(f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in told)
        print(f"| {count:,} | {dimension} | {np.median(ours):.1f} | {cells} |")


def compared(index: Index, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of a search in an index, with NumKong and without, and of the libraries over the same bytes."""
    whole = np.concatenate([segment.arrays["int8"] for segment in index.segments])
    vector = np.random.default_rng(3).standard_normal((whole.shape[1],)).astype(np.float32)
    query = Query.of(vector / np.linalg.norm(vector))

    def without() -> None:
        with mock.patch.dict(sys.modules, {"numkong": None}):
            index.search(vector, TOP)

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: index.search(vector, TOP),
        "without": without,
        "numkong": lambda: numkong.dot(query.integers[None], whole),
        "usearch": lambda: usearch_exact(whole, query.integers, TOP, MetricKind.IP, exact=True),
    }
    return measured(ways, rounds)


if __name__ == "__main__":
    main()
