"""What is asked of a benchmark: what to measure, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.benchmark.foreign import foreign_target
from mobileclip_deploy.benchmark.job import Protocol
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import CheckpointError, UsageError, suggestion
from mobileclip_deploy.model.variants import TOWERS, TowerName

TORCH_FORMS = ("unfolded", "folded", "compiled")


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Args:
        against: files of others.
        torch: of `TORCH_FORMS`, the checkpoint itself in these, from `checkpoint_of`.
        checkpoint_of: the source of a bundle; None when it is not at hand.
    """

    bundles: tuple[Bundle, ...]
    against: tuple[Path, ...] = ()
    torch: tuple[str, ...] = ()
    towers: tuple[TowerName, ...] = ("image", "text")
    threads: tuple[int, ...] = (1,)
    checkpoint_of: Callable[[Bundle], Path | None] = lambda _: None


@dataclass(frozen=True)
class RunOptions:
    """How it is run.

    Args:
        output: where the result goes.
        seed: of the order of the rounds; random when None.
        resume: go on with the interrupted run that stands beside `output`.
        force: replace a result that is there.
        profile: operator times as well.
    """

    protocol: Protocol
    output: Path
    seed: int | None = None
    resume: bool = False
    force: bool = False
    profile: bool = False


def make_request(
    bundles: Sequence[Path],
    tower: str = "both",
    threads: tuple[int, ...] = (1,),
    against: Sequence[Path] = (),
    forms: tuple[str, ...] = (),
    checkpoint: Path | None = None,
) -> Request:
    """Open the bundles.

    Args:
        tower: image, text or both.
        forms: of torch, see `TORCH_FORMS`.
        checkpoint: the source of the bundles; found as `verify` finds it when None.

    Raises:
        InvalidInput: a bundle is damaged, a file is not there, or the checkpoint is another one.
        UsageError: an unknown tower, a file of others that no target reads, or a checkpoint that nothing is done with.
    """
    if tower not in (*TOWERS, "both"):
        raise UsageError(f"unknown tower {tower!r}; known: {', '.join(TOWERS)}, both")
    opened = tuple(Bundle.open(path) for path in bundles)
    for path in against:
        foreign_target(path)
    if checkpoint is not None and not forms:
        raise UsageError("`checkpoint` is the source that `torch` times; add `torch='folded'`, or 'all'")
    return Request(
        bundles=opened,
        against=tuple(against),
        torch=forms,
        towers=TOWERS if tower == "both" else tuple(name for name in TOWERS if name == tower),
        threads=threads,
        checkpoint_of=lambda bundle: _source(bundle, checkpoint),
    )


def parse_threads(text: str) -> tuple[int, ...]:
    """`1` or `1,2,4`.

    Raises:
        UsageError: no numbers from 1 to 1024.
    """
    counts = [int(part) if part.isascii() and part.isdigit() else 0 for part in text.split(",")]
    return check_threads(counts, text)


def check_threads(counts: Sequence[int], text: str | None = None) -> tuple[int, ...]:
    """Numbers of threads, each once; `text` is what errors call them.

    Raises:
        UsageError: one is not from 1 to 1024.
    """
    if not counts or not all(0 < count <= 1024 for count in counts):
        shown = ",".join(map(str, counts)) if text is None else text
        raise UsageError(f"`threads` {shown}: write a number from 1 to 1024, or several with commas, as in 1,2,4")
    return tuple(dict.fromkeys(counts))


def parse_forms(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """`folded`, `unfolded,folded` or `all`, or one by one; none for None.

    Raises:
        UsageError: an unknown one.
    """
    if text is None:
        return ()
    parts = tuple(part.strip() for part in text.split(",")) if isinstance(text, str) else tuple(text)
    forms = TORCH_FORMS if parts == ("all",) else parts
    for form in forms:
        if form not in TORCH_FORMS:
            known = ", ".join(TORCH_FORMS)
            raise UsageError(f"`torch` {form}: unknown{suggestion(form, TORCH_FORMS)}; known: {known}, all")
    return tuple(dict.fromkeys(forms))


def _source(bundle: Bundle, checkpoint: Path | None) -> Path | None:
    from mobileclip_deploy.bundle.source import find_checkpoint, is_source

    if checkpoint is None:
        return find_checkpoint(bundle)
    if not checkpoint.is_file():
        raise CheckpointError(f"`checkpoint` {checkpoint}: no such file")
    if not is_source(bundle, checkpoint):
        raise CheckpointError(f"{checkpoint} is not the checkpoint that {bundle.path.name} was exported from")
    return checkpoint
