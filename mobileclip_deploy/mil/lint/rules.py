"""All rules, and those on a package as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobileclip_deploy.mil.lint import sources
from mobileclip_deploy.mil.lint.numerics import NUMERICS
from mobileclip_deploy.mil.lint.placement import PLACEMENT
from mobileclip_deploy.mil.lint.rule import Level, Rule, Source
from mobileclip_deploy.mil.program import Program

__all__ = ["PACKAGE_RULES", "RULES", "PackageRule"]

RULES: tuple[Rule, ...] = (*PLACEMENT, *NUMERICS)

_MAX_BYTES = 2**30


@dataclass(frozen=True)
class PackageRule:
    """A rule on a program as a whole; see `Rule`."""

    name: str
    level: Level
    text: str
    sources: tuple[Source, ...]
    check: Callable[[Program], str | None]


def _size(program: Program) -> str | None:
    size = sum(weight.bytes for weight in program.weights)
    return f"{size / 2**30:.2f} GiB of weights" if size > _MAX_BYTES else None


def _flexible_input(program: Program) -> str | None:
    flexible = [port.name for port in program.inputs if port.shapes or port.ranges or None in port.shape]
    return f"input {', '.join(flexible)}" if flexible else None


PACKAGE_RULES = (
    PackageRule(
        "flexible-input",
        "risk",
        "With a flexible shape only the default one runs there, or none",
        (sources.FLEXIBLE_SHAPES, sources.FLEXIBLE_BATCH, sources.ENUMERATED),
        _flexible_input,
    ),
    PackageRule("size", "risk", "Large models are not placed there at all", (sources.MODEL_SIZE,), _size),
)
