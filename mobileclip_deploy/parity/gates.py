"""The gates: what an artifact must hold to pass, in one table, each overridable, all failing closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.parity.metrics import Deviation

__all__ = ["Bound", "Gates", "exported_gates", "parse_gates", "passes"]

# How far a probability may be from the checkpoint's: in float32 arithmetic (a logit is a cosine times up to 100), and
# by the bits of a weight. A probability near one half moves by a quarter of what its logit moves, and at a logit scale
# of 100 a cosine that is off by 0.01 moves a logit by 1. Where one label leads by more than twice that, it stays.
PROBABILITIES = {32: 1e-3, 16: 0.02, 8: 0.1}
COARSE = 0.2


class Bound(NamedTuple):
    """What is held against what: `relative`, `cosine` (of embeddings) or `probabilities` (their largest difference)."""

    metric: str
    value: float


@dataclass(frozen=True)
class Gates:
    """Bounds of the two steps and of the task.

    `semantic`: relative deviation of folded model, tower and float32 twin. `relative` and `cosine` replace the bound
    that the artifact's precision has; None leaves it. `task`: points of top-1 or recall@1 an artifact may lose.
    """

    semantic: float = 1e-5
    relative: float | None = None
    cosine: float | None = None
    task: float = 0.5

    def exact(self, probabilities: bool = False) -> Bound:
        """For float32 arithmetic: folded model, tower, twin."""
        return Bound("probabilities", PROBABILITIES[32]) if probabilities else Bound("relative", self.semantic)

    def shipped(self, precision: str, probabilities: bool = False) -> Bound:
        """For an artifact as written."""
        recipe = PRECISIONS[precision]
        if probabilities:
            return Bound("probabilities", COARSE if recipe.calibrated else PROBABILITIES.get(recipe.bits, COARSE))
        override = self.relative if recipe.metric == "relative" else self.cosine
        return Bound(recipe.metric, recipe.gate if override is None else override)

    def allow_drop(self, points: float) -> bool:
        """Whether so many points of accuracy may be lost; what is not a number may not."""
        return points <= self.task

    def recorded(self) -> str | None:
        """The bounds that were replaced, as the command line takes them; None where none was."""
        usual = Gates()
        pairs = [(own.name, getattr(self, own.name)) for own in fields(self)]
        return ",".join(f"{name}={value!r}" for name, value in pairs if value != getattr(usual, name)) or None


def passes(deviation: Deviation, metric: str, bound: float) -> bool:
    """Whether a deviation is within a bound; anything that is not a number is not."""
    value = deviation.value(metric)
    return value >= bound if metric == "cosine" else value <= bound


def exported_gates(recorded: Mapping[str, str]) -> Gates:
    """The gates that a bundle was exported with, from the options in its manifest."""
    return parse_gates(recorded["gates"].split(",")) if "gates" in recorded else Gates()


def parse_gates(texts: Iterable[str]) -> Gates:
    """`semantic=3e-4`, `cosine=0.99`, ... -> gates.

    Raises:
        UsageError: unknown name or not a finite number.
    """
    gates = Gates()
    known = list(gates.__dataclass_fields__)
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if name not in known or not abs(number) < float("inf"):
            raise UsageError(f"gate {text!r}: write NAME=NUMBER, with NAME one of {', '.join(known)}")
        gates = replace(gates, **{name: number})
    return gates
