"""Writer of a tower as an MLX function: the ONNX target's float32 graph, traced by MLX with the weights of the
storage."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import onnx_ir as ir
import torch

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.targets.grids.encode import int4_blocks, integers_of, pack_int4
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.mlx.function_file import Device, read_function, rewritten
from mobileclip_deploy.targets.mlx.runner import STREAMS
from mobileclip_deploy.targets.mlx.storage import RULES
from mobileclip_deploy.targets.mlx.walking import Packed, Walk
from mobileclip_deploy.targets.onnx.graph import captured
from mobileclip_deploy.targets.onnx.weights import OnnxWeight, rows_of, weights
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_deploy.targets.rules import stored
from mobileclip_deploy.targets.storage import by_numbers, require_all
from mobileclip_deploy.targets.values import TensorInfo, TowerJob


def write_function(
    job: TowerJob, path: Path, ports: tuple[TensorInfo, TensorInfo], device: Device, metadata: bool
) -> None:
    """Writes the function for a batch of one.

    Args:
        device: of its operations.
        metadata: True for the form of MLX 0.32.2 and newer.

    Raises:
        ExportError: the exporter refused the tower, or it has an operation that is not written for MLX.
    """
    with conversion(f"MLX export of the {job.tower} tower"), torch.no_grad():
        graph = job.once("mlx", lambda: captured(job, *ports, batch=1)).graph
        walk = _walk(graph, job)
        with temporary_folder() as folder, mx.stream(STREAMS[mx.cpu]):
            traced = folder / path.name
            mx.export_function(str(traced), walk, mx.zeros(ports[0].shape, getattr(mx, ports[0].dtype)))
            data, function = traced.read_bytes(), read_function(traced)
        text = f"{job.variant.name} {job.tower} {job.precision}; {job.licence}" if metadata else None
        path.write_bytes(rewritten(data, function, device, text))


def _walk(graph: ir.Graph, job: TowerJob) -> Walk:
    if job.precision in ("fp32", "fp16"):
        return Walk(graph, mx.float16 if job.precision == "fp16" else mx.float32)
    grids = stored(RULES, job.tower, job.module, job.precision, job.four_bit)
    listed = list(weights(graph, by_numbers(job.module, grids, floats=True)))
    require_all(grids, [weight.layer for weight in listed])
    packed = {
        weight.name: _packed(weight, grids[weight.layer]) for weight in listed if grids[weight.layer].kind != "float"
    }
    return Walk(
        graph, mx.float32, packed, frozenset(weight.name for weight in listed if grids[weight.layer].bits == 16)
    )


def _packed(weight: OnnxWeight, grid: Grid) -> Packed:
    rows = rows_of(weight)
    rows = np.ascontiguousarray(rows.reshape(len(rows), -1))  # also of a 1 x 1 convolution
    assert grid.block is not None
    if grid.bits == 4:
        integers, scales = int4_blocks(rows, grid.block)
        packed = pack_int4(integers.reshape(rows.shape), 8)
    else:
        signed, halves = integers_of(torch.from_numpy(rows), grid)
        packed, scales = (signed.numpy().astype(np.int16) + 128).astype(np.uint8), halves.numpy()
    return Packed(np.ascontiguousarray(packed).view(np.uint32), scales.astype(np.float16), grid.bits, grid.block)
