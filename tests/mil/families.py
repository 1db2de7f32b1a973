"""Runs a table of cases in one program an opset, and compares each with its definition and with coremltools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mil.programs import Case, assert_close, evaluate, inferred

Results = list[tuple[np.ndarray, ...]]


def evaluate_all(cases: list[Case], folder: Path) -> Results:
    """The results of each case; cases of one opset share a package."""
    results: dict[int, tuple[np.ndarray, ...]] = {}
    for opset in sorted({case.opset for case in cases}):
        chosen = [index for index, case in enumerate(cases) if case.opset == opset]
        computed = evaluate([cases[index] for index in chosen], folder / f"ops{opset}.mlpackage")
        results |= dict(zip(chosen, computed, strict=True))
    return [results[index] for index in range(len(cases))]


def check_definition(case: Case, actual: tuple[np.ndarray, ...]) -> None:
    """Compare with the definition written in the case."""
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    assert len(actual) == len(expected)
    for have, want in zip(actual, expected, strict=True):
        want = np.asarray(want)
        assert_close(have, want.astype(np.float32) if want.dtype.kind == "f" else want, case.tolerance)


def check_inference(case: Case, actual: tuple[np.ndarray, ...]) -> None:
    """Compare with coremltools' value inference, where the op has one."""
    values = inferred(case) if case.infer else None
    if values is not None:
        for have, want in zip(actual, values, strict=True):
            assert_close(have, want.reshape(have.shape).astype(want.dtype), 1e-5)
