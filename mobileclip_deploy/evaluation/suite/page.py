"""A suite's result as one HTML page that needs nothing beside it."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.evaluation.suite.measuring import SuiteResult
from mobileclip_deploy.files import check_file_destination, write_whole
from mobileclip_deploy.files.pages import filled_page

__all__ = ["check_page", "html_page", "write_page"]


def html_page(result: SuiteResult) -> str:
    """The page; whatever the result says is escaped."""
    return filled_page(__package__ or "", result=result)


def check_page(path: Path, force: bool) -> None:
    """Whether the page can be written.

    Raises:
        UsageError: see `check_file_destination`.
    """
    check_file_destination(path, force, "html")


def write_page(result: SuiteResult, path: Path) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, html_page(result))
