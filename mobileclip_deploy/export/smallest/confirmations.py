"""Several candidates whose accuracy is confirmed on the same images: what is asked of each, and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from mobileclip_deploy.errors import GateFailed, Undecided
from mobileclip_deploy.evaluation import Looks
from mobileclip_deploy.export.smallest.candidates import Candidate
from mobileclip_deploy.export.smallest.trials import Trials
from mobileclip_deploy.files import write_whole
from mobileclip_deploy.parity import Gates, ParityReport

__all__ = ["Confirmations", "doubted", "widening"]

# Of the 5% that an interval may be wrong the first confirmation has half, the next half of what is left, and so on: all
# of them together stay below it, however many there are.
WRONG = 0.05


def widening(confirmation: int) -> float:
    """By what an interval of 95% is multiplied, of candidate number 1, 2, 3, ... to be confirmed on the same images.

    Bonferroni's correction, with unequal shares since nobody knows how many there will be: 1.14, 1.27, 1.40, ...
    """
    normal = NormalDist()
    return normal.inv_cdf(1 - WRONG / 2 ** (confirmation + 1)) / normal.inv_cdf(1 - WRONG / 2)


def doubted(report: ParityReport, confirmation: int, gates: Gates) -> str | None:
    """Why a bundle that passed by itself does not as this number of those that its images were asked for, in words."""
    times = widening(confirmation)
    losses = {name: lost for check in report.checks for name, lost in (check.losses or {}).items()}
    for name, lost in losses.items():
        if not gates.allow_drop(lost.points + times * lost.error):
            return (
                f"{name} drops {lost.points:+.2f} \N{PLUS-MINUS SIGN} {times * lost.error:.2f} points, the interval "
                f"{times:.2f} times as wide as of one candidate alone, since it is number {confirmation} that these "
                "images were asked for"
            )
    return None


@dataclass(frozen=True)
class Confirmations:
    """How candidates ended that were confirmed before, so that a search that was stopped does not write them again."""

    trials: Trials
    task: Looks | None
    number: int

    @property
    def _file(self) -> Path:
        return self.trials.folder / "confirmations.json"

    def _key(self, candidate: Candidate) -> str:
        """All that the outcome depends on and the folder is not named after."""
        images = None if self.task is None else (self.task.dataset.name, len(self.task.dataset.images))
        labels = [choice.label for choice in candidate.choices]
        gates = self.trials.plan.gates
        return json.dumps([labels, gates.recorded(), images, self.number])

    def of(self, candidate: Candidate) -> GateFailed | Undecided | None:
        """How it ended; None where that is not known."""
        found = self._read().get(self._key(candidate))
        if found is None:
            return None
        outcome, reason = found
        return GateFailed(reason) if outcome == GateFailed.kind else Undecided(reason)

    def keep(self, candidate: Candidate, error: GateFailed | Undecided) -> None:
        """Write down how it ended."""
        self.trials.folder.mkdir(parents=True, exist_ok=True)
        found = self._read() | {self._key(candidate): [error.kind, str(error)]}
        write_whole(self._file, json.dumps(found).encode())

    def _read(self) -> dict[str, list[str]]:
        if not self._file.exists():
            return {}
        found: dict[str, list[str]] = json.loads(self._file.read_bytes())
        return found
