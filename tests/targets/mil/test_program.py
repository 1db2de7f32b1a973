"""What a loaded program tells of itself, its traces, and what using it does not cost."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from targets.mil.programs import build

import mobileclip_deploy.targets.mil as mil
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil import Program, UnsupportedOperation, load
from mobileclip_deploy.targets.mil.ops import OPS
from mobileclip_deploy.targets.mil.program import ConstantStore

WEIGHT = np.random.default_rng(9).normal(size=(16, 8, 3, 3)).astype(np.float32)
X = np.random.default_rng(10).normal(size=(1, 8, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def body(mb: Any, x: Any) -> Any:
        hidden = mb.conv(x=x, weight=WEIGHT, bias=np.ones(16, np.float32), pad_type="custom", pad=[1] * 4, name="conv")
        first, second = mb.split(x=hidden, num_splits=2, axis=1, name="halves")
        return mb.reduce_mean(x=mb.mul(x=first, y=second, name="product"), axes=[2, 3], name="y")

    return build(tmp_path_factory.mktemp("program") / "p.mlpackage", {"x": (X.shape, "float32")}, body)


@pytest.fixture(scope="module")
def program(package: Path) -> Program:
    return load(package)


def test_operations_are_described(program: Program) -> None:
    assert [operation.type for operation in program.operations] == ["conv", "split", "mul", "reduce_mean"]
    conv, split = program.operations[:2]
    assert conv.weight_bytes >= WEIGHT.nbytes + 64
    assert (conv.inputs["x"][0].constant, conv.inputs["weight"][0].constant) == (False, True)
    assert (conv.inputs["weight"][0].shape, conv.inputs["weight"][0].dtype) == (WEIGHT.shape, "float32")
    assert conv.outputs[0].shape == (1, 16, 6, 6)
    assert len(split.outputs) == 2
    np.testing.assert_array_equal(conv.constant("weight"), WEIGHT)
    assert conv.constant("pad_type") == "custom"
    assert split.constant("num_splits") == 2
    assert conv.constant("x") is None
    assert conv.constant("absent") is None


def test_weights_are_described(program: Program) -> None:
    (weight, bias) = program.weights
    assert (weight.shape, weight.dtype, weight.bytes, weight.kind) == (WEIGHT.shape, "float32", WEIGHT.nbytes, "const")
    assert bias.bytes == 64
    np.testing.assert_array_equal(program.constant(weight.name), WEIGHT)
    with pytest.raises(InvalidInput, match="no constant 'nothing'"):
        program.constant("nothing")


def test_the_package_is_described(program: Program, package: Path) -> None:
    assert (program.path, program.function, program.functions, program.opset) == (package, "main", ("main",), "CoreML7")
    assert program.specification_version == 8
    assert program.unsupported == {}
    assert program.metadata["com.github.apple.coremltools.version"]


def test_a_trace_gives_every_result_in_order_or_those_chosen(program: Program) -> None:
    steps = list(program.trace({"x": X}))
    assert [step.operation for step in steps] == list(program.operations)
    conv = torch.nn.functional.conv2d(torch.from_numpy(X), torch.from_numpy(WEIGHT), torch.ones(16), padding=1).numpy()
    np.testing.assert_allclose(steps[0].values["conv"], conv, rtol=1e-5, atol=1e-5)
    halves = list(steps[1].values.values())
    np.testing.assert_array_equal(np.concatenate(halves, 1), steps[0].values["conv"])
    np.testing.assert_array_equal(steps[-1].values["y"], program({"x": X})["y"])
    (step,) = program.trace({"x": X}, names=["product"])
    assert list(step.values) == ["product"]
    assert list(program.trace({"x": X}, names=[])) == []
    with pytest.raises(InvalidInput, match="computes nothing_of_that_name"):
        list(program.trace({"x": X}, names=["nothing_of_that_name"]))


def test_a_call_leaves_the_inputs_and_constants_as_they_are(program: Program) -> None:
    x = X.copy()
    first = program({"x": x})["y"]
    before = first.copy()
    first += 1
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(program({"x": x})["y"], before)


def test_a_program_loaded_for_inspection_is_made_ready_when_it_is_run(package: Path) -> None:
    program = load(package, evaluate=False)
    assert len(program.operations) == 4
    np.testing.assert_array_equal(program({"x": X})["y"], load(package)({"x": X})["y"])


def test_the_newest_opset_is_read(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.gather(x=np.arange(20, dtype=np.float32), indices=x, axis=0, name="y")

    program = load(build(tmp_path / "p.mlpackage", {"x": ((2,), "int32")}, body, 26))
    assert program.opset == "CoreML9"
    np.testing.assert_array_equal(program({"x": [3, 19]})["y"], [3, 19])


def test_control_flow_is_an_unknown_op(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        positive = mb.greater_equal(x=mb.reduce_sum(x=x), y=np.float32(0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.add(x=x, y=np.float32(1)),
            _false_fn=lambda: mb.sub(x=x, y=np.float32(1)),
            name="branch",
        )

    path = build(tmp_path / "p.mlpackage", {"x": ((2,), "float32")}, body)
    with pytest.raises(UnsupportedOperation, match=r"cond \(at branch\)"):
        load(path)


def test_constants_are_kept_within_the_budget(tmp_path: Path) -> None:
    weights = [np.random.default_rng(i).normal(size=(300, 300)).astype(np.float16) for i in range(4)]

    def body(mb: Any, x: Any) -> Any:
        for weight in weights:
            x = mb.linear(x=x, weight=weight)
        return mb.relu(x=x, name="y")

    program = load(build(tmp_path / "p.mlpackage", {"x": ((1, 300), "float16")}, body))
    x = np.ones((1, 300))
    expected = program({"x": x})["y"]
    for budget in (0, 300 * 300 * 4, 10**9):
        program._store = ConstantStore(budget)
        np.testing.assert_array_equal(program({"x": x})["y"], expected)
        kept = sum(tensor.numel() * 4 for tensor in program._store._kept.values() if tensor.numel() > 10**4)
        assert kept == min(budget, 4 * 300 * 300 * 4)


@pytest.mark.parametrize("after", ["nothing", pytest.param("coremltools", marks=pytest.mark.slow)])
def test_loading_imports_neither_coremltools_nor_a_compiler(package: Path, after: str) -> None:
    """And coremltools still works when it is imported after its protobuf classes were used (before: in all tests)."""
    code = (
        "import sys, numpy as np, mobileclip_deploy.targets.mil as mil\n"
        f"p = mil.load({str(package)!r})\n"
        "p({'x': np.zeros((1, 8, 6, 6))})\n"
        "print([m for m in ('coremltools', 'torch._dynamo', 'sympy', 'open_clip') if m in sys.modules], flush=True)\n"
        "print('quiet so far', file=sys.stderr)\n"
    )
    if after == "coremltools":
        code += (
            "from mobileclip_deploy.targets.vendor_internals.coremltools import import_coremltools\n"
            "coremltools = import_coremltools()\n"
            f"print(coremltools.utils.load_spec({str(package)!r}).specificationVersion)\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == (["[]", "8"] if after == "coremltools" else ["[]"])
    assert done.stderr.startswith("quiet so far")


def test_what_is_public_is_meant_to_be() -> None:
    assert set(mil.__all__) == {
        "Argument", "Computed", "Operation", "Port", "Precision", "Program", "UnsupportedOperation", "Weight", "load",
    }  # fmt: skip


def test_parameters_of_every_op_are_those_of_coremltools() -> None:
    """An input that coremltools may write is known here, and the other way round."""
    from targets.mil.programs import quiet

    with quiet():
        from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
    for name, kernel in OPS.items():
        versions = SSAOpRegistry.core_ops[name].values()
        theirs = {parameter for version in versions for parameter in version.input_spec.input_types}
        channels = {"axis"} if name in ("quantize", "dequantize") else set()  # of activations, which nothing here has
        assert {*kernel.parameters} == theirs - channels, name
        required = set.intersection(
            *({p for p, spec in v.input_spec.input_types.items() if not spec.optional} for v in versions)
        )
        assert {p.name for p in kernel.parameters.values() if p.required} == required, name
