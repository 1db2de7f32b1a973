"""What is recovered, decided once: a request becomes a plan, and what cannot be recovered is refused here."""

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

"""What can be recovered; of the others fp32 and fp16 lose nothing, and w4p-p50 would have to learn which weights go."""


@checked_fields
@dataclass(frozen=True)
class Settings:
    """`steps` of `batch` inputs for each tower, Adam with a warm-up of a tenth and a cosine to 0 from `learning_rate`.

    `images` of the data (spread evenly over it) are embedded, `augmentations` of each. One in `held_back` of them is
    not trained on but decides whether what was trained is kept.

    Raises:
        UsageError: one of them is no number, or out of its bounds.
    """

    steps: Count = 300
    batch: Count = 64
    learning_rate: Annotated[float, Bounds(0, above=True)] = 2e-4
    images: Annotated[int, Bounds(10)] = 4096
    augmentations: Count = 4
    held_back: Annotated[int, Bounds(2)] = 10
    seed: Seed = 0


def report_path(output: Path) -> Path:
    """Where the report of a recovery is written."""
    return output.with_suffix(".report.json")


@dataclass(frozen=True)
class RecoveryRequest:
    """What a user asked for; made by the command line and by `mobileclip_deploy.recover` alike.

    The fields are the arguments of `learning.door.recover`. A report is written beside the output.

    Raises:
        UsageError: the output is no .safetensors, or it or the report exists and `force` is not given; an unknown
            tower or target, or a precision that loses nothing, cannot be trained on or is not the target's.
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
        known = [name for name, one in targets().items() if one.abilities.recoverable]
        precisions, target = self.precisions, get_target(self.target)
        if target.label not in known:
            raise UsageError(f"cannot recover for target {target.label!r}; known: {', '.join(known)}")
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
        """The pairs of the data that are used, read once; None of a dataset that was reinforced.

        Raises:
            InvalidInput: see `read_pairs`.
        """
        if (self.data / INDEX).is_file():
            return None
        pairs = read_pairs(self.data)
        count = min(self.settings.images, len(pairs.rows))
        return Pairs(pairs.folder, tuple(pairs.rows[number * len(pairs.rows) // count] for number in range(count)))

    @property
    def precisions(self) -> dict[TowerName, str]:
        """The precision of each tower that is asked for.

        Raises:
            UsageError: an unknown precision.
        """
        return parse_precisions(self.precision, [name for name in TOWERS if self.tower in (name, "both")])


def check_enough(pairs: Pairs, request: RecoveryRequest) -> None:
    """Refuse data of which nothing could be held back from training.

    Raises:
        InvalidInput: too few images, or no captions for the text tower.
    """
    data, needed = request.data, request.settings.held_back
    if len(pairs.rows) < needed:
        raise InvalidInput(f"{data} holds {len(pairs.rows)} images; recovery needs {needed} at least")
    if "text" in request.precisions and not pairs.captioned:
        raise InvalidInput(
            f"{data} has no captions, which the text tower learns from; add them (pairs.jsonl), or recover the image "
            "tower alone (`tower='image'`)"
        )


@dataclass(frozen=True)
class RecoveryPlan:
    """A request with the source whose towers are trained, and the target, settled, whose grids they are trained on."""

    source: Source
    target: Target
    request: RecoveryRequest

    @property
    def work(self) -> Path:
        """Where the original's embeddings are kept."""
        return self.request.work or self.request.output.with_suffix(".embeddings")

    @property
    def existing(self) -> Existing:
        """What becomes of embeddings that stand there."""
        if self.request.work is not None:
            return "replace" if self.request.force else "continue"
        return "discard" if self.request.force else "replace"  # its own, and worth nothing to anybody else


def plan_recovery(request: RecoveryRequest, source: Source) -> RecoveryPlan:
    """Decide what the checkpoint decides, before anything runs.

    Raises:
        UsageError: a tower that the checkpoint lacks, or a checkpoint that was recovered before.
    """
    for tower in request.precisions:
        if tower not in source.model.towers:
            raise UsageError(f"this checkpoint has no {tower} tower; recover the one it has (`tower`)")
    # What one tower needs decides how the other is stored.
    target = get_target(request.target).settled(request.precisions)
    if source.provenance.recovered is not None:
        raise UsageError(f"{source.provenance.file} was recovered before; give the checkpoint it was made from")
    return RecoveryPlan(source, target, request)
