"""Rules: a statement of a public source, and the test whether an operation violates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from mobileclip_deploy.targets.mil.lint.devices import Device

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil.description import Argument, Operation

Looked = TypeVar("Looked")
Check = Callable[[Looked], str | None]
Level = Literal["leaves", "risk", "advice"]
"""Severity of a finding. "leaves": the op will leave the Neural Engine. "risk": it may leave, or compute wrongly there.
"advice": it could be better."""


@dataclass(frozen=True)
class RuleSource:
    """Title and address of a rule's source."""

    title: str
    url: str


@dataclass(frozen=True)
class DeviceOperation:
    """An operation and the device that it is to run on.

    Attributes:
        operation: as the program describes it.
        device: the chip it is to run on.
        magnitudes: the largest absolute value of each result when the program was evaluated; empty if it was not.
    """

    operation: Operation
    device: Device
    magnitudes: Mapping[str, float] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return self.operation.type

    @property
    def result(self) -> Argument:
        """The first result."""
        return self.operation.outputs[0]

    @property
    def sources(self) -> tuple[Argument, ...]:
        """Inputs that are computed at run time."""
        return tuple(
            argument for bound in self.operation.inputs.values() for argument in bound if not argument.constant
        )

    @property
    def rank(self) -> int:
        """Highest rank among computed inputs and results."""
        return max(len(argument.shape) for argument in (*self.sources, *self.operation.outputs))

    def argument(self, name: str) -> Argument | None:
        """Returns an input by the name of its parameter. None if it is not bound to one value."""
        bound = self.operation.inputs.get(name, ())
        return bound[0] if len(bound) == 1 else None

    def integers(self, name: str) -> tuple[int, ...]:
        """Returns a constant input as integers; () if it is absent or not constant."""
        value = self.operation.constant(name)
        return () if value is None else tuple(int(item) for item in value.reshape(-1))

    def largest(self) -> float | None:
        """Returns the largest absolute value among the results. None if the program was not evaluated."""
        names = [out.name for out in self.operation.outputs if out.name is not None]
        seen = [self.magnitudes[name] for name in names if name in self.magnitudes]
        return max(seen) if seen else None


@dataclass(frozen=True)
class Rule(Generic[Looked]):
    """One rule, on an operation of Core ML or of another format, or on a program as a whole.

    Attributes:
        name: a short name, unique among rules.
        level: severity of a finding.
        text: the source's statement, in one line.
        sources: the sources of the statement.
        check: returns the offending detail of its argument. None if the rule is not violated.
    """

    name: str
    level: Level
    text: str
    sources: tuple[RuleSource, ...]
    check: Check[Looked]


class Rules(list[Rule[Looked]]):
    """Rules in the order in which their checks are written, the worst first."""

    def add(self, name: str, level: Level, text: str, *sources: RuleSource) -> Callable[[Check[Looked]], Check[Looked]]:
        """Returns a decorator that makes a check a rule. See `Rule`."""

        def added(check: Check[Looked]) -> Check[Looked]:
            self.append(Rule(name, level, text, sources, check))
            return check

        return added
