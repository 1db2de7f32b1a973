"""Files of other tools that `verify` is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.table import Row, write


def graph(*nodes: tuple[Any, ...], shape: tuple[int, ...] = (1, 3, 64, 64), **external: str) -> Callable[[Path], None]:
    """Writes a model of some operators, each (type, inputs, outputs, settings)."""

    def make(folder: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
        if external:
            weight.ClearField("float_data")
            weight.data_location = TensorProto.EXTERNAL
            for key, value in external.items():
                entry = weight.external_data.add()
                entry.key, entry.value = key, value
        built = helper.make_graph(
            [helper.make_node(kind, inputs, outputs, **settings) for kind, inputs, outputs, settings in nodes],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [weight],
        )
        model = helper.make_model(built, opset_imports=[helper.make_opsetid(d, 17 if not d else 1) for d in DOMAINS])
        model.ir_version = 9
        onnx.save(model, folder / "a.onnx")

    return make


DOMAINS = ("", "com.microsoft", "org.stranger")
KIND = "foreign file"
VERIFY = ("--quiet", "verify", "a.onnx", "--budget", "60")


def named(path: str) -> tuple[str, ...]:
    return ("--quiet", "verify", path)


ROWS = (
    Row(
        KIND,
        "an operator of another library",
        graph(("Steal", ["x"], ["y"], {"domain": "org.stranger"})),
        VERIFY,
        "needs operators of other libraries (org.stranger.Steal)",
        code=3,
    ),
    Row(
        KIND,
        "a binary for a chip",
        graph(("EPContext", ["x"], ["y"], {"domain": "com.microsoft"})),
        VERIFY,
        "holds a binary for one chip",
        code=3,
    ),
    Row(
        KIND,
        "data above its folder",
        graph(("Mul", ["x", "w"], ["y"], {}), location="../../etc/passwd", length="4"),
        VERIFY,
        "points outside the folder",
    ),
    Row(
        KIND,
        "data that is missing",
        graph(("Mul", ["x", "w"], ["y"], {}), location="weights", length="4"),
        VERIFY,
        "'weights', is missing",
    ),
    Row(
        KIND, "a huge input", graph(("Relu", ["x"], ["y"], {}), shape=(1, 3, 1 << 40, 64)), VERIFY, "give another file"
    ),
    Row(KIND, "an empty .onnx", write("a.onnx", b""), VERIFY, "it has no operations"),
    Row(KIND, "a .tflite of noise", write("a.tflite", bytes(range(256)) * 9), named("a.tflite"), "is not a usable"),
    Row(KIND, "a .pte of noise", write("a.pte", bytes(range(256)) * 9), named("a.pte"), "is not a usable .pte file"),
    Row(KIND, "a .mlxfn of noise", write("a.mlxfn", bytes(range(256)) * 9), named("a.mlxfn"), "is not a readable MLX"),
    Row(KIND, "a folder called .onnx", lambda folder: (folder / "a.onnx").mkdir(), VERIFY, "a.onnx"),
)
