"""The gates: what an artifact must hold to pass, in one table, each overridable, all failing closed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.parity.metrics import Deviation

__all__ = ["Gates", "parse_gates", "passes"]


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

    def shipped(self, precision: str) -> tuple[str, float]:
        """Metric and bound for an artifact as written."""
        recipe = PRECISIONS[precision]
        override = self.relative if recipe.metric == "relative" else self.cosine
        return recipe.metric, recipe.gate if override is None else override


def passes(deviation: Deviation, metric: str, bound: float) -> bool:
    """Whether a deviation is within a bound; anything that is not a number is not."""
    value = deviation.value(metric)
    return value >= bound if metric == "cosine" else value <= bound


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
