"""Compressed weights come out as coremltools decompresses them, for every family and on whole models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from targets.mil.programs import TARGETS, build, ct, quiet, types

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil import Program, load
from mobileclip_deploy.targets.mil.constants import unpack_bits

X = np.random.default_rng(2).normal(size=(1, 32, 6, 6)).astype(np.float32)


class _Layers(torch.nn.Module):
    """A convolution, a depthwise one and a linear layer, each large enough for coremltools to compress."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(64, 64, 3, groups=64)
        self.head = torch.nn.Linear(64, 128)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.depthwise(self.conv(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def models() -> dict[tuple[int, str], Any]:
    """The layers as coremltools models, by opset and precision."""
    torch.manual_seed(0)
    with quiet(), torch.no_grad():
        exported = torch.export.export(_Layers().eval(), (torch.from_numpy(X),)).run_decompositions({})
        return {
            (opset, precision): ct.convert(
                exported,
                inputs=[ct.TensorType(name="x", shape=X.shape, dtype=np.float32)],
                outputs=[ct.TensorType(name="y", dtype=np.float32)],
                minimum_deployment_target=TARGETS[opset],
                compute_precision=ct.precision.FLOAT16 if precision == "float16" else ct.precision.FLOAT32,
                skip_model_load=True,
            )
            for opset, precision in ((16, "float32"), (16, "float16"), (18, "float16"))
        }


def _compressed(model: Any, kinds: str) -> Any:
    """A model compressed in one way, or in two ways, one after the other."""
    import coremltools.optimize.coreml as cto

    def linear(**options: Any) -> tuple[Any, Any]:
        return cto.linear_quantize_weights, cto.OpLinearQuantizerConfig(weight_threshold=0, **options)

    def palette(**options: Any) -> tuple[Any, Any]:
        return cto.palettize_weights, cto.OpPalettizerConfig(mode="uniform", weight_threshold=0, **options)

    ways = {
        "int8 per channel": linear(mode="linear_symmetric", dtype="int8", granularity="per_channel"),
        "uint8 affine": linear(mode="linear", dtype="uint8", granularity="per_channel"),
        "int8 per tensor": linear(mode="linear_symmetric", dtype="int8", granularity="per_tensor"),
        "int4 per channel": linear(mode="linear_symmetric", dtype="int4", granularity="per_channel"),
        "int4 per block": linear(mode="linear", dtype="int4", granularity="per_block", block_size=16),
        **{f"palettized {bits} bit": palette(nbits=bits) for bits in (1, 2, 3, 4, 6, 8)},
        "palettized 4 bit grouped": palette(nbits=4, granularity="per_grouped_channel", group_size=16),
        "pruned": (cto.prune_weights, cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)),
    }
    for place, kind in enumerate(kinds.split(" + ")):
        compress, config = ways[kind]
        joint = {"joint_compression": True} if place else {}
        model = compress(model, cto.OptimizationConfig(global_config=config), **joint)
    return model


CASES = [
    (16, "float32", "int8 per channel"),
    (16, "float16", "uint8 affine"),
    (16, "float16", "palettized 1 bit"),
    (16, "float16", "palettized 6 bit"),
    (18, "float16", "int8 per channel"),
    (18, "float16", "uint8 affine"),
    (18, "float16", "int8 per tensor"),
    (18, "float16", "int4 per channel"),
    (18, "float16", "int4 per block"),
    (18, "float16", "palettized 1 bit"),
    (18, "float16", "palettized 2 bit"),
    (18, "float16", "palettized 3 bit"),
    (18, "float16", "palettized 4 bit"),
    (18, "float16", "palettized 6 bit"),
    (18, "float16", "palettized 8 bit"),
    (18, "float16", "palettized 4 bit grouped"),
    (18, "float16", "pruned"),
    (18, "float16", "pruned + palettized 4 bit"),
    (18, "float16", "palettized 4 bit + int8 per tensor"),
]


def _constants(program: Program) -> dict[str, np.ndarray]:
    """The weights of convolutions and linear layers by the name of the operation."""
    return {
        operation.name: operation.constant("weight")
        for operation in program.operations
        if operation.type in ("conv", "linear")
    }


@pytest.mark.parametrize(("opset", "precision", "kind"), CASES, ids=lambda value: str(value).replace(" ", "-"))
def test_weights_equal_those_that_coremltools_decompresses(
    opset: int, precision: str, kind: str, models: dict[tuple[int, str], Any], tmp_path: Path
) -> None:
    with quiet():
        compressed = _compressed(models[opset, precision], kind)
        compressed.save(str(tmp_path / "compressed.mlpackage"))
        ct.optimize.coreml.decompress_weights(compressed).save(str(tmp_path / "dense.mlpackage"))
    program, dense = load(tmp_path / "compressed.mlpackage"), load(tmp_path / "dense.mlpackage")
    assert any(weight.kind.startswith("constexpr_") for weight in program.weights)
    assert not any(weight.kind.startswith("constexpr_") for weight in dense.weights)
    ours, theirs = _constants(program), _constants(dense)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight, err_msg=name)
    for mode in ("float32", "float16"):
        np.testing.assert_array_equal(program({"x": X}, mode)["y"], dense({"x": X}, mode)["y"])


def test_bytes_of_weights_are_what_the_bits_imply(models: dict[tuple[int, str], Any], tmp_path: Path) -> None:
    with quiet():
        _compressed(models[18, "float16"], "palettized 4 bit").save(str(tmp_path / "p.mlpackage"))
    program = load(tmp_path / "p.mlpackage")
    weight = next(w for w in program.weights if w.shape == (64, 32, 3, 3))
    assert weight.kind == "constexpr_lut_to_dense"
    assert weight.dtype == "float16"
    assert weight.bytes == 64 * 32 * 9 // 2 + 16 * 2


def test_joint_compression_counts_as_one_weight(models: dict[tuple[int, str], Any], tmp_path: Path) -> None:
    with quiet():
        _compressed(models[18, "float16"], "pruned + palettized 4 bit").save(str(tmp_path / "p.mlpackage"))
    program = load(tmp_path / "p.mlpackage")
    weight = next(w for w in program.weights if w.shape == (64, 32, 3, 3))
    assert weight.kind == "constexpr_lut_to_sparse+constexpr_sparse_to_dense"
    assert len([w for w in program.weights if w.kind != "const"]) == 3


@pytest.mark.parametrize("bits", range(1, 8))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("count", [1, 7, 8, 29])
def test_unpacking_reverses_packing(bits: int, signed: bool, count: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, count)
    stream = [(value >> bit) & 1 for value in values for bit in range(bits)]
    packed = np.packbits(np.array(stream, np.uint8), bitorder="little")
    expected = np.where(values >= 2 ** (bits - 1), values - 2**bits, values) if signed else values
    np.testing.assert_array_equal(unpack_bits(packed, bits, count, signed), expected)


def test_look_up_tables_of_groups_follow_the_documentation(tmp_path: Path) -> None:
    """The example of coremltools' documentation of constexpr_lut_to_dense (iOS 18); one of vectors is refused."""
    indices = np.array([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], types.np_uint2_dtype).reshape(6, 2)
    lut = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float16).reshape(2, 1, 4, 1)
    vectors = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], types.np_uint1_dtype)
    entries = np.array([1, 2, 3, 4, 5, 6], np.float16).reshape(1, 1, 1, 2, 3)

    def body(mb: Any, x: Any) -> Any:
        grouped = mb.constexpr_lut_to_dense(indices=indices, lut=lut, name="grouped")
        first = mb.constexpr_lut_to_dense(indices=vectors, lut=entries, vector_axis=1, name="first")
        return mb.add(x=x, y=mb.add(x=mb.reduce_sum(x=grouped), y=mb.reduce_sum(x=first)))

    program = load(build(tmp_path / "p.mlpackage", {"x": ((1,), "float16")}, body, 18))
    np.testing.assert_array_equal(program.constant("grouped"), [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]])
    assert "constexpr_lut_to_dense" in {weight.kind for weight in program.weights if weight.name == "first"}
    with pytest.raises(InvalidInput, match="indices, lut, vector_axis is not evaluated"):
        program({"x": np.zeros(1)})


def test_activations_are_quantized_and_restored(tmp_path: Path) -> None:
    scale, zero = np.float32(0.02), np.int8(-3)

    def body(mb: Any, x: Any) -> Any:
        quantized = mb.quantize(input=x, scale=scale, zero_point=zero, output_dtype="int8")
        return mb.dequantize(input=quantized, scale=scale, zero_point=zero, name="y")

    program = load(build(tmp_path / "p.mlpackage", {"x": (X.shape, "float32")}, body))
    expected = (np.clip(np.around(X / scale) - 3, -128, 127) + 3) * scale
    np.testing.assert_allclose(program({"x": X})["y"], expected, rtol=1e-6)
