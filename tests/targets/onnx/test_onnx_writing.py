"""Writing an ONNX model weight by weight."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from mobileclip_deploy.targets.onnx.editing import OnnxEditor, write_model


def small_model() -> onnx.ModelProto:
    """Two weights, one of them longer than a one-byte length can say, and every field that exports have."""
    weights = [
        numpy_helper.from_array(np.arange(300, dtype=np.float32), "w"),
        numpy_helper.from_array(np.ones(1, dtype=np.float32), "v"),
    ]
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "v"], ["z"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 300])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 300])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    helper.set_model_props(model, {"variant": "small"})
    return model


def test_the_file_holds_exactly_the_model(tmp_path: Path) -> None:
    model = small_model()
    write_model(ir.from_proto(model), tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == model
    assert (tmp_path / "m.onnx").stat().st_size == len(model.SerializeToString())


def test_shapes_of_what_lies_between_are_left_out_and_texts_are_kept_even_empty_ones(tmp_path: Path) -> None:
    model = ir.from_proto(onnx.shape_inference.infer_shapes(small_model()))
    model.graph.node(0).doc_string = ""
    next(iter(model.graph.initializers.values())).doc_string = "says"
    write_model(model, tmp_path / "m.onnx")
    written = onnx.load(tmp_path / "m.onnx").graph
    assert not written.value_info
    assert [node.HasField("doc_string") for node in written.node] == [True, False]
    assert [weight.doc_string for weight in written.initializer] == ["says", ""]
    onnx.checker.check_model(str(tmp_path / "m.onnx"))


def test_a_new_value_takes_no_name_of_an_input_or_constant() -> None:
    editor = OnnxEditor(ir.from_proto(small_model()))
    names = [editor.value(name).name for name in ("x", "w", "y", "x", "new")]
    assert names == ["x_1", "w_1", "y_1", "x_2", "new"]
