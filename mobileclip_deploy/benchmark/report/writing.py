"""Writing a report in the format that its name asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.report.html import html_page
from mobileclip_deploy.benchmark.report.markdown import markdown_page
from mobileclip_deploy.benchmark.report.png import write_png
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import check_file_destination

__all__ = ["report"]

SUFFIXES = (".html", ".md", ".png")


def report(
    results: Sequence[Path | str], outputs: Sequence[Path | str] = ("report.html",), *, force: bool = False
) -> tuple[Result, ...]:
    """A page from results of any devices: accuracy against latency, tables, and the conditions.

    Args:
        results: files that `benchmark` wrote.
        outputs: where it goes; .html, .md or .png.
        force: replace a report that is there.

    Returns:
        The results, with every summary computed anew from the raw samples.

    Raises:
        UsageError: an output has another ending, or exists.
        InvalidInput: a file is not a result, or has nothing to draw.
    """
    paths = tuple(map(Path, outputs))
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"-o {path}: a report is written as {', '.join(SUFFIXES)}; choose one of these endings")
        check_file_destination(path, force)
    found = tuple(complete(read_result(Path(path))) for path in results)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            write_png(found, path)
        else:
            text = html_page(found) if path.suffix == ".html" else markdown_page(found)
            path.write_text(text, encoding="utf-8")
    return found
