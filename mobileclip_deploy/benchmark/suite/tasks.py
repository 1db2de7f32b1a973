"""Datasets of each suite, and their published figures: data files in this folder."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from mobileclip_deploy.base.files import check_file_destination
from mobileclip_deploy.errors import UsageError, suggestion

SUITES = ("datacomp",)
HERE = Path(__file__).parent
APPLE_REPOSITORIES = ("apple/ml-mobileclip", "apple-aiml-research/ml-mobileclip")
"""Names of Apple's repository on GitHub, the older first. It is not known if the older one redirects."""
Metric = Literal[
    "acc1",
    "mean_per_class_recall",
    "F1-macro_all",
    "acc_worst_region",
    "acc_wg",
    "acc_top5_wg",
    "mean_recall@1",
    "jaccard_score_10-12",
]


class SuiteTask(BaseModel, frozen=True, extra="forbid"):
    """One dataset: its `key` in the suite's own list, the `folder` in which it is searched, and its metric. `examples`
    is the number in the list."""

    key: str
    name: str
    folder: str
    kind: Literal["classification", "retrieval", "winogavil"]
    metric: Metric
    examples: int


class Suite(BaseModel, frozen=True, extra="forbid"):
    """A list of datasets; `source` names its publication."""

    name: str
    title: str
    source: str
    datasets: tuple[SuiteTask, ...]


def load_suite(name: str) -> Suite:
    """Returns the suite of a name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in SUITES:
        raise UsageError(f"unknown suite {name!r}{suggestion(name, SUITES)}; known: {', '.join(SUITES)}")
    return Suite.model_validate(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")))


def checked_suite(name: str, data: Path, page: Path | None, force: bool) -> Suite:
    """Returns a suite that can be measured: some of its datasets are there, and its page can be written.

    Args:
        data: the folder that contains a folder for each dataset.
        page: file for the page; `force` replaces an existing one.

    Raises:
        UsageError: the suite is unknown, none of its datasets is there, or the page cannot be written.
    """
    suite = load_suite(name)
    if page is not None:
        check_file_destination(page, force, "html")
    if not any((data / task.folder).is_dir() for task in suite.datasets):
        example = suite.datasets[0].folder
        raise UsageError(f"{data} has no dataset of {suite.title}; their folders have names such as {example}")
    return suite


def published(variant: str) -> tuple[dict[str, float], str | None]:
    """Returns the published figures of a variant by dataset key, in percent, and their source; ({}, None) if there are
    none. The source has both names of Apple's repository."""
    for figures in json.loads((HERE / "published.json").read_text(encoding="utf-8")):
        percent: dict[str, float] = figures["percent"].get(variant, {})
        if percent:
            return percent, str(figures["source"]).replace(APPLE_REPOSITORIES[0], " or ".join(APPLE_REPOSITORIES))
    return {}, None
