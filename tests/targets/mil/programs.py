"""Small ML programs for the tests: written by coremltools' builder, saved, and loaded by the evaluator."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.targets.mil import load
from mobileclip_deploy.targets.vendor_internals.coremltools import import_coremltools


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """coremltools without its warnings and progress bars."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


with quiet():
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, types

TARGETS = {16: ct.target.iOS16, 17: ct.target.iOS17, 18: ct.target.iOS18, 26: ct.target.iOS26}
_TYPES = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32, "bool": types.bool}


def save(prog: Any, path: Path, opset: int = 17, precision: str = "float32", **options: Any) -> Path:
    """Write a program of coremltools' builder, or a torch program, as a package."""
    with quiet():
        model = ct.convert(
            prog,
            minimum_deployment_target=TARGETS[opset],
            compute_precision=ct.precision.FLOAT16 if precision == "float16" else ct.precision.FLOAT32,
            skip_model_load=True,
            **options,
        )
        model.save(str(path))
    return path


def build(
    path: Path, inputs: Mapping[str, tuple[tuple[int, ...], str]], body: Any, opset: int = 17, **options: Any
) -> Path:
    """Write the program that `body(mb, **inputs)` builds, with no graph pass applied to it."""
    with quiet():
        specs = [mb.TensorSpec(shape=shape, dtype=_TYPES[dtype]) for shape, dtype in inputs.values()]

        def function(*args: Any) -> Any:
            return body(mb, *args)

        function = _named(function, list(inputs))
        prog = mb.program(input_specs=specs, opset_version=TARGETS[opset])(function)
    options.setdefault("pass_pipeline", ct.PassPipeline.EMPTY)
    return save(prog, path, opset, **options)


def _named(function: Any, names: list[str]) -> Any:
    """The builder takes the names of inputs from the function's parameters."""
    scope: dict[str, Any] = {"function": function}
    exec(f"def named({', '.join(names)}):\n    return function({', '.join(names)})", scope)
    return scope["named"]


@dataclass
class Case:
    """An op on given values, and what it must yield.

    Attributes:
        op: the op type.
        tensors: inputs that are tensors at run time; a list for a variadic input.
        constants: inputs that are constants.
        expected: the result by the op's definition, written in numpy; several in a tuple. None where only
            coremltools' own value inference is compared with.
        opset: of the program.
        tolerance: relative and absolute.
        label: tells cases of one op apart.
        infer: whether coremltools' value inference is compared with too.
    """

    op: str
    tensors: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)
    expected: Any = None
    opset: int = 17
    tolerance: float = 2e-6
    label: str = ""
    infer: bool = True

    def __str__(self) -> str:
        details = "-".join(f"{k}={v}" for k, v in self.constants.items() if np.size(v) < 5)
        return f"{self.op}-{self.label or details}-{self.opset}".replace(" ", "")


def _entries(cases: list[Case]) -> dict[str, np.ndarray]:
    """Each tensor of each case as an input of the program; equal ones share one."""
    entries = {}
    for index, case in enumerate(cases):
        for name, value in case.tensors.items():
            for part, array in enumerate(value if isinstance(value, list) else [value]):
                entries[f"i{index}_{name}_{part}"] = np.asarray(array)
    return entries


def evaluate(cases: list[Case], path: Path, precision: str = "float32") -> list[tuple[np.ndarray, ...]]:
    """Write all cases (of one opset) as one program, and evaluate it: the results of each."""
    entries = _entries(cases)
    carried = {name: array.astype(np.int32) if array.dtype == bool else array for name, array in entries.items()}
    shapes = {name: (array.shape or (1,), array.dtype.name) for name, array in carried.items()}

    def body(mb: Any, *args: Any) -> Any:
        given = dict(zip(entries, args, strict=True))
        for name, array in entries.items():
            if array.shape == ():
                given[name] = mb.squeeze(x=given[name])
            if array.dtype == bool:
                given[name] = mb.cast(x=given[name], dtype="bool")
        for index, case in enumerate(cases):
            bound = {
                name: [given[f"i{index}_{name}_{part}"] for part in range(len(value))]
                if isinstance(value, list)
                else given[f"i{index}_{name}_0"]
                for name, value in case.tensors.items()
            }
            getattr(mb, case.op)(**bound, **case.constants, name=f"case{index}")
        return mb.squeeze(x=mb.expand_dims(x=args[0], axes=[0]), axes=[0])

    program = load(build(path, shapes, body, cases[0].opset))
    inputs = {name: array.reshape(array.shape or (1,)) for name, array in carried.items()}
    by_name = {}
    for step in program.trace(inputs, precision):
        by_name[step.operation.name] = tuple(step.values.values())
    return [by_name[f"case{index}"] for index in range(len(cases))]


def inferred(case: Case) -> tuple[np.ndarray, ...] | None:
    """What coremltools' own value inference yields for the case, where the op has one."""
    copies = {  # some of its definitions write into their input
        name: [np.array(part) for part in value] if isinstance(value, list) else np.array(value)
        for name, value in case.tensors.items()
    }
    with quiet(), Function({}, opset_version=TARGETS[case.opset]):
        outputs = getattr(mb, case.op)(**copies, **case.constants)
    outputs = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
    if any(output.val is None for output in outputs):
        return None
    return tuple(np.asarray(output.val) for output in outputs)


def assert_close(actual: Any, expected: Any, tolerance: float = 2e-6) -> None:
    """Same shape and kind, equal where exact, else close relative to the largest element; infinities in place."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert (actual.dtype.kind == "f") == (expected.dtype.kind == "f"), (actual.dtype, expected.dtype)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance * max(scale, 1e-3)
    )
