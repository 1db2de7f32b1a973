"""What the clients' resize and search take, beside Pillow and the toolkit's own search on the same file.

    python benchmarks/clients_speed.py --language swift,js,java

4000 x 3000 pixels to 341 x 256, bilinear; the nearest 20 of 300,000 embeddings of 512 and of 64 numbers, int8, exact.
Every program is asked in turns with Python: `PROGRAM RUNS resize` and `PROGRAM RUNS INDEX` print the CPU seconds of the
median of their runs, after as many that do not count. Python runs with and without NumKong. Writes
benchmarks/results/clients.json (languages that are not asked for stay) and the table in docs/figures/benchmarks.md.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ROOT, Figures, markdown, processor, random_index, versions

KEPT = Figures("clients")
BUILT = ROOT / "build" / "clients"
ROWS, SIZES = 300_000, (512, 64)
RUNS, TURNS = 9, 5
GOALS = {"swift": (2, 3), "js": (5, 8), "java": (5, None)}
"""At most so many times Pillow's time, and the search's."""
TITLES = {"swift": "Swift", "js": "JavaScript (Node)", "java": "Java"}


def swift() -> list[str]:
    """The Swift package's program, built in release."""
    scratch = BUILT / "swift"
    options = ["-c", "release", "--package-path", str(ROOT), "--scratch-path", str(scratch)]
    subprocess.run(
        ["swift", "build", "-j", "1", "--product", "mobileclip-client", *options], check=True, stdout=sys.stderr
    )
    return [str(scratch / "release" / "mobileclip-client"), "speed"]


def js() -> list[str]:
    """The JavaScript package in Node."""
    return ["node", str(ROOT / "benchmarks" / "clients_speed.mjs")]


def java() -> list[str]:
    """The Java package and the program of its tests."""
    package, folder = ROOT / "clients" / "java", BUILT / "java"
    subprocess.run([package / "build.sh", folder], check=True, stdout=sys.stderr)
    jar, desktop, tests = folder / "mobileclip.jar", folder / "mobileclip-desktop.jar", folder / "tests"
    sources = [str(path) for path in (package / "test").rglob("*.java")]
    subprocess.run(
        ["javac", "-nowarn", "-cp", f"{jar}{os.pathsep}{desktop}", "-d", tests, *sources], check=True, stdout=sys.stderr
    )
    return ["java", "-cp", f"{jar}{os.pathsep}{tests}", "mobileclip.Speed"]


LANGUAGES: dict[str, Callable[[], list[str]]] = {"swift": swift, "js": js, "java": java}


def main() -> None:
    """Measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default=",".join(LANGUAGES), help="with commas")
    parser.add_argument("--python", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.python:
        print(python_seconds(int(given.python[0]), given.python[1], numkong=given.python[2] == "numkong"))
        return
    rows = KEPT.rows()
    with tempfile.TemporaryDirectory() as folder:
        works = ["resize", *(str(random_index(Path(folder) / f"{size}.mcdx", ROWS, size).path) for size in SIZES)]
        for name in given.language.split(","):
            rows = [row for row in rows if row["language"] != name]
            command = LANGUAGES[name]()
            rows += [measured(name, command, work) for work in works]
            KEPT.write_rows(sorted(rows, key=order), machine=machine())
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "page.py")], check=True)


def order(row: dict[str, Any]) -> tuple[int, str]:
    """Languages in the order of the titles."""
    return list(TITLES).index(row["language"]), row["work"]


def machine() -> dict[str, str]:
    """What decides the figures."""
    return versions("pillow", "numpy", "numkong") | {"processor": processor(), "python": platform.python_version()}


def measured(language: str, command: list[str], work: str) -> dict[str, Any]:
    """One language at one work: CPU seconds of each turn, its own and Python's."""
    ours: dict[str, list[float]] = {"client": [], "python": [], "numpy": []}
    python = [sys.executable, __file__, "--python", str(RUNS), work]
    commands = {"client": [*command, str(RUNS), work], "python": [*python, "numkong"], "numpy": [*python, "numpy"]}
    if work == "resize":
        del commands["numpy"], ours["numpy"]
    for _ in range(TURNS):
        for name, one in commands.items():
            ours[name].append(seconds(one))
    print(language, work, ours, file=sys.stderr, flush=True)
    return {"language": language, "work": Path(work).stem, "seconds": ours}


def seconds(command: list[str]) -> float:
    """What a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
    return float(done.stdout.split()[-1])


def python_seconds(runs: int, work: str, *, numkong: bool) -> float:
    """The same by Pillow, or by the toolkit's search."""
    import numpy as np

    if not numkong:
        sys.modules["numkong"] = None  # type: ignore[assignment]  # as if it were not installed
    if work == "resize":
        from PIL import Image

        picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (3000, 4000, 3), np.uint8))

        def once() -> object:
            return picture.resize((341, 256), Image.Resampling.BILINEAR)

    else:
        from mobileclip_deploy.search.index import Index

        index = Index(work)
        query = np.random.default_rng(2).standard_normal(index.store.dimension).astype(np.float32)

        def once() -> object:
            return index.search(query, 20)

    return median_cpu_seconds(once, runs)


def median_cpu_seconds(call: Callable[[], object], runs: int) -> float:
    """CPU seconds of the median of some calls, after as many that do not count."""
    seconds_of_runs = []
    for run in range(2 * runs):
        start = time.process_time()
        call()
        if run >= runs:
            seconds_of_runs.append(time.process_time() - start)
    return statistics.median(seconds_of_runs)


def section() -> str:
    """Part of docs/figures/benchmarks.md; empty where nothing was measured."""
    rows = KEPT.rows()
    if not rows:
        return ""
    heads = ("", "what", ">ms", ">of Pillow's or the search's time", ">goal", ">of the search's without NumKong")
    table = []
    lines = [
        "## Clients",
        "",
        "CPU time of the clients of `clients/`, one thread: 4000 x 3000 pixels to 341 x 256 (bilinear) beside Pillow, "
        f"and the nearest 20 of {ROWS:,} int8 embeddings beside the toolkit's own search, with NumKong and without, in "
        f"turns. Median of {TURNS} ratios, the least and largest in brackets. `python benchmarks/clients_speed.py`.",
        "",
    ]
    for row in rows:
        own, resize = row["seconds"], row["work"] == "resize"
        goal = GOALS[row["language"]][0 if resize else 1]
        what = "resize" if resize else f"search, {row['work']} numbers"
        bare = "" if resize else ratio(own["client"], own["numpy"])
        client = f"{1e3 * statistics.median(own['client']):.1f}"
        goal_text = "" if goal is None else str(goal)
        table.append([TITLES[row["language"]], what, client, ratio(own["client"], own["python"]), goal_text, bare])
    lines += [
        *markdown(heads, table),
        "",
        "Swift, JavaScript (WebAssembly) and NumKong multiply 16 bytes and more at a time. Java has no way to "
        "say so that a phone's has too: it takes two products from one multiplication of 64 bits (`Scores.java`).",
    ]
    return "\n".join(lines)


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the turns' ratios, and between which they lie."""
    found = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


if __name__ == "__main__":
    main()
