"""Every op computes what its definition says and, where coremltools infers values, what it infers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from targets.mil import (
    cases_convolution_and_attention,
    cases_elementwise,
    cases_normalization_and_reduction,
    cases_tensor,
)
from targets.mil.programs import Case, assert_close, evaluate, inferred

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.ops import OPS, axes, pointwise, products

Results = list[tuple[np.ndarray, ...]]
CASES = [
    *cases_convolution_and_attention.CASES,
    *cases_elementwise.CASES,
    *cases_normalization_and_reduction.CASES,
    *cases_tensor.CASES,
]


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


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return evaluate_all(CASES, tmp_path_factory.mktemp("ops"))


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_op_equals_its_definition(index: int, results: Results) -> None:
    check_definition(CASES[index], results[index])


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_op_equals_coremltools_value_inference(index: int, results: Results) -> None:
    check_inference(CASES[index], results[index])


@pytest.mark.parametrize("axis", [-4, 3])
def test_an_axis_that_a_value_has_not_is_refused(axis: int) -> None:
    """A device refuses such a package; counted from the front again it would be another axis."""
    x, index = torch.zeros(2, 3, 4), torch.zeros(1, dtype=torch.int32)
    asked: list[Callable[[], object]] = [
        lambda: axes.gather(x, index, axis),  # type: ignore[arg-type]
        lambda: axes.layer_norm(x, (axis,)),
        lambda: axes.expand_dims(x, (axis - 1 if axis < 0 else axis + 1,)),
    ]
    for one in asked:
        with pytest.raises(InvalidInput, match="outside a value of rank"):
            one()


def test_forms_that_no_package_of_ours_holds_are_refused() -> None:
    x, index, half = torch.zeros(1, 2, 3, 4), torch.zeros(1, dtype=torch.int32), torch.zeros(2)
    asked: list[Callable[[], object]] = [
        lambda: axes.gather(x, index, 1, batch_dims=1),  # type: ignore[arg-type]
        lambda: axes.gather(x, index - 1),  # type: ignore[arg-type]
        lambda: axes.concat([x, x], 1, interleave=True),
        lambda: OPS["reduce_sum"].function(index, (0,)),
        lambda: products.conv(x, torch.zeros(2, 2, 1, 1), pad_type="same"),
        lambda: products.conv(x[0], torch.zeros(2, 2, 1)),
        lambda: pointwise.quantize(x, half, "int8"),
        lambda: pointwise.dequantize(index, torch.ones(()), half),
    ]
    for one in asked:
        with pytest.raises(InvalidInput, match=r"not evaluated|out of range"):
            one()
