"""Why operations of a bundle leave the Neural Engine on a device that it was measured on, for `verify --explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.neural_engine import UNIT
from mobileclip_deploy.benchmark.operations import elsewhere, planned
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import StrPath, paths
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.verify.explanation import Explanation

if TYPE_CHECKING:
    from mobileclip_deploy.verify.opening import VerifyRequest
    from mobileclip_deploy.verify.several import Baseline, Refused, Verified

__all__ = ["explain_placement", "measured", "verify_and_place"]

NO_PLAN = "no plan was told of where its operations run (Core ML before iOS 17.4 tells none)"


def explain_placement(bundle: Bundle | StrPath, results: StrPath | Sequence[StrPath]) -> tuple[Explanation, ...]:
    """Which operations Core ML meant to run elsewhere than on the Neural Engine, and what `lint` says of each.

    Args:
        bundle: of Core ML, as returned by `export`, or its folder.
        results: files that `benchmark` wrote on an iPhone or a Mac, or one.

    Returns:
        For each tower and result an explanation with `finding` "placement" for every unit and reason.

    Raises:
        InvalidInput: a file is no result; the bundle is damaged.
        UsageError: it was measured in none of them.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
    return _explained(opened, measured(results, [opened.path]))


def measured(results: StrPath | Sequence[StrPath], bundles: Sequence[Path]) -> tuple[Result, ...]:
    """The results, if one of these bundles was measured in one of them.

    Raises:
        InvalidInput: a file is no result.
        UsageError: none was.
    """
    files = paths(results)
    found = tuple(read_result(path) for path in files)
    there = {cell.sha256 for result in found for cell in result.job.cells}
    if not any(there & _hashes(Bundle.open(bundle)) for bundle in bundles):
        named = ", ".join(path.name for path in files)
        raise UsageError(f"{named}: {bundles[0].name} was not measured there; name a result of this bundle")
    return found


def verify_and_place(
    bundles: Sequence[Path],
    request: VerifyRequest,
    results: Sequence[Path] = (),
    *,
    explain: bool = False,
    baseline: Baseline | None = None,
    progress: Progress = silent,
) -> list[Verified | Refused]:
    """Verify bundles, each with its placement in `results` among what explains it.

    Raises:
        InvalidInput: a result is none.
        UsageError: results without `explain`; none of the bundles was measured in them; and as `verify_bundles` does.
    """
    from mobileclip_deploy.verify.several import Verified, verify_bundles

    if results and not explain:
        raise UsageError("`placement` says more about what `explain` lists: add `explain`")
    plans = measured(results, bundles) if results else ()
    found = verify_bundles(bundles, request, explain=explain, baseline=baseline, progress=progress)
    if not plans:
        return found
    return [
        replace(one, explanations=(*(one.explanations or ()), *_explained(one.bundle, plans)))
        if isinstance(one, Verified)
        else one
        for one in found
    ]


def _hashes(bundle: Bundle) -> set[str]:
    return {entry.sha256 for entry in bundle.manifest.towers.values()}


def _explained(bundle: Bundle, results: Sequence[Result]) -> tuple[Explanation, ...]:
    from mobileclip_deploy.inspect.door import lint

    own = _hashes(bundle)
    told: list[tuple[str, str]] = []
    for result in results:
        cells = [(cell, planned(found)) for cell, found in result.pairs() if cell.sha256 in own]
        if not cells:
            continue
        lines = [(cell.tower, text) for cell, text in elsewhere(result, lint(bundle.path)) if cell.sha256 in own]
        told += lines
        for cell, operations in cells:
            if cell.compute_units == "cpuAndNeuralEngine" and cell.tower not in [tower for tower, _ in lines]:
                there = sum(operation.unit == UNIT for operation in operations)
                whole = f"all {there} operations are planned for the Neural Engine"
                told.append((cell.tower, whole if there else NO_PLAN))
    return tuple(Explanation(tower=tower, finding="placement", detail=text) for tower, text in dict.fromkeys(told))
