"""Linting a program: every rule on every operation, with values where the program can be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mobileclip_deploy.mil.description import Operation
from mobileclip_deploy.mil.lint.devices import DEFAULT_DEVICE, find_device
from mobileclip_deploy.mil.lint.report import LintedOperation, LintReport, RuleText, findings_of, switches
from mobileclip_deploy.mil.lint.rule import DeviceOperation
from mobileclip_deploy.mil.lint.rules import PACKAGE_RULES, RULES
from mobileclip_deploy.mil.program import Program

__all__ = ["lint", "measure"]


def lint(program: Program, device: str = DEFAULT_DEVICE, inputs: Mapping[str, Any] | None = None) -> LintReport:
    """Apply every rule to every operation.

    Args:
        program: as loaded; `evaluate=False` suffices without `inputs`.
        device: a chip of `DEVICES`; the strictest when absent.
        inputs: as for calling the program. With them it is evaluated once, and the rules on ranges of values apply too.

    Raises:
        UsageError: no such device.
        InvalidInput: the program cannot be evaluated on the inputs.
    """
    chip = find_device(device)
    magnitudes = measure(program, inputs) if inputs is not None else {}
    operations = tuple(_lint(DeviceOperation(operation, chip, magnitudes)) for operation in program.operations)
    package = findings_of(PACKAGE_RULES, program)
    broken = {finding.rule for op in operations for finding in op.findings} | {finding.rule for finding in package}
    return LintReport(
        package=program.path.name,
        function=program.function,
        device=chip.name,
        evaluated=inputs is not None,
        operations=operations,
        package_findings=package,
        switches=switches(operations),
        rules=tuple(RuleText.of(rule) for rule in PACKAGE_RULES if rule.name in broken)
        + tuple(RuleText.of(rule) for rule in RULES if rule.name in broken),
    )


def measure(program: Program, inputs: Mapping[str, Any]) -> dict[str, float]:
    """The largest absolute value of each floating-point result, computed in float32 so that an overflow is seen."""
    magnitudes = {}
    for step in program.trace(inputs, "float32"):
        for name, value in step.values.items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and array.size:
                magnitudes[name] = float(np.abs(array).max())
    return magnitudes


def _lint(on_device: DeviceOperation) -> LintedOperation:
    operation: Operation = on_device.operation
    return LintedOperation.of(operation.name, operation.type, operation.weight_bytes, findings_of(RULES, on_device))
