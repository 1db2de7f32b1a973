"""Plan of a recovery: a request becomes a plan here, and requests that cannot be recovered are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mobileclip_deploy.base.arguments import Bounds, Count, Seed, checked_fields
from mobileclip_deploy.base.files import check_file_destination
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.pairs import Pairs, read_pairs
from mobileclip_deploy.network.model.precision import RECOVERABLE, parse_precisions, precision_of
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.targets import Target, get_target, targets
from mobileclip_deploy.training.reinforcement.index import INDEX

if TYPE_CHECKING:  # a request is refused before torch is imported
    from mobileclip_deploy.network.checkpoints.source import Source
    from mobileclip_deploy.training.reinforcement.building import Existing


@checked_fields
@dataclass(frozen=True)
class Settings:
    """Settings of a recovery: `steps` of `batch` inputs for each tower, by Adam. The learning rate warms up over a
    tenth of the steps to `learning_rate` and falls along a cosine to 0.

    `images` of the data (spread evenly over it) are embedded, `augmentations` of each. One in `held_back` of them is
    not trained on but decides whether the trained tower is kept.

    Raises:
        UsageError: one of them is not a number, or out of its bounds.
    """

    steps: Count = 300
    batch: Count = 64
    learning_rate: Annotated[float, Bounds(0, above=True)] = 2e-4
    images: Annotated[int, Bounds(10)] = 4096
    augmentations: Count = 4
    held_back: Annotated[int, Bounds(2)] = 10
    seed: Seed = 0


def report_path(output: Path) -> Path:
    """Returns the path of a recovery's report."""
    return output.with_suffix(".report.json")


@dataclass(frozen=True)
class RecoveryRequest:
    """A user's request; made by the command line and by `mobileclip_deploy.recover` alike.

    The fields are the arguments of `training.door.recover`. A report is written next to the output.

    Raises:
        UsageError: the output is not a .safetensors, or it or the report exists without `force`; an unknown tower or
            target; or a precision that loses nothing, cannot be trained on or is not the target's.
        InvalidInput: there is no data, or too few images, or no captions for the text tower.
    """

    precision: str
    data: Path
    output: Path
    tower: str = "both"
    target: str = "coreml"
    work: Path | None = None
    settings: Settings = field(default_factory=Settings)
    force: bool = False

    def __post_init__(self) -> None:
        if self.output.suffix != ".safetensors":
            raise UsageError(f"recovered models are written as .safetensors, not {self.output.name}; rename the output")
        for file in (self.output, report_path(self.output)):
            check_file_destination(file, self.force)
        if self.tower not in (*TOWERS, "both"):
            raise UsageError(f"unknown tower {self.tower!r}; known: {', '.join(TOWERS)}, both")
        recoverable = [name for name, candidate in targets().items() if candidate.capabilities.storing.recoverable]
        precisions, target = self.precisions, get_target(self.target)
        if target.label not in recoverable:
            raise UsageError(f"cannot recover for target {target.label!r}; known: {', '.join(recoverable)}")
        for tower, precision in precisions.items():
            if precision_of(precision).rest not in RECOVERABLE:
                raise UsageError(f"precision {precision} cannot be recovered; {', '.join(RECOVERABLE)} can")
            if not target.has({tower: precision}):
                raise UsageError(
                    f"{target.name} has no precision {precision} for the {tower} tower; give another precision, target "
                    "or tower"
                )
        if self.pairs is not None:
            check_enough(self.pairs, self)

    @cached_property
    def pairs(self) -> Pairs | None:
        """Pairs of the data that are used, read once. None for a reinforced dataset.

        Raises:
            InvalidInput: see `read_pairs`.
        """
        if (self.data / INDEX).is_file():
            return None
        pairs = read_pairs(self.data)
        count = min(self.settings.images, len(pairs.rows))
        return Pairs(pairs.folder, tuple(pairs.rows[index * len(pairs.rows) // count] for index in range(count)))

    @property
    def precisions(self) -> dict[TowerName, str]:
        """Precision of each requested tower.

        Raises:
            UsageError: an unknown precision.
        """
        return parse_precisions(self.precision, [name for name in TOWERS if self.tower in (name, "both")])


def check_enough(pairs: Pairs, request: RecoveryRequest) -> None:
    """Refuses data from which nothing could be held back from training.

    Raises:
        InvalidInput: too few images, or no captions for the text tower.
    """
    data, needed = request.data, request.settings.held_back
    if len(pairs.rows) < needed:
        raise InvalidInput(f"{data} has {len(pairs.rows)} images; recovery needs at least {needed}")
    if "text" in request.precisions and not pairs.captioned:
        raise InvalidInput(
            f"{data} has no captions, which the text tower learns from; add them (pairs.jsonl), or recover the image "
            "tower alone (`tower='image'`)"
        )


@dataclass(frozen=True)
class RecoveryPlan:
    """A request, the source whose towers are trained, and the resolved target on whose grids they are trained."""

    source: Source
    target: Target
    request: RecoveryRequest

    @property
    def work(self) -> Path:
        """Folder of the original's embeddings."""
        return self.request.work or self.request.output.with_suffix(".embeddings")

    @property
    def existing(self) -> Existing:
        """Policy for embeddings that are already there."""
        if self.request.work is not None:
            return "replace" if self.request.force else "continue"
        return "discard" if self.request.force else "replace"  # its own, and worth nothing to anybody else


def plan_recovery(request: RecoveryRequest, source: Source) -> RecoveryPlan:
    """Resolves a request with the checkpoint, before anything runs.

    Raises:
        UsageError: a tower that the checkpoint lacks, or a checkpoint that was recovered before.
    """
    for tower in request.precisions:
        if tower not in source.model.towers:
            raise UsageError(f"this checkpoint has no {tower} tower; recover the one it has (`tower`)")
    # The precision of one tower can decide how the other is stored.
    target = get_target(request.target).settled(request.precisions)
    if source.provenance.recovered is not None:
        raise UsageError(f"{source.provenance.file} was recovered already; give the original checkpoint")
    return RecoveryPlan(source, target, request)
