"""`evaluate_suite`: all datasets of a suite, each measured by its own metric."""

from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import StrPath, optional_path, write_whole
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.benchmark.suite.measuring import SuiteResult, html_page, measure_suite
from mobileclip_deploy.benchmark.suite.tasks import checked_suite
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import Pixels
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.pictures.pictures import Reading
from mobileclip_deploy.pictures.subjects import embedder_of, opened

__all__ = ["SuiteResult", "evaluate_suite"]


def evaluate_suite(
    subject: Bundle | MobileCLIP | StrPath,
    data: StrPath,
    *,
    suite: str = "datacomp",
    html: StrPath | None = None,
    pixels: Pixels = "reference",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> SuiteResult:
    """Measures all available datasets of a suite, each by its own metric, next to the published figures
    (docs/evaluation.md).

    Args:
        subject: a bundle, its folder, or a model from `load_model`.
        data: the folder that contains a folder for each dataset.
        suite: "datacomp", the 38 datasets that MobileCLIP's papers average over.
        html: file for a page with the table.
        pixels: "reference" as open_clip and CLIP_benchmark compute them, as in the published figures; "app": see
            `evaluate`.
        skip_bad: leave out images that cannot be used (`Row.skipped`) instead of failing their dataset.
        cache: folder for embeddings, so that an interrupted run continues where it stopped; no cache when None.
        force: replace an existing page.

    Returns:
        A row per dataset. A missing dataset is "not run"; one that cannot be used has "failed", and then there is no
            average.

    Raises:
        UsageError: the suite is unknown, none of its datasets is there, or the page cannot be written.
        InvalidInput: the bundle cannot be used.
        RuntimeFailed: no runtime on this machine can run the bundle.
    """
    page = optional_path(html)
    listed = checked_suite(suite, Path(data), page, force)
    model = opened(subject)
    how = Reading(skip_bad, optional_path(cache), pixels=pixels)
    result = measure_suite(embedder_of(model, TOWERS), listed, Path(data), how, progress)
    if page is not None:
        with sole_writer(page, "evaluate", force=force):
            write_whole(page, html_page(result))
    return result
