"""Export of a tower as an ONNX graph by torch's exporter: opset 20, free batch, nothing that names this machine.

At every precision, convolutions that double channels are split. Also converts a graph to float16.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch

from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.targets.onnx.editing import OnnxEditor, array, op, taken, write_model
from mobileclip_deploy.targets.onnx.ids import take_any_ids
from mobileclip_deploy.targets.onnx.lowering import lower
from mobileclip_deploy.targets.onnx.pictures import take_pictures
from mobileclip_deploy.targets.onnx.quantization import Quantizing, quantize
from mobileclip_deploy.targets.onnx.runner import APPLIED
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_deploy.targets.values import TensorInfo, TowerJob
from mobileclip_deploy.targets.vendor_internals.torch import torchlib_read_once

OPSET = 20
AS_ONNX = Quantizing()
# torch.export specialises a batch of one, so the graph is traced with two.
TRACE_BATCH = 2


def write_graph(
    job: TowerJob,
    path: Path,
    ports: tuple[TensorInfo, TensorInfo],
    how: Quantizing = AS_ONNX,
    any_length: bool = False,
    opset: int = OPSET,
) -> None:
    """Writes the model: first dimension free (with contexts the second too), metadata of the exporter
    removed.

    Float32 weights share memory with the network until they are written: the largest tower has 1.3 GB of them.

    Args:
        ports: input and output.
        how: settings for precisions whose weights are integers.
        any_length: True if rows of ids of any length are cut and padded inside.
        opset: that of the model, at most 20.
    """
    with conversion(f"ONNX export of the {job.tower} tower"), torch.no_grad():
        model = job.once("onnx", lambda: captured(job, *ports)).clone()  # copies the nodes; weights are shared
        model.metadata_props.update(
            variant=job.variant.name, tower=job.tower, precision=job.precision, licence=job.licence
        )
        if job.precision == "fp16":
            halve(model)
        elif precision_of(job.precision).kind != "float":
            model = quantize(model, job, how)
        split_doubling(model, sliced=job.precision != "fp32")
        if opset < OPSET:
            lower(model, opset)
        if job.form.pictures:
            take_pictures(model, job.variant.preprocess)
        if job.tower == "image" and job.form.layout is not None and (applied := job.form.layout.applied) is not None:
            undo(model, applied.mean, applied.std)
            model.metadata_props[APPLIED] = applied.model_dump_json()
        if job.form.pads_inside:
            take_any_ids(model, job.variant.tokens, any_length)
        write_model(model, path)
        del model
        onnx.checker.check_model(str(path))


def undo(model: ir.Model, mean: Sequence[float], std: Sequence[float]) -> None:
    """Inserts two operations at the start of an image tower that undo a mean and std, which an app has applied."""
    editor, graph = OnnxEditor(model), model.graph
    tower_input = graph.inputs[0]
    source = ir.Value(name=tower_input.name, type=tower_input.type, shape=tower_input.shape)
    scaled, pixels = editor.value("pixels_scaled"), editor.value("pixels")
    factor, shift = (
        editor.constant(f"pixels_{name}", np.array(values, np.float32).reshape(1, 3, 1, 1))
        for name, values in (("std", std), ("mean", mean))
    )
    tower_input.replace_all_uses_with(pixels)
    tower_input.name = None
    graph.inputs[0] = source
    graph.insert_before(graph[0], [op("Mul", [source, factor], [scaled]), op("Add", [scaled, shift], [pixels])])


def captured(job: TowerJob, source: TensorInfo, result: TensorInfo, batch: int = 0) -> ir.Model:
    """Exports the tower in float32, the first step at every precision. `batch` is 0 if it is free."""
    dtype = job.example.dtype if job.form.pictures else getattr(torch, source.dtype)
    example = job.example.to(dtype).expand(batch or TRACE_BATCH, *job.example.shape[1:])
    free = ({0: "batch", 1: "tokens"} if job.form.contexts else {0: "batch"},)
    with torchlib_read_once():
        program = torch.onnx.export(
            job.module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[source.name],
            output_names=[result.name],
            dynamic_shapes=None if batch else free,
            verbose=False,
        )
    assert program is not None
    model = program.model
    del program
    _free_names(model)
    _strip(model, job)
    return model


def _free_names(model: ir.Model) -> None:
    """Renames values inside the graph that have the name of an input or output, which a layout chooses."""
    outside = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    port_names = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    for value in (*model.graph.initializers.values(), *(value for node in model.graph for value in node.outputs)):
        if id(value) not in outside and value.name in port_names:
            value.name = f"{value.name}_inside"


def _strip(model: ir.Model, job: TowerJob) -> None:
    """Removes stack traces with absolute paths and all other metadata, and names the graph."""
    graph = model.graph
    graph.name = f"{job.variant.name}_{job.tower}"
    for item in (model, graph, *graph, *graph.initializers.values(), *graph.inputs, *graph.outputs):
        item.metadata_props.clear()
        item.doc_string = ""


LAST = np.iinfo(np.int64).max


def split_doubling(model: ir.Model, sliced: bool = True) -> int:
    """Rewrites, in place, grouped convolutions with several outputs per channel as that many depthwise convolutions.
    Results are the same. Returns the number of rewritten convolutions.

    MobileCLIP's image towers double their channels in this way: three windows of 7 x 7 with stride 2, and one of 3 x 3
    at the end. ONNX Runtime has a blocked kernel for depthwise convolutions with one output per group. Those with two
    run on a general kernel, three times as long for the same arithmetic.

    Args:
        sliced: True if the weight stays unchanged in the file. Every other output of it is sliced before each
            convolution, which a session does once at its start. False if each convolution gets constants of its own,
            as ONNX Runtime's quantizer requires.
    """
    editor = OnnxEditor(model)
    convolutions = [(node, count) for node in editor.graph if (count := splits(node)) > 1]
    for node, count in convolutions:
        editor.replace(node, _apart(editor, node, count, sliced))
    if not sliced:
        editor.drop_unused()  # the weights, and what would slice them
    return len(convolutions)


def splits(node: ir.Node) -> int:
    """Returns the number of depthwise convolutions that replace a node; 0 if it is not a convolution with several
    outputs per group."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    if weight is None:
        return 0
    shape = weight.shape if weight.const_value is None else weight.const_value.shape
    if shape is None:
        return 0
    outputs, inputs = (int(size) for size in shape.numpy()[:2])
    groups = node.attributes.get_int("group", 1)
    return outputs // groups if inputs == 1 and groups > 1 else 0


def _apart(editor: OnnxEditor, node: ir.Node, count: int, sliced: bool) -> list[ir.Node]:
    """Returns the nodes that replace a convolution: [N, C, H, W] to [N, count * C, H', W'], in the order of its
    outputs."""
    source, *constants = node.inputs
    (result,) = node.outputs
    name = result.name
    assert result.shape is not None
    channels, *sides = (size for size in result.shape[1:] if isinstance(size, int))
    nodes: list[ir.Node] = []
    ends = {"axis": 0, "third": 2, "step": count, "end": LAST}
    axis, third, step, end = (editor.whole(f"{name}_{part}", index) for part, index in ends.items())
    apart = []
    for index in range(count):
        start = editor.whole(f"{name}_start_{index}", index)
        cut = []
        for constant in constants:
            assert constant is not None  # an omitted bias is not among the inputs
            if not sliced and (values := array(constant)) is not None:
                cut.append(editor.constant(f"{constant.name}_{index}", values[index::count]))
                continue
            cut.append(editor.value(f"{constant.name}_{index}"))
            nodes.append(op("Slice", [constant, start, end, axis, step], [cut[-1]]))
        convolved, spread = editor.value(f"{name}_{index}"), editor.value(f"{name}_{index}_spread")
        convolution = op("Conv", [source, *cut], [convolved])
        convolution.attributes.update(node.attributes)
        nodes += [convolution, op("Unsqueeze", [convolved, third], [spread])]  # [N, C, 1, H', W']
        apart.append(spread)
    together = editor.value(f"{name}_together")  # [N, C, count, H', W']
    nodes.append(op("Concat", apart, [together], axis=2))
    shape = editor.whole(f"{name}_shape", 0, channels, *sides)
    nodes.append(op("Reshape", [together, shape], [ir.Value()]))
    return nodes


# Operations of a norm. torch computes norms of float16 in float32: squares and their sums leave float16's range.
WIDE = ("Abs", "ReduceMax", "ReduceSum")


def halve(model: ir.Model) -> None:
    """Converts every float32 value to float16, as in a graph traced in float16. Inputs and outputs stay float32 and are
    cast, since clients use float32.

    Args:
        model: in float32, changed in place. Attributes that are plain numbers, such as a norm's epsilon, stay: they are
            float32 whatever the type of a node's inputs.
    """
    editor = OnnxEditor(model)
    graph = model.graph
    for value in graph.initializers.values():
        elements = array(value)
        if elements is not None and elements.dtype == np.float32:
            value.const_value = ir.tensor(elements.astype(np.float16), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT16)
    for node in graph:
        for name, attribute in node.attributes.items():
            if node.op_type == "Cast" and name == "to" and attribute.as_int() == ir.DataType.FLOAT:
                node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT16)
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.FLOAT:
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.as_tensor().numpy().astype(np.float16)))
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)
    for source in graph.inputs:
        users = [use.node for use in source.uses() if use.node.op_type != "Shape"]
        if source.dtype == ir.DataType.FLOAT and users:
            half = editor.value(f"{source.name}_half")
            for user in users:
                _take_instead(user, source, half)
            first = next(node for node in graph if node in users)
            graph.insert_before(first, op("Cast", [source], [half], to=ir.DataType.FLOAT16))
    for node in [node for node in graph if node.op_type in WIDE]:
        _widen(editor, node)
    for result in list(graph.outputs):
        if result.dtype == ir.DataType.FLOAT16:
            whole = editor.take_users(result, f"{result.name}_half")
            whole.type = ir.TensorType(ir.DataType.FLOAT)
            graph.append(op("Cast", [result], [whole], to=ir.DataType.FLOAT))


def _widen(editor: OnnxEditor, node: ir.Node) -> None:
    source, result = taken(node, 0), node.outputs[0]
    wide = editor.value(f"{source.name}_wide")
    _take_instead(node, source, wide)
    editor.graph.insert_before(node, op("Cast", [source], [wide], to=ir.DataType.FLOAT))
    narrow = editor.take_users(result, f"{result.name}_wide")
    result.type = ir.TensorType(ir.DataType.FLOAT)
    editor.graph.insert_after(node, op("Cast", [result], [narrow], to=ir.DataType.FLOAT16))


def _take_instead(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for index, value in enumerate(node.inputs):
        if value is old:
            node.replace_input_with(index, new)
