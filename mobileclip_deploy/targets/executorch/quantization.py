"""Quantization for XNNPACK: static int8 by torch's PT2E flow, dynamic int8 and int4 for linear layers.

Silent defect of torchao 0.18: `prepare_pt2e` fuses convolutions with BatchNorms without asking whether the convolution
has other users; an unfolded tower changes before anything is quantized. Here towers are folded, and every stage is
compared with the one before (see `stages`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.executorch.embedding import quantize_embeddings
from mobileclip_deploy.targets.executorch.stages import Stages

__all__ = ["quantize"]

GROUP = 32


def quantize(module: nn.Module, precision: str, inputs: Tensor, stages: Stages) -> nn.Module:
    """A tower that is written for XNNPACK, with quantized weights and activations.

    Args:
        module: in eval mode, folded; its embeddings are replaced in place.
        precision: w8a8 (static), w8 (dynamic, linear layers) or w4 (dynamic, int4 groups of 32).
        inputs: of the tower [N, ...]; w8a8 measures activations on them.
        stages: told of every step.

    Raises:
        ExportError: a stage no longer computes what the stage before it computed.
    """
    quantize_embeddings(module)
    stages.near("embedding", module)
    if precision == "w4":
        return _int4_linear(module, stages)
    return _pt2e(module, inputs, stages, dynamic=precision == "w8")


def _pt2e(module: nn.Module, inputs: Tensor, stages: Stages, dynamic: bool) -> nn.Module:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic))
    graph = torch.export.export(module, (inputs[:1],), strict=False).module()
    prepared = prepare_pt2e(graph, quantizer)
    stages.same("prepared", prepared)
    # Observers of weights see them when the graph runs: once is enough where activations are measured at run time.
    for row in inputs[: 1 if dynamic else None].split(1):
        prepared(row)
    converted: nn.Module = convert_pt2e(prepared)
    stages.near("converted", converted)
    return converted


def _int4_linear(module: nn.Module, stages: Stages) -> nn.Module:
    from torchao.quantization.granularity import PerGroup
    from torchao.quantization.quant_api import Int8DynamicActivationIntxWeightConfig, quantize_

    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=getattr(torch, "int4"),  # noqa: B009 (torch's stubs lack it)
        weight_granularity=PerGroup(GROUP),
    )
    quantize_(module, config)
    stages.near("converted", module)
    return module
