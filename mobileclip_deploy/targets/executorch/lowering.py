"""From a tower to the bytes of a .pte: exported by torch.export, lowered to a backend, memory planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mobileclip_deploy.targets.executorch.backends import Backend

if TYPE_CHECKING:
    from mobileclip_deploy.targets.base import TowerJob

__all__ = ["lower"]


def lower(module: nn.Module, job: TowerJob, backend: Backend) -> bytes:
    """The .pte of a module that is written for the backend; the same module gives the same bytes."""
    from executorch.exir import to_edge_transform_and_lower

    with torch.no_grad(), backend.lowering():
        program = torch.export.export(module, (job.example,), strict=False)
        edge = to_edge_transform_and_lower(program, partitioner=[backend.partitioner(job)])
        return bytes(edge.to_executorch().buffer)
