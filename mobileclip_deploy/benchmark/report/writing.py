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

__all__ = ["write_report"]

SUFFIXES = (".html", ".md", ".png")


def write_report(sources: Sequence[Path], outputs: Sequence[Path], force: bool = False) -> tuple[Result, ...]:
    """Read results, of whatever devices, and write a report to each of `outputs`.

    Returns:
        The results, with every summary computed anew from the raw samples.

    Raises:
        UsageError: an output has another ending than .html, .md or .png, or exists and `force` is not given.
        InvalidInput: a file is not a result, or has nothing to draw.
    """
    for path in outputs:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"-o {path}: a report is written as {', '.join(SUFFIXES)}; choose one of these endings")
        check_file_destination(path, force)
    results = tuple(complete(read_result(path)) for path in sources)
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            write_png(results, path)
        else:
            text = html_page(results) if path.suffix == ".html" else markdown_page(results)
            path.write_text(text, encoding="utf-8")
    return results
