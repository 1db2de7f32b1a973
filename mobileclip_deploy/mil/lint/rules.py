"""All rules, and those on a package as a whole."""

from __future__ import annotations

from mobileclip_deploy.mil.lint import sources
from mobileclip_deploy.mil.lint.numerics import NUMERICS
from mobileclip_deploy.mil.lint.placement import PLACEMENT
from mobileclip_deploy.mil.lint.rule import DeviceOperation, Rule
from mobileclip_deploy.mil.program import Program

__all__ = ["PACKAGE_RULES", "RULES"]

RULES: tuple[Rule[DeviceOperation], ...] = (*PLACEMENT, *NUMERICS)

_MAX_BYTES = 2**30


def _size(program: Program) -> str | None:
    size = sum(weight.bytes for weight in program.weights)
    return f"{size / 2**30:.2f} GiB of weights" if size > _MAX_BYTES else None


def _flexible_input(program: Program) -> str | None:
    flexible = [port.name for port in program.inputs if port.shapes or port.ranges or None in port.shape]
    return f"input {', '.join(flexible)}" if flexible else None


PACKAGE_RULES: tuple[Rule[Program], ...] = (
    Rule(
        "flexible-input",
        "risk",
        "With a flexible shape only the default one runs there, or none",
        (sources.FLEXIBLE_SHAPES, sources.FLEXIBLE_BATCH, sources.ENUMERATED),
        _flexible_input,
    ),
    Rule("size", "risk", "Large models are not placed there at all", (sources.MODEL_SIZE,), _size),
)
