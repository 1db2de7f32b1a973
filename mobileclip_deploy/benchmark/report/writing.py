"""Writing a report in the format that its name asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.report.html import html_page
from mobileclip_deploy.benchmark.report.markdown import markdown_page
from mobileclip_deploy.benchmark.report.png import write_png
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import StrPath, check_file_destination, paths, write_whole

if TYPE_CHECKING:
    from mobileclip_deploy.inspect.linting import LintReport

__all__ = ["report"]

SUFFIXES = (".html", ".md", ".png")


def report(
    results: StrPath | Sequence[StrPath],
    outputs: StrPath | Sequence[StrPath] = ("report.html",),
    *,
    bundles: StrPath | Sequence[StrPath] = (),
    force: bool = False,
) -> tuple[Result, ...]:
    """A page from results of any devices: accuracy against latency, tables, and the conditions.

    Args:
        results: files that `benchmark` wrote, or one.
        outputs: where it goes, one or several; .html, .md or .png.
        bundles: Core ML bundles that were measured: what `lint` finds says why operations leave the Neural Engine.
        force: replace a report that is there.

    Returns:
        The results, with every summary computed anew from the raw samples.

    Raises:
        UsageError: no result, or an output has another ending, or exists.
        InvalidInput: a file is not a result, or has nothing to draw; a bundle is damaged.
    """
    written = paths(outputs)
    for path in written:
        if path.suffix not in SUFFIXES:
            raise UsageError(
                f"`outputs` {path}: a report is written as {', '.join(SUFFIXES)}; choose one of these endings"
            )
        check_file_destination(path, force, "outputs")
    found = tuple(complete(read_result(path)) for path in paths(results))
    if not found:
        raise UsageError("no result was given; name files that `benchmark` wrote with `results`")
    lints = tuple(one for bundle in paths(bundles) for one in _linted(bundle))
    # A picture first: of results without one nothing is written.
    for path in sorted(written, key=lambda one: one.suffix != ".png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            write_png(found, path)
        else:
            text = html_page(found, lints) if path.suffix == ".html" else markdown_page(found, lints)
            write_whole(path, text)
    return found


def _linted(bundle: Path) -> tuple[LintReport, ...]:
    from mobileclip_deploy.inspect.door import lint  # imports torch, which a report without bundles does not need

    return lint(bundle)
