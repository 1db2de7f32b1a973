"""Times of an index that an app wrote one picture at a time: each row is a block.

    python benchmarks/small_blocks.py --language python,swift,js,java

100,000 rows of 512 numbers: CPU seconds of opening the file, of a search and of opening a writer, each the median of 3
runs after 3 that do not count. Writes benchmarks/results/small_blocks.json (languages that are left out stay) and the
table in docs/figures/benchmarks.md.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from clients_speed import LANGUAGES, TITLES, median_cpu_seconds, seconds
from measuring import ROOT, Figures, markdown, processor

ROWS, SIZE, RUNS = 100_000, 512, 3
KEPT = Figures("small_blocks")
WORKS = {"open": "open:", "search": "", "writer": "write:"}
NAMES = {"python": "Python", **TITLES}


def main() -> None:
    """Measures, writes the figures, and renews the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default=",".join(NAMES), help="with commas")
    parser.add_argument("--python", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.python:
        print(python_seconds(int(given.python[0]), given.python[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = written_one_by_one(Path(folder) / "blocks.mcdx")
        for name in given.language.split(","):
            command = LANGUAGES[name]() if name in LANGUAGES else [sys.executable, __file__, "--python"]
            took = {work: seconds([*command, str(RUNS), f"{prefix}{path}"]) for work, prefix in WORKS.items()}
            row = {"language": name, "processor": processor(), "seconds": took}
            print(row, file=sys.stderr, flush=True)
            rows = [row, *(other for other in KEPT.rows() if other["language"] != name)]
            KEPT.write_rows(sorted(rows, key=lambda row: list(NAMES).index(row["language"])))
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "page.py")], check=True)


def written_one_by_one(path: Path) -> Path:
    """Creates an index of random unit vectors, each in a block of its own."""
    import numpy as np

    from mobileclip_deploy.search.index_file import Description, Header
    from mobileclip_deploy.search.storage import Store
    from mobileclip_deploy.search.writing import IndexWriter, create

    header = Header(Store("int8", SIZE, 6 / SIZE**0.5 / 127), Description(embedding_space="random", variant="random"))
    create(path, header, ())
    vectors = np.random.default_rng(0).standard_normal((ROWS, SIZE), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with IndexWriter.open(path) as (writer, _):
        for row in range(ROWS):
            writer.add([f"photos/IMG_{row:07d}.HEIC"], [0], vectors[row : row + 1])
        writer.commit()
    return path


def python_seconds(runs: int, work: str) -> float:
    """CPU seconds of the median of some runs, after as many that do not count."""
    import numpy as np

    from mobileclip_deploy.search.index import Index
    from mobileclip_deploy.search.writing import IndexWriter

    how, _, path = work.rpartition(":")
    index = None if how else Index(Path(path))
    query = np.random.default_rng(2).standard_normal(SIZE).astype(np.float32)

    def once() -> None:
        if index is not None:
            index.search(query, 20)
        elif how == "open":
            Index(Path(path))
        else:
            with IndexWriter.open(Path(path)):
                pass

    return median_cpu_seconds(once, runs)


def section() -> str:
    """Part of docs/figures/benchmarks.md; empty where nothing was measured."""
    rows: list[dict[str, Any]] = KEPT.rows()
    if not rows:
        return ""
    cells = [[NAMES[row["language"]], *(f"{1e3 * row['seconds'][work]:,.1f}" for work in WORKS)] for row in rows]
    lines = [
        "### One picture at a time",
        "",
        f"CPU time with an index of {ROWS:,} rows of {SIZE} int8 numbers, each row a block, as an app writes it that "
        "commits each picture: to open it, to search it, and to open a writer. `compact` makes one block of them.",
        "",
        *markdown(("", ">open, ms", ">search, ms", ">writer, ms"), cells),
        "",
        f"{', '.join(sorted({row['processor'] for row in rows}))}; `python benchmarks/small_blocks.py`.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
