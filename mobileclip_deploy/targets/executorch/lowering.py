"""From a tower to the bytes of a .pte: exported by torch.export, lowered to a backend, memory planned."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.executorch.backends import Backend
from mobileclip_deploy.targets.executorch.etrecord import etrecord_path, write_etrecord
from mobileclip_deploy.targets.executorch.job import FreeShape, LoweringJob

__all__ = ["LARGEST_BATCH", "lower", "traced"]

# Of prompts, where the batch is left free: more than most sets of labels, and little enough memory (S0: 32 MB).
LARGEST_BATCH = 64


def lower(module: nn.Module, job: LoweringJob, backend: Backend, path: Path) -> bytes:
    """The .pte of a module that is written for the backend; the same module gives the same bytes.

    Writes the ETRecord of `path` where it is wanted.
    """
    from executorch.exir import to_edge_transform_and_lower

    record = job.options.etrecord
    with torch.no_grad(), backend.lowering():
        program = traced(module, job.example, job.free)
        edge = to_edge_transform_and_lower(program, partitioner=[backend.partitioner(job)], generate_etrecord=record)
        lowered = edge.to_executorch()
    if record:
        write_etrecord(lowered, etrecord_path(path))
    return bytes(lowered.buffer)


def traced(module: nn.Module, example: Tensor, free: FreeShape) -> torch.export.ExportedProgram:
    """The module as torch.export sees it on an input [1, ...], of which this is free; a batch up to `LARGEST_BATCH`.

    The upper bound is lost when the example is smaller than it: the example is repeated as often as the bound says.
    """
    if free.shortest is not None:
        tokens = torch.export.Dim("tokens", min=free.shortest, max=example.shape[1])
        return torch.export.export(module, (example,), dynamic_shapes=({1: tokens},), strict=False)
    if not free.batch:
        return torch.export.export(module, (example,), strict=False)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    inputs = example.repeat(LARGEST_BATCH, *[1] * (example.dim() - 1))
    return torch.export.export(module, (inputs,), dynamic_shapes=({0: batch},), strict=False)
