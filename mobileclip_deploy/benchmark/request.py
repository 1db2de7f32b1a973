"""Request of a benchmark: the bundles and files to measure, and the options of the run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import StrPath, optional_path, paths
from mobileclip_deploy.benchmark.foreign import foreign_target
from mobileclip_deploy.benchmark.job import Protocol
from mobileclip_deploy.errors import CheckpointError, UsageError, suggestion
from mobileclip_deploy.network.model.variants import TOWERS, TowerName

TORCH_FORMS = ("unfolded", "folded", "compiled")


@dataclass(frozen=True)
class Request:
    """Bundles and files to measure.

    Args:
        against: foreign files.
        torch: forms of `TORCH_FORMS` in which the checkpoint of `checkpoint_of` is timed.
        checkpoint_of: returns the source of a bundle; None if it is not found.
    """

    bundles: tuple[Bundle, ...]
    against: tuple[Path, ...] = ()
    torch: tuple[str, ...] = ()
    towers: tuple[TowerName, ...] = ("image", "text")
    threads: tuple[int, ...] = (1,)
    checkpoint_of: Callable[[Bundle], Path | None] = lambda _: None


@dataclass(frozen=True)
class RunOptions:
    """Options of the run: see `benchmark`."""

    protocol: Protocol
    output: Path
    seed: int | None = None
    resume: bool = False
    force: bool = False
    profile: bool = False


def make_request(
    bundles: Bundle | StrPath | Sequence[Bundle | StrPath],
    tower: str = "both",
    threads: str | int | Sequence[int] = 1,
    against: StrPath | Sequence[StrPath] = (),
    torch: str | Sequence[str] = (),
    checkpoint: StrPath | None = None,
) -> Request:
    """Opens the bundles and returns the request.

    Args:
        tower: image, text or both.
        threads: see `parse_threads`.
        torch: see `parse_forms`.
        checkpoint: the source of the bundles; found as `verify` finds it when None.

    Raises:
        InvalidInput: a bundle is damaged, a file is missing, or the checkpoint is another one.
        UsageError: the tower is unknown, no target reads a foreign file, or a checkpoint is given without `torch`.
    """
    if tower not in (*TOWERS, "both"):
        raise UsageError(f"unknown tower {tower!r}; known: {', '.join(TOWERS)}, both")
    counts, forms, others = parse_threads(threads), parse_forms(torch), paths(against)
    listed = (bundles,) if isinstance(bundles, Bundle | str | PathLike) else bundles
    opened = tuple(Bundle.open(item.path if isinstance(item, Bundle) else Path(item)) for item in listed)
    for path in others:
        foreign_target(path)
    if checkpoint is not None and not forms:
        raise UsageError("`checkpoint` is only used with `torch`; add `torch='folded'`, or 'all'")
    return Request(
        bundles=opened,
        against=others,
        torch=forms,
        towers=TOWERS if tower == "both" else tuple(name for name in TOWERS if name == tower),
        threads=counts,
        checkpoint_of=lambda bundle: _source(bundle, optional_path(checkpoint)),
    )


def parse_threads(given: str | int | Sequence[int]) -> tuple[int, ...]:
    """Parses numbers of threads: one, several, or `1,2,4`. Duplicates are dropped.

    Raises:
        UsageError: a number is not from 1 to 1024.
    """
    parts = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    counts = [int(part) if str(part).isascii() and str(part).isdigit() else 0 for part in parts]
    if not counts or not all(0 < count <= 1024 for count in counts):
        shown = ",".join(map(str, parts))
        raise UsageError(f"`threads` {shown}: write a number from 1 to 1024, or several with commas, as in 1,2,4")
    return tuple(dict.fromkeys(counts))


def parse_forms(text: str | Sequence[str]) -> tuple[str, ...]:
    """Parses forms of torch: `folded`, `unfolded,folded` or `all`, or a sequence of forms.

    Raises:
        UsageError: a form is unknown.
    """
    parts = tuple(part.strip() for part in text.split(",")) if isinstance(text, str) else tuple(text)
    forms = TORCH_FORMS if parts == ("all",) else parts
    for form in forms:
        if form not in TORCH_FORMS:
            known = ", ".join(TORCH_FORMS)
            raise UsageError(f"`torch` {form}: unknown{suggestion(form, TORCH_FORMS)}; known: {known}, all")
    return tuple(dict.fromkeys(forms))


def _source(bundle: Bundle, checkpoint: Path | None) -> Path | None:
    from mobileclip_deploy.artifacts.bundle.source import find_checkpoint, is_source

    if checkpoint is None:
        return find_checkpoint(bundle)
    if not checkpoint.is_file():
        raise CheckpointError(f"`checkpoint` {checkpoint}: no such file")
    if not is_source(bundle, checkpoint):
        raise CheckpointError(f"{checkpoint} is not the checkpoint that {bundle.path.name} was exported from")
    return checkpoint
