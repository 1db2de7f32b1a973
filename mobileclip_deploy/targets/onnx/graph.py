"""A tower as an ONNX graph: torch's exporter, opset 20, free batch, nothing in it that names this machine."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import torch

from mobileclip_deploy.model.precision import precision_of
from mobileclip_deploy.targets.foreign.torch import torchlib_read_once
from mobileclip_deploy.targets.onnx.pictures import take_pictures
from mobileclip_deploy.targets.onnx.quantization import Quantizing, quantize
from mobileclip_deploy.targets.onnx.rewriting import halve, split_doubling
from mobileclip_deploy.targets.onnx.writing import write_model
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

OPSET = 20
AS_ONNX = Quantizing()
# torch.export specialises a batch of one, so the graph is traced with two.
TRACE_BATCH = 2


def write_graph(job: TowerJob, path: Path, source: TensorInfo, result: TensorInfo, how: Quantizing = AS_ONNX) -> None:
    """Write the model: opset 20, first dimension free (with contexts the second too), metadata of the exporter removed.

    Weights in float32 are the network's own until they are written: the largest tower has 1.3 GB of them.

    Args:
        how: of a precision whose weights are integers.

    Raises:
        ExportError: the exporter or the checker refused the tower.
    """
    with conversion(f"ONNX export of the {job.tower} tower"), torch.no_grad():
        model = job.once("onnx", lambda: captured(job, source, result)).clone()  # of the nodes; weights are shared
        model.metadata_props.update(
            variant=job.variant.name, tower=job.tower, precision=job.precision, licence=job.licence
        )
        if job.precision == "fp16":
            halve(model)
        elif precision_of(job.precision).kind != "float":
            model = quantize(model, job, how)
        split_doubling(model)
        if job.pictures:
            take_pictures(model, job.variant.preprocess)
        write_model(model, path)
        del model
        onnx.checker.check_model(str(path))


def captured(job: TowerJob, source: TensorInfo, result: TensorInfo, batch: int = 0) -> ir.Model:
    """The tower in float32, as every precision begins. `batch`: 0 where it is free."""
    dtype = job.example.dtype if job.pictures else getattr(torch, source.dtype)
    example = job.example.to(dtype).expand(batch or TRACE_BATCH, *job.example.shape[1:])
    free = ({0: "batch", 1: "tokens"} if job.contexts else {0: "batch"},)
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
    """Give values inside of the graph other names than its inputs and outputs have, which a layout chooses."""
    outside = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    taken = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    for value in (*model.graph.initializers.values(), *(value for node in model.graph for value in node.outputs)):
        if id(value) not in outside and value.name in taken:
            value.name = f"{value.name}_inside"


def _strip(model: ir.Model, job: TowerJob) -> None:
    """Remove stack traces with absolute paths and value names; say what the graph is."""
    graph = model.graph
    graph.name = f"{job.variant.name}_{job.tower}"
    for item in (model, graph, *graph, *graph.initializers.values(), *graph.inputs, *graph.outputs):
        item.metadata_props.clear()
        item.doc_string = ""
