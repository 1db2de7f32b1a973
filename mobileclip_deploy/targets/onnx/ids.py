"""Rows of ids of any CLIP tokenizer: an ONNX text tower cuts and pads them itself."""

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.targets.onnx.editing import OnnxEditor, op

LAST = np.iinfo(np.int64).max


def take_any_ids(model: ir.Model, tokens: TokenizerSpec, any_length: bool) -> None:
    """Inserts operations at the start of a text tower that end each row of ids at its first end token.

    What follows that token counts as padding: tokenizers pad with 0, with the end token, or with nothing. A row without
    an end token gets one in its last position, as some tokenizers cut it off.

    Args:
        any_length: True if rows of any length are cut and padded to the context first; padding is then the end token,
            so that a shorter row without one ends after its last token.
    """
    editor, graph = OnnxEditor(model), model.graph
    tower_ids, length = graph.inputs[0], tokens.context_length
    nodes: list[ir.Node] = []

    def add(kind: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        nodes.append(op(kind, inputs, [editor.value("ids")], "", **attributes))
        return nodes[-1].outputs[0]

    def scalar(value: int) -> ir.Value:
        assert tower_ids.dtype is not None
        return editor.constant("ids_constant", np.array(value, tower_ids.dtype.numpy()))

    source = ir.Value(name=tower_ids.name, type=tower_ids.type, shape=tower_ids.shape)
    assert source.shape is not None
    end, ids = scalar(tokens.eot), source
    is_last = editor.constant("ids_last", np.arange(length).reshape(1, -1) == length - 1)
    free = not isinstance(source.shape[1], int)  # of several contexts: a row keeps its length
    if any_length or free:
        missing = add("Sub", editor.whole("ids_length", length), add("Shape", source, start=1, end=2))
    if any_length and not free:
        source.shape = ir.Shape([source.shape[0], "tokens"])
        ids = add("Pad", source, add("Concat", editor.whole("ids_before", 0, 0, 0), missing, axis=0), end)
    elif free:
        whole = (editor.whole("ids_end", LAST), editor.whole("ids_axis", 1))
        is_last = add("Slice", is_last, missing, *whole)
    is_end = add("Cast", add("Equal", ids, end), to=ir.DataType.INT32.value)
    before = add("CumSum", is_end, editor.constant("ids_axis", np.array(1, np.int64)), exclusive=1)
    ended = add("Cast", before, to=ir.DataType.BOOL.value)
    result = add("Where", ended, scalar(tokens.pad), add("Where", is_last, end, ids))
    tower_ids.replace_all_uses_with(result)
    tower_ids.name = None
    graph.inputs[0] = source
    graph.insert_before(graph[0], nodes)
