"""Files of other tools that `audit` is given."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.rows_files import mlx_function
from hostile.table import DEEP, Row, write


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


def nested(place: str) -> Callable[[Path], None]:
    """Writes a model whose tensor with data above its folder is in a branch or in a function."""

    def make(folder: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../etc/passwd")
        out = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
        branch = helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [out], [weight])
        constant = helper.make_node("Constant", [], ["w"])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(weight)
        add = helper.make_node("Add", ["v", "w"], ["r"])
        opsets = [helper.make_opsetid("", 17)]
        functions = (
            [helper.make_function("", "Own", ["v"], ["r"], [constant, add], opsets)] if place == "function" else []
        )
        node = {
            "branch": lambda: helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
            "function": lambda: helper.make_node("Own", ["x"], ["y"]),
        }[place]()
        ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 64, 64))]
        ports += [helper.make_tensor_value_info("c", TensorProto.BOOL, ())] * (place == "branch")
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        built = helper.make_graph([node], "g", ports, [result])
        onnx.save(helper.make_model(built, opset_imports=opsets, functions=functions, ir_version=9), folder / "a.onnx")

    return make


NOISE = bytes(range(256)) * 9
DOMAINS = ("", "com.microsoft", "org.stranger")
KIND = "foreign file"
AUDIT = ("--quiet", "audit", "a.onnx", "--budget", "60")


def package(model: str) -> Callable[[Path], None]:
    """Writes a .mlpackage whose manifest names this file as its model, and noise as that file."""

    def make(folder: Path) -> None:
        item = {"author": "com.apple.CoreML", "name": "a", "path": model}
        manifest = {"fileFormatVersion": "1.0.0", "rootModelIdentifier": "A", "itemInfoEntries": {"A": item}}
        write("a.mlpackage/Manifest.json", json.dumps(manifest))(folder)
        write("a.mlpackage/Data/a.mlmodel", NOISE)(folder)

    return make


def named(path: str) -> tuple[str, ...]:
    return ("--quiet", "audit", path)


ROWS = (
    Row(
        KIND,
        "an operator of another library",
        graph(("Steal", ["x"], ["y"], {"domain": "org.stranger"})),
        AUDIT,
        "needs operators of other libraries (org.stranger.Steal)",
        code=3,
    ),
    Row(
        KIND,
        "a binary for a chip",
        graph(("EPContext", ["x"], ["y"], {"domain": "com.microsoft"})),
        AUDIT,
        "holds a binary for one chip",
        code=3,
    ),
    Row(
        KIND,
        "data above its folder",
        graph(("Mul", ["x", "w"], ["y"], {}), location="../../etc/passwd", length="4"),
        AUDIT,
        "points outside the folder",
    ),
    *(
        Row(KIND, f"data of a {place} above its folder", nested(place), AUDIT, "points outside the folder")
        for place in ("branch", "function")
    ),
    Row(
        KIND,
        "data that is missing",
        graph(("Mul", ["x", "w"], ["y"], {}), location="weights", length="4"),
        AUDIT,
        "'weights', is missing",
    ),
    Row(KIND, "a huge input", graph(("Relu", ["x"], ["y"], {}), shape=(1, 3, 1 << 40, 64)), AUDIT, "give another file"),
    Row(KIND, "an empty .onnx", write("a.onnx", b""), AUDIT, "it has no operations"),
    Row(KIND, "a .tflite of noise", write("a.tflite", NOISE), named("a.tflite"), "is not a usable"),
    Row(KIND, "a .pte of noise", write("a.pte", NOISE), named("a.pte"), "is not a usable .pte file"),
    Row(
        KIND,
        "a .mlxfn: an unknown operation",
        write("a.mlxfn", mlx_function(1, "Steal")),
        named("a.mlxfn"),
        "the operation 'Steal', which exports never write",
        code=3,
    ),
    Row(KIND, "a .mlxfn of noise", write("a.mlxfn", NOISE), named("a.mlxfn"), "is not a readable MLX"),
    *(
        Row(KIND, f"a .mlpackage: {what}", make, named("a.mlpackage"), line)
        for what, make, line in (
            ("a file", write("a.mlpackage", NOISE), "is not a .mlpackage folder"),
            ("an empty folder", lambda folder: (folder / "a.mlpackage").mkdir(), "'Manifest.json' is missing"),
            ("nested lists", write("a.mlpackage/Manifest.json", DEEP), "does not name a root model"),
            ("a path above it", package("../../a.mlmodel"), "leaves the package"),
            ("a model of noise", package("a.mlmodel"), "is not a Core ML specification"),
        )
    ),
    Row(KIND, "a .mlmodel of noise", write("a.mlmodel", NOISE), named("a.mlmodel"), "only a Mac runs", code=3),
    Row(KIND, "a .aimodel: a file", write("a.aimodel", NOISE), named("a.aimodel"), "is not an .aimodel"),
    Row(KIND, "a .aimodel: no version", write("a.aimodel/metadata.json", "{}"), named("a.aimodel"), "no assetVersion"),
    Row(KIND, "a folder called .onnx", lambda folder: (folder / "a.onnx").mkdir(), AUDIT, "a.onnx"),
)
