"""`inspect`, `lint` and `variants`: what a file is, and what a package would do."""

from __future__ import annotations

from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.network.model.variants import Variant, variant_cards
from mobileclip_deploy.verify.inspect.inspection import Inspection, inspect
from mobileclip_deploy.verify.inspect.linting import Comparison as LintComparison
from mobileclip_deploy.verify.inspect.linting import LintReport, compare_all, lint

__all__ = [
    "Inspection",
    "LintComparison",
    "LintReport",
    "Variant",
    "compare_lint",
    "inspect",
    "lint",
    "variants",
]


def compare_lint(
    path: StrPath,
    other: StrPath,
    device: str | None = None,
    *,
    target: str | None = None,
    progress: Progress = silent,
) -> tuple[LintComparison, ...]:
    """What each status and each rule of `lint` counts in one package and in another, or in two bundles' towers.

    Args:
        device, target: see `lint`.

    Raises:
        UsageError: they have not as many towers, no such device or target, or a bundle is of another target.
        InvalidInput: there is neither a package nor a bundle there, or it is damaged.
    """
    return compare_all(*(lint(one, device, target=target, progress=progress) for one in (path, other)))


def variants() -> tuple[Variant, ...]:
    """The cards of all known variants.

    Raises:
        InvalidInput: a card is damaged, or two have one name.
    """
    return variant_cards()
