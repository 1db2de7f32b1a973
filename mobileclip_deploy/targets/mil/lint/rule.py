"""What a rule is: a statement of a public source, and the test whether an operation falls under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from mobileclip_deploy.targets.mil.description import Argument, Operation
from mobileclip_deploy.targets.mil.lint.devices import Device

Looked = TypeVar("Looked")
Check = Callable[[Looked], str | None]
Level = Literal["leaves", "risk", "advice"]
"""What a finding says: the op will leave the Neural Engine; it may, or may answer wrongly there; it could be better."""


@dataclass(frozen=True)
class Source:
    """Where a rule comes from: a title and an address."""

    title: str
    url: str


@dataclass(frozen=True)
class DeviceOperation:
    """An operation and the device that it is to run on.

    Attributes:
        operation: as the program describes it.
        device: the chip it is to run on.
        magnitudes: the largest absolute value seen of each result when the program was evaluated; empty if it was not.
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
        """The inputs that are computed at run time."""
        return tuple(
            argument for bound in self.operation.inputs.values() for argument in bound if not argument.constant
        )

    @property
    def rank(self) -> int:
        """The highest among what is computed and taken."""
        return max(len(argument.shape) for argument in (*self.sources, *self.operation.outputs))

    def argument(self, name: str) -> Argument | None:
        """An input by the name of its parameter, None where it is not bound to one value."""
        bound = self.operation.inputs.get(name, ())
        return bound[0] if len(bound) == 1 else None

    def integers(self, name: str) -> tuple[int, ...]:
        """A constant input as integers; () where it is absent or not constant."""
        value = self.operation.constant(name)
        return () if value is None else tuple(int(item) for item in value.reshape(-1))

    def largest(self) -> float | None:
        """The largest absolute value seen among the results, None where the program was not evaluated."""
        names = [out.name for out in self.operation.outputs if out.name is not None]
        seen = [self.magnitudes[name] for name in names if name in self.magnitudes]
        return max(seen) if seen else None


@dataclass(frozen=True)
class Rule(Generic[Looked]):
    """One rule, on an operation of Core ML or of another format, or on a program as a whole: what it looks at.

    Attributes:
        name: a short name, unique among rules.
        level: what a finding means.
        text: what the source says, in one line.
        sources: where it says so.
        check: for what falls under the rule, what of it does; None for anything else.
    """

    name: str
    level: Level
    text: str
    sources: tuple[Source, ...]
    check: Check[Looked]


class Rules(list[Rule[Looked]]):
    """Rules in the order in which their checks are written, the worst first."""

    def add(self, name: str, level: Level, text: str, *sources: Source) -> Callable[[Check[Looked]], Check[Looked]]:
        """Make the decorated check a rule. See `Rule`."""

        def added(check: Check[Looked]) -> Check[Looked]:
            self.append(Rule(name, level, text, sources, check))
            return check

        return added
