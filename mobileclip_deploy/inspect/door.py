"""`inspect`, `lint` and `variants`: what a file is, and what a package would do."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.files import StrPath
from mobileclip_deploy.inspect.inspection import Inspection
from mobileclip_deploy.inspect.inspection import inspect as _inspect
from mobileclip_deploy.inspect.linting import Comparison as LintComparison
from mobileclip_deploy.inspect.linting import compare_all, lint_path
from mobileclip_deploy.mil.lint import LintReport
from mobileclip_deploy.model.variants import Variant, variant_cards
from mobileclip_deploy.progress import Progress, silent

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


def inspect(path: StrPath, variant: str | None = None, *, progress: Progress = silent) -> Inspection:
    """What a checkpoint file, an artifact, a bundle or a folder of bundles is and holds.

    Its `kind` says which, and `as_dict` gives the form of JSON.

    Args:
        variant: name of the variant that a checkpoint is of, where it fits several.

    Raises:
        InvalidInput: it is none of them, or damaged; or a checkpoint that is not of the variant.
        UsageError: unknown variant.
    """
    return _inspect(Path(path), variant, progress)


def lint(path: StrPath, device: str = "a14", *, progress: Progress = silent) -> tuple[LintReport, ...]:
    """Which operations of a Core ML package, or of each tower of a bundle, are ready for the Neural Engine of a chip;
    with `device="gpu"` which operations of a LiteRT file or bundle run on the GPU.

    Raises:
        UsageError: no such device, or the bundle is of another target.
        InvalidInput: there is neither a package nor a bundle there, or it is damaged.
    """
    return lint_path(Path(path), device, progress)


def compare_lint(
    path: StrPath, other: StrPath, device: str = "a14", *, progress: Progress = silent
) -> tuple[LintComparison, ...]:
    """What each status and each rule of `lint` counts in one package and in another, or in two bundles' towers.

    Raises:
        UsageError: they have not as many towers, no such device, or a bundle is of another target.
        InvalidInput: there is neither a package nor a bundle there, or it is damaged.
    """
    return compare_all(lint_path(Path(path), device, progress), lint_path(Path(other), device, progress))


def variants() -> tuple[Variant, ...]:
    """The cards of all known variants.

    Raises:
        InvalidInput: a card is damaged, or two have one name.
    """
    return variant_cards()
