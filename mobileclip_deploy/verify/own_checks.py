"""Checks from other packages. They are registered as entry points and run after the built-in checks. Each has a gate
that `--gate` sets."""

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
    """A check from another package. The entry point's name is also the name of the check and of its gate.

    Attributes:
        run: yields the checks of one tower, for the given bound. A check that cannot run here is `Check.not_run`,
            never left out.
        bound: default bound, which `--gate NAME=NUMBER` overrides.
    """

    run: Callable[[Subject, TowerName, float], Iterable[Check]]
    bound: float

    def checks(self, name: str, subject: Subject, tower: TowerName, bound: float) -> Iterator[Check]:
        """Yields the checks of a tower. An exception becomes a failed check with its text, and the other checks still
        run."""
        try:
            yield from self.run(subject, tower, bound)
        except NotRun as error:
            yield Check.not_run(name, tower, error.line)
        except Exception as error:  # code of other packages may raise anything
            detail = f"the check itself failed: {type(error).__name__}: {first_sentence(error)}"
            yield Check.failed(name, tower, detail)


def own_checks() -> dict[str, OwnCheck]:
    """Returns the checks of all installed packages, by name.

    Raises:
        DependencyMissing: a registered check cannot be loaded.
    """
    checks = {}
    for entry in sorted(entry_points(group=OWN_CHECKS), key=lambda one: one.name):
        try:
            check = entry.load()
        except Exception as error:  # importing other packages may raise anything
            reason = first_sentence(error)
            raise DependencyMissing(f"the check {entry.name!r} ({entry.value}) cannot be loaded: {reason}") from error
        if not isinstance(check, OwnCheck):
            raise DependencyMissing(f"the check {entry.name!r} ({entry.value}) is not an OwnCheck; correct its package")
        checks[entry.name] = check
    return checks
