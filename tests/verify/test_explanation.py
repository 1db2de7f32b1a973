"""Comparison of two programs, and of a float16 one with its float32 twin, on small programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from targets.mil.programs import build

from mobileclip_deploy.targets import get_target
from mobileclip_deploy.verify.reports.explanation import Explanation, Followed, compare_programs, drift

SQUARE = np.arange(9, dtype=np.float32).reshape(3, 3)
FEED = {"x": np.ones((1, 3), np.float32)}


def program(path: Path, name: str, body: Any, dtype: str = "float32") -> Followed:
    return Followed.read(get_target("coreml").open(build(path / f"{name}.mlpackage", {"x": ((1, 3), dtype)}, body)))


def two_layers(weight: np.ndarray[Any, Any] = SQUARE, relu: bool = True, first: str = "first") -> Any:
    def body(mb: Any, x: Any) -> Any:
        x = mb.linear(x=x, weight=weight, name=first)
        x = mb.relu(x=x, name="between") if relu else x
        return mb.linear(x=x, weight=SQUARE, name="last")

    return body


def compared(path: Path, body: Any, other: Any) -> Explanation:
    """What tells a program from another one."""
    return compare_programs("text", program(path, "a", body), program(path, "b", other), [FEED])


@pytest.mark.parametrize("first", ["first", "other"])
def test_equal_programs_do_not_differ_whatever_their_operations_are_called(first: str, tmp_path: Path) -> None:
    assert compared(tmp_path, two_layers(first=first), two_layers()).finding == "none"


def test_a_weight_is_named_with_what_it_does_to_the_result(tmp_path: Path) -> None:
    found = compared(tmp_path, two_layers(SQUARE * 1.5), two_layers())
    assert (found.operation, found.position, found.operations, found.before) == ("first", 1, 3, None)
    assert found.detail == "its weight is off by 5.0e-01 (relative), in 8 of 9 elements"
    assert found.relative == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("relu", "operation", "detail"),
    [
        (False, "last", "is relu 'between' in a new conversion"),
        (True, "between", "is linear 'last' in a new conversion"),
    ],
)
def test_an_operation_that_only_one_has_is_named(tmp_path: Path, relu: bool, operation: str, detail: str) -> None:
    found = compared(tmp_path, two_layers(relu=relu), two_layers(relu=not relu))
    assert (found.operation, found.detail, found.before) == (operation, detail, "first")


def test_the_interface_is_compared_first(tmp_path: Path) -> None:
    def wide(mb: Any, x: Any) -> Any:
        return mb.concat(values=[x, x], axis=1)

    found = compared(tmp_path, wide, two_layers())
    assert found.finding == "interface"
    assert "output" in found.describe()


def test_drift_names_the_first_operation_that_precision_moves(tmp_path: Path) -> None:
    def body(number: Any) -> Any:
        def cancel(mb: Any, x: Any) -> Any:
            large = mb.add(x=x, y=number(2048), name="large")
            return mb.sub(x=large, y=number(2048), name="difference")

        return cancel

    feed = {"x": np.full((1, 3), 0.3, np.float32)}
    half = program(tmp_path, "a", body(np.float16), "float16")
    found = drift("text", half, half, program(tmp_path, "b", body(np.float32)), [feed])
    assert (found.finding, found.operation, found.before) == ("precision", "difference", "large")
    assert found.relative == pytest.approx(1)
