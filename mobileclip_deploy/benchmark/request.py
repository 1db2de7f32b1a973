"""The request, read from the words of a command line."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.benchmark.planning import TORCH_FORMS, Request
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import CheckpointError, UsageError, suggestion
from mobileclip_deploy.files import file_sha256
from mobileclip_deploy.model.variants import TOWERS

__all__ = ["make_request"]


def make_request(
    bundles: tuple[Path, ...],
    tower: str = "both",
    threads: str = "1",
    against: tuple[Path, ...] = (),
    forms: str | None = None,
    checkpoint: Path | None = None,
) -> Request:
    """Open the bundles and read the options.

    Args:
        tower: image, text or both.
        threads: `1` or `1,2,4`.
        forms: of torch: `folded`, `unfolded,folded` or `all`.
        checkpoint: the source of the bundles; found as `verify` finds it when None.

    Raises:
        InvalidInput: a bundle is damaged, or the checkpoint is another one.
        UsageError: a word means nothing.
    """
    opened = tuple(Bundle.open(path) for path in bundles)
    if checkpoint is not None and forms is None:
        raise UsageError("--checkpoint is the source that --torch times; add --torch folded, or all")
    return Request(
        bundles=opened,
        against=against,
        torch=_forms(forms),
        towers=TOWERS if tower == "both" else tuple(name for name in TOWERS if name == tower),
        threads=_threads(threads),
        checkpoint_of=lambda bundle: _source(bundle, checkpoint),
    )


def _threads(text: str) -> tuple[int, ...]:
    counts = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    if not all(0 < count <= 1024 for count in counts):
        raise UsageError(f"--threads {text}: write a number from 1 to 1024, or several with commas, as in 1,2,4")
    return tuple(dict.fromkeys(counts))


def _forms(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    if text == "all":
        return TORCH_FORMS
    forms = [part.strip() for part in text.split(",")]
    for form in forms:
        if form not in TORCH_FORMS:
            known = ", ".join(TORCH_FORMS)
            raise UsageError(f"--torch {form}: unknown{suggestion(form, TORCH_FORMS)}; known: {known}, all")
    return tuple(dict.fromkeys(forms))


def _source(bundle: Bundle, checkpoint: Path | None) -> Path | None:
    if checkpoint is None:
        from mobileclip_deploy.bundle.source import find_checkpoint

        return find_checkpoint(bundle)
    if not checkpoint.is_file():
        raise CheckpointError(f"--checkpoint {checkpoint}: no such file")
    if file_sha256(checkpoint) != bundle.manifest.checkpoint.sha256:
        raise CheckpointError(f"{checkpoint} is not the checkpoint that {bundle.path.name} was exported from")
    return checkpoint
