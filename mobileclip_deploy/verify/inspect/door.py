"""Public functions `inspect`, `lint`, `compare_lint` and `variants`."""

from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.network.model.variants import Variant, variant_cards
from mobileclip_deploy.verify.inspect.inspection import Inspection, inspect
from mobileclip_deploy.verify.inspect.linting import Comparison as LintComparison
from mobileclip_deploy.verify.inspect.linting import LintReport, compare_all, lint

__all__ = ["Inspection", "LintComparison", "LintReport", "Variant", "compare_lint", "inspect", "lint", "variants"]


def compare_lint(
    path: StrPath, other: StrPath, device: str | None = None, *, target: str | None = None, progress: Progress = silent
) -> tuple[LintComparison, ...]:
    """Compares the counts of each status and each rule of `lint` in two packages, or in the towers of two bundles.

    Args:
        device, target: see `lint`.

    Raises:
        UsageError: different numbers of towers, no such device or target, or a bundle is of another target.
        InvalidInput: there is neither a package nor a bundle at a path, or it is damaged.
    """
    return compare_all(*(lint(package, device, target=target, progress=progress) for package in (path, other)))


def variants() -> tuple[Variant, ...]:
    """Returns the cards of all variants.

    Raises:
        InvalidInput: a card is damaged, or two have one name.
    """
    return variant_cards()
