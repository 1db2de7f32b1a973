"""Lowering of a tower to the bytes of a .pte: exported by torch.export, lowered to a backend, memory planned."""

from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.executorch.backends import PORTS, Backend, FreeShape, LoweringJob
from mobileclip_deploy.targets.executorch.model_schema import METHOD, model_schema

# Largest free batch of prompts: more than most sets of labels, and little memory (S0: 32 MB).
LARGEST_BATCH = 64


def lower(module: nn.Module, job: LoweringJob, backend: Backend) -> bytes:
    """Returns the .pte of a module that was rewritten for the backend; the same module gives the same bytes."""
    from executorch.exir import to_edge_transform_and_lower

    schema = model_schema(*PORTS.of(job.variant, job.tower, len(job.labels)), job.free, LARGEST_BATCH)
    with torch.no_grad(), backend.lowering():
        program = traced(module, job.example, job.free)
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[backend.partitioner(job)],
            constant_methods={METHOD: schema} if job.options.model_schema else None,
        )
        return bytes(edge.to_executorch().buffer)


def traced(module: nn.Module, example: Tensor, free: FreeShape) -> torch.export.ExportedProgram:
    """Exports the module with torch.export on an input [1, ...] with these free dimensions; a batch is up to
    `LARGEST_BATCH`.

    torch.export loses an upper bound above the example's size, so the example is repeated to the full batch.
    """
    sizes: tuple[dict[int, Any], ...] | None = None
    if free.shortest is not None:
        sizes = ({1: torch.export.Dim("tokens", min=free.shortest, max=example.shape[1])},)
    elif free.batch:
        sizes = ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},)
        example = example.repeat(LARGEST_BATCH, *[1] * (example.dim() - 1))
    return torch.export.export(module, (example,), dynamic_shapes=sizes, strict=False)
