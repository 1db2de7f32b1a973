"""What the scripts share: where figures are kept and shown, tables, calls in turns, processes, golden networks."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobileclip_deploy.base.pages.server import Answer

__all__ = [
    "ROOT",
    "Figures",
    "alone",
    "cells",
    "cpu_ms",
    "golden_source",
    "in_turns",
    "markdown",
    "medians",
    "processor",
    "random_index",
    "shown_in_browser",
    "versions",
]

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))  # golden_checkpoints, writing


@dataclass(frozen=True)
class Figures:
    """What a script measured, benchmarks/results/`name`.json, and the part of docs/`page` that it writes."""

    name: str
    page: str = ""

    @property
    def results(self) -> Path:
        """The file."""
        return ROOT / "benchmarks" / "results" / f"{self.name}.json"

    def read(self) -> Any:
        """What was measured before."""
        return json.loads(self.results.read_text(encoding="utf-8"))

    def rows(self) -> list[dict[str, Any]]:
        """The rows of it; none where there is no such file."""
        found: list[dict[str, Any]] = self.read()["rows"] if self.results.exists() else []
        return found

    def write(self, told: Any) -> None:
        """Keep what was measured."""
        self.results.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def write_rows(self, rows: list[dict[str, Any]], **told: Any) -> None:
        """Keep rows, behind what is told of all of them."""
        self.write({"schema_version": 1, **told, "rows": rows})

    def show(self, text: str, begin: str = "", end: str = "<!-- end -->") -> None:
        """Write text between the first `begin` of the page (by default the script's mark) and the `end` after it."""
        before, begin, _, rest = self._parts(begin, end)
        (ROOT / "docs" / self.page).write_text(f"{before}{begin}\n{text}\n{end}{rest}", encoding="utf-8")

    def shown(self) -> str:
        """What the page has there."""
        return self._parts("", "<!-- end -->")[2].strip()

    def _parts(self, begin: str, end: str) -> tuple[str, str, str, str]:
        begin = begin or f"<!-- begin: benchmarks/{self.name}.py -->"
        before, found, rest = (ROOT / "docs" / self.page).read_text(encoding="utf-8").partition(begin)
        assert found, f"{self.page} has no {begin}"
        shown, _, after = rest.partition(end)
        return before, begin, shown, after


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; columns whose heads begin with `>` are right-aligned."""
    marks = ["---:" if head.startswith(">") else "---" for head in heads]
    names = (f" {name} " if (name := head.removeprefix(">")) else " " for head in heads)
    return [f"|{'|'.join(names)}|", f"|{'|'.join(marks)}|", *map(cells, rows)]


def cells(row: Sequence[str]) -> str:
    """One row of it."""
    return f"| {' | '.join(row)} |"


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU milliseconds of a call, all threads of this process."""
    began = time.process_time()
    call()
    return 1000 * (time.process_time() - began)


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> dict[str, list[float]]:
    """CPU milliseconds of every call, `rounds` of each. The first of a round is another one each time: what disturbs
    the machine for longer than a round disturbs all alike. Rounds to warm up are not kept."""
    names = list(calls)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took = cpu_ms(calls[name])
            if number >= warm_up:
                found[name].append(took)
    return found


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in times.items()}


def alone(script: str, *words: str, threads: int | None = None) -> Any:
    """What a script prints as the last line of its JSON, in a process of its own.

    Args:
        script: its `__file__`.
        threads: of every pool in the process.
    """
    environment = os.environ if threads is None else os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, script, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def random_index(path: Path, count: int, dimension: int) -> Any:
    """An int8 index of random unit vectors, of which there are a multiple of 10,000."""
    import numpy as np

    from mobileclip_deploy.search.index import Index
    from mobileclip_deploy.search.index_file import Description, Header
    from mobileclip_deploy.search.storage import Store
    from mobileclip_deploy.search.writing import IndexRows, create

    chance, at_once = np.random.default_rng(0), 10_000

    def parts() -> Iterator[IndexRows]:
        for start in range(0, count, at_once):
            vectors = chance.standard_normal((at_once, dimension), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            yield [f"photos/IMG_{start + number:07d}.HEIC" for number in range(at_once)], [0] * at_once, vectors

    store = Store("int8", dimension, 6 / dimension**0.5 / 127)
    create(path, Header(store, Description(embedding_space="random", variant="random")), parts())
    return Index(path)


def processor() -> str:
    """The processor's name, and what it multiplies with."""
    from mobileclip_deploy.benchmark.host.machine import describe

    device = describe()
    return " ".join((device.model, *device.instructions))


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that decide the figures."""
    return {name: metadata.version(name) for name in packages}


def golden_source(name: str) -> Any:
    """A golden network (tests/golden), folded, as a `Source`: its weights come from nowhere."""
    from golden_checkpoints import folded_golden
    from writing import NOWHERE

    from mobileclip_deploy.network.checkpoints.source import Source

    return Source(folded_golden(name), NOWHERE)


def shown_in_browser(family: str, files: Mapping[str, Path], posts: Mapping[str, Answer], patience: float) -> None:
    """Serve a page to a browser without a window and with a profile of its own, until it posts to `ended`."""
    from mobileclip_deploy.base.interpreter import end_group
    from mobileclip_deploy.base.pages.server import PageServer, serving
    from mobileclip_deploy.benchmark.browser.launching import find_browser

    heard = threading.Event()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        serving(PageServer(files, {**posts, "ended": lambda *_: heard.set()})) as server,
    ):
        browser = find_browser(family).start(server.address, Path(folder))
        try:
            assert heard.wait(patience), f"{family} did not end"
        finally:
            end_group(browser, force=False)
            browser.wait(60)
