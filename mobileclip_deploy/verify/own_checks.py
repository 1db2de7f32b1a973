"""Checks of other packages: registered as entry points, run behind ours, each with a gate that `--gate` sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points

from mobileclip_deploy.errors import DependencyMissing, NotRun, first_sentence
from mobileclip_deploy.network.model.own_gates import OWN_CHECKS
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import Subject


@dataclass(frozen=True)
class OwnCheck:
    """A check that a package brings. Its name, that of its gate too, is the entry point's.

    Attributes:
        run: gives the checks of one tower, held against the bound that it is handed. What could not be run here is
            `Check.not_run`, never left out.
        bound: what it is held against unless `--gate NAME=NUMBER` says otherwise.
    """

    run: Callable[[Subject, TowerName, float], Iterable[Check]]
    bound: float

    def checks(self, name: str, subject: Subject, tower: TowerName, bound: float) -> Iterator[Check]:
        """What it finds of a tower. One that raises is failed, and says what it raised: the others go on."""
        try:
            yield from self.run(subject, tower, bound)
        except NotRun as error:
            yield Check.not_run(name, tower, error.line)
        except Exception as error:  # whatever somebody's package raises
            detail = f"the check itself failed: {type(error).__name__}: {first_sentence(error)}"
            yield Check(step=name, tower=tower, status="failed", detail=detail)


def own_checks() -> dict[str, OwnCheck]:
    """Those of all installed packages, by name.

    Raises:
        DependencyMissing: a package registers one that cannot be loaded.
    """
    found = {}
    for entry in sorted(entry_points(group=OWN_CHECKS), key=lambda one: one.name):
        try:
            check = entry.load()
        except Exception as error:  # whatever somebody's package raises when it is imported
            reason = first_sentence(error)
            raise DependencyMissing(f"the check {entry.name!r} ({entry.value}) cannot be loaded: {reason}") from error
        if not isinstance(check, OwnCheck):
            raise DependencyMissing(f"the check {entry.name!r} ({entry.value}) is no OwnCheck; correct its package")
        found[entry.name] = check
    return found
