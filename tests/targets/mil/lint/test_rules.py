"""Every rule fires on an op that falls under it, written by coremltools' builder, and not on its harmless sibling."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from targets.mil.programs import build

from mobileclip_deploy.targets.mil import Argument, Operation, Program, load
from mobileclip_deploy.targets.mil.lint.devices import find_device
from mobileclip_deploy.targets.mil.lint.report import LintReport, findings_of
from mobileclip_deploy.targets.mil.lint.rule import DeviceOperation
from mobileclip_deploy.targets.mil.lint.rules import PACKAGE_RULES, RULES, lint

Body = Callable[..., Any]


@dataclass
class Example:
    """A rule, a program that breaks it and one that does not; `values` are what both are evaluated on, if anything."""

    rule: str
    shape: tuple[int, ...]
    breaks: Body
    holds: Body
    dtype: str = "float16"
    device: str = "a14"
    other_device: str | None = None
    holds_shape: tuple[int, ...] | None = None
    values: np.ndarray[Any, Any] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.rule


def weights(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float16)


def integers(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int32)


def relu(mb: Any, x: Any) -> Any:
    return mb.relu(x=x)


def conv(width: int, dilation: int = 1) -> Body:
    def body(mb: Any, x: Any) -> Any:
        return mb.conv(x=x, weight=weights(2, 3, 1, width), dilations=[1, dilation], pad_type="same")

    return body


def linear(size: int) -> Body:
    return lambda mb, x: mb.linear(x=x, weight=weights(size, x.shape[-1]), bias=weights(size))


def half(mb: Any, x: Any) -> Any:
    return mb.cast(x=x, dtype="fp16")


def as_number(mb: Any, x: Any) -> Any:
    return mb.cast(x=mb.greater(x=x, y=np.float16(1)), dtype="fp16")


def batch_norm(mb: Any, x: Any) -> Any:
    return mb.batch_norm(x=x, mean=weights(3), variance=weights(3))


def infinite(mb: Any, x: Any) -> Any:
    return mb.add(x=x, y=np.array([-np.inf, 0.0], np.float16))


def quantized(mb: Any, x: Any) -> Any:
    small = mb.quantize(input=x, scale=np.float16(0.1), output_dtype="int8")
    return mb.dequantize(input=small, scale=np.float16(0.1))


EXAMPLES = [
    Example("gather", (1, 4), lambda mb, x: mb.gather(x=weights(9, 5), indices=x), half, dtype="int32"),
    Example(
        "no-hardware", (1, 4), lambda mb, x: mb.reduce_prod(x=x, axes=[1]), lambda mb, x: mb.reduce_sum(x=x, axes=[1])
    ),
    Example(
        "recurrent",
        (4, 1, 3),
        lambda mb, x: mb.gru(
            x=x, initial_h=weights(1, 2), weight_ih=weights(6, 3), weight_hh=weights(6, 2), bias=weights(6)
        )[0],
        relu,
    ),
    Example("sort", (1, 8), lambda mb, x: mb.topk(x=x, k=2)[0], relu),
    Example("float32", (1, 4), lambda mb, x: mb.relu(x=mb.cast(x=x, dtype="fp32")), relu),
    Example("integer", (1, 4), lambda mb, x: mb.cast(x=mb.equal(x=x, y=7), dtype="fp16"), half, dtype="int32"),
    Example(
        "rank-5",
        (1, 4),
        lambda mb, x: mb.reshape(x=x, shape=[1, 1, 1, 2, 2]),
        lambda mb, x: mb.reshape(x=x, shape=[1, 1, 2, 2]),
    ),
    Example("extent", (1, 20000), relu, relu, other_device="a16", holds_shape=(1, 16384)),
    Example(
        "argmax",
        (1, 4096),
        lambda mb, x: mb.reduce_argmax(x=x, axis=-1),
        lambda mb, x: mb.reduce_argmax(x=mb.slice_by_index(x=x, begin=[0, 0], end=[1, 2048]), axis=-1),
    ),
    Example("kernel-width", (1, 3, 1, 40), conv(15), conv(13)),
    Example("integer-cast", (1, 4), lambda mb, x: mb.cast(x=x, dtype="int32"), as_number),
    Example("dilation", (1, 3, 1, 40), conv(3, dilation=2), conv(3)),
    Example(
        "saturation",
        (1, 4),
        linear(5),
        lambda mb, x: linear(5)(mb, mb.mul(x=x, y=np.float16(0.5))),
        values=np.full((1, 4), 9000, np.float32),
    ),
    Example(
        "overflow", (1, 4), lambda mb, x: mb.mul(x=x, y=np.float16(8)), relu, values=np.full((1, 4), 9000, np.float32)
    ),
    Example("not-finite", (1, 2), infinite, relu),
    Example("linear", (1, 4), linear(5), relu),
    Example("batch-norm", (1, 3, 2, 2), batch_norm, relu),
    Example("narrow-last-axis", (1, 512, 16, 8), relu, lambda mb, x: mb.reshape(x=x, shape=[1, 512, 1, 128])),
    Example("int8-activations", (1, 4), quantized, relu, other_device="a17"),
]


ELSEWHERE = {"rank-above-5", "flexible-shape", "unknown-op"}  # coremltools does not write the first and the last


def report(path: Path, example: Example, body: Body, device: str, shape: tuple[int, ...]) -> LintReport:
    package = build(path, {"x": (shape, example.dtype)}, body)
    inputs = None if example.values is None else {"x": example.values}
    return lint(load(package, evaluate=inputs is not None), device, inputs)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_rule_finds_what_breaks_it_and_nothing_else(example: Example, tmp_path: Path) -> None:
    rule = next(rule for rule in RULES if rule.name == example.rule)
    broken = report(tmp_path / "breaks.mlpackage", example, example.breaks, example.device, example.shape)
    assert broken.found(rule.name)
    statuses = {op.status for op in broken.found(rule.name)}
    assert statuses <= {"leaves": {"leaves"}, "risk": {"risk", "leaves"}, "advice": {"ready", "risk"}}[rule.level]
    sources = {source.title: source.url for source in rule.sources}
    assert [text.sources for text in broken.rules if text.name == rule.name] == [sources]
    shape = example.holds_shape or example.shape
    held = report(tmp_path / "holds.mlpackage", example, example.holds, example.device, shape)
    assert not held.found(rule.name)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.other_device], ids=str)
def test_a_rule_of_some_chips_passes_on_the_others(example: Example, tmp_path: Path) -> None:
    assert example.other_device is not None
    other = report(tmp_path / "other.mlpackage", example, example.breaks, example.other_device, example.shape)
    assert not other.found(example.rule)


def operation(type: str, *shape: int | None) -> Operation:
    """An operation as the evaluator describes it, for what coremltools' builder does not write."""
    argument = Argument("x", "float16", shape, constant=False)
    return Operation(type, "op", {"x": (argument,)}, (Argument("y", "float16", shape, constant=False),), 0, {})


def found(operation: Operation) -> set[str]:
    on_device = DeviceOperation(operation, find_device("m1"))
    return {rule.name for rule in RULES if rule.check(on_device) is not None}


def test_ranks_above_five_leave_and_what_is_unknown_is_a_risk() -> None:
    assert found(operation("relu", 1, 1, 1, 1, 1, 4)) == {"rank-above-5"}
    assert found(operation("invented", 1, 4)) == {"unknown-op"}
    assert found(operation("relu", None, 4)) == {"flexible-shape"}


def test_every_rule_has_an_example_and_a_source() -> None:
    assert {example.rule for example in EXAMPLES} | ELSEWHERE == {rule.name for rule in RULES}
    assert all(rule.sources and all(source.url.startswith("https://") for source in rule.sources) for rule in RULES)


@pytest.mark.parametrize(
    ("megabytes", "rules"),
    [(599, []), (643, ["size-crash"]), (1100, ["size", "size-crash"])],
    ids=["small", "mobileclip2_s4", "gibibyte"],
)
def test_a_large_package_is_a_risk_from_the_size_that_crashed(megabytes: int, rules: list[str]) -> None:
    weights = [SimpleNamespace(bytes=megabytes * 500_000)] * 2
    program = cast(Program, SimpleNamespace(inputs=[], weights=weights))
    assert [finding.rule for finding in findings_of(PACKAGE_RULES, program)] == rules
