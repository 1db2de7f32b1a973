"""Linting a program: every rule on every operation, with values where the program can be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mobileclip_deploy.mil.lint.devices import DEFAULT_DEVICE, find_device
from mobileclip_deploy.mil.lint.report import LintedOperation, LintReport, RuleText, findings_of
from mobileclip_deploy.mil.lint.rule import DeviceOperation
from mobileclip_deploy.mil.lint.rules import PACKAGE_RULES, RULES
from mobileclip_deploy.mil.program import Program


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
    operations = [
        LintedOperation.of(
            operation.name,
            operation.type,
            operation.weight_bytes,
            findings_of(RULES, DeviceOperation(operation, chip, magnitudes)),
        )
        for operation in program.operations
    ]
    rules = [*map(RuleText.of, PACKAGE_RULES), *map(RuleText.of, RULES)]
    package = findings_of(PACKAGE_RULES, program)
    return LintReport.of(
        program.path.name, (program.function, chip.name), operations, rules, package, evaluated=inputs is not None
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
