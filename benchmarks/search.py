"""How long an exact search takes beside NumKong's and USearch's own over the same bytes, in turns.

    python benchmarks/search.py [--rounds 30]

Prints a row per size: CPU time of `Index.search` for 20 matches, as a ratio of each library's, with the 95% interval of
the median ratio. NumKong gives scores alone; USearch's exact search gives the nearest 20. The last column is of our own
search where NumKong is not installed.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numkong
import numpy as np
from measuring import cells, in_turns, random_index
from usearch.index import MetricKind  # type: ignore[attr-defined]
from usearch.index import search as usearch_exact

from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.scoring import Query

SIZES = ((300_000, 512), (1_000_000, 64))
TOP = 20


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
            times = compared(random_index(Path(folder) / "a.mcdx", count, dimension), rounds)
        ours = np.asarray(times["ours"])
        told = [interval(ours / np.asarray(times[name])) for name in ("numkong", "usearch", "without")]
        ratios = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in told]
        print(cells([f"{count:,}", str(dimension), f"{np.median(ours):.1f}", *ratios]))


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
    return in_turns(ways, rounds, 1)


if __name__ == "__main__":
    main()
