"""Quantization for XNNPACK: static int8 by torch's PT2E flow, dynamic int8 and int4 for linear layers.

Silent defect of torchao 0.18: `prepare_pt2e` fuses convolutions with BatchNorms even if the convolution has other
users. An unfolded tower then changes before anything is quantized. Here towers are folded, and every stage is compared
with the one before (see `pipeline`).
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.targets.executorch.backends import FreeShape, stays_float
from mobileclip_deploy.targets.executorch.embedding import PaletteEmbedding, quantize_embeddings
from mobileclip_deploy.targets.executorch.lowering import traced
from mobileclip_deploy.targets.executorch.stages import Stages
from mobileclip_deploy.targets.grids.grid import Grid

# Smallest step of weights. executorch's own configuration has 2^-12. A channel's step is smaller than that if a layer
# scale is multiplied into it: its weights would then be rounded more coarsely than to 127 steps.
SMALLEST_STEP = 2.0**-24


def quantize(
    module: nn.Module,
    precision: str,
    inputs: Tensor,
    stages: Stages,
    grids: Mapping[str, Grid],
    free: FreeShape,
) -> nn.Module:
    """Quantizes weights and activations of a tower that was rewritten for XNNPACK.

    Args:
        module: in eval mode, folded; its embeddings are replaced in place.
        precision: of all but the word table: w8a8 (static), w8 (dynamic, linear layers) or w4 (dynamic, int4 groups of
            32, the projection int8).
        inputs: inputs of the tower [N, ...]; w8a8 measures activations on them.
        stages: checks every step.
        grids: grids of the weights, by `provenance.weight_sha256`; at w8 and w8a8 they describe XNNPACK's own choice.
        free: free dimensions of the result's input.
    """
    quantize_embeddings(module, grids)
    stages.near("embedding", module)
    if precision == "w4":
        return _linear(module, stages, grids)
    return _pt2e(traced(module, inputs[:1], free).module(), inputs, stages, dynamic=precision == "w8")


def _in_int8(node: torch.fx.Node) -> bool:
    """Returns whether an operation of an image tower is quantized: only convolutions and products that do not stay
    float. Additions and multiplications in int8 round once more and are not faster."""
    if node.op != "call_function":
        return True
    if node.target not in (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default):
        return False
    *_, (path, _) = node.meta["nn_module_stack"].values()  # "encoder.stem.0.conv"
    groups = node.args[6] if len(node.args) > 6 else 1
    return not stays_float(path.rpartition("encoder.")[2], bool(groups != 1))


def _outside_of_palettes(node: torch.fx.Node) -> bool:
    """Returns whether an operation of a text tower may be quantized: all but those that unpack indices of a table."""
    kinds = [kind for _, kind in node.meta.get("nn_module_stack", {}).values()]
    return not any(str(kind).endswith(PaletteEmbedding.__name__) for kind in kinds)


def _pt2e(graph: nn.Module, inputs: Tensor, stages: Stages, *, dynamic: bool) -> nn.Module:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    # Without patterns of convolutions with BatchNorms: there are none here, and exporting the patterns' examples took a
    # tenth of an export.
    quantizer.SUPPORTED_PATTERNS = [pattern for pattern in quantizer.SUPPORTED_PATTERNS if not pattern.is_qat]
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    fine = replace(config.weight, observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=SMALLEST_STEP))
    quantizer.set_global(replace(config, weight=fine))
    pixels = inputs.is_floating_point()
    quantizer.set_filter_function(_in_int8 if pixels else _outside_of_palettes)
    prepared = prepare_pt2e(graph, quantizer)
    stages.same("prepared", prepared, observes=True)
    # Observers of weights need the graph to run; once is enough if activations are measured at run time.
    for row in inputs[: 1 if dynamic else None].split(1):
        prepared(row)
    converted = convert_pt2e(prepared)
    _give_sums_their_own_inputs(converted.graph)
    converted.recompile()
    stages.near("converted", converted)
    return converted


def _give_sums_their_own_inputs(graph: torch.fx.Graph) -> None:
    """Gives each int8 sum its own dequantization of its inputs.

    XNNPACK takes such a sum and its dequantizations as one piece. In x + mlp(norm(x)) after a linear layer (PE-Core's
    pooling) the norm would use x from that piece. The piece's other input depends on the norm: a cycle.
    """
    int8 = torch.ops.quantized_decomposed
    restoring, rounding = int8.dequantize_per_tensor.default, int8.quantize_per_tensor.default
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor):
        if {user.target for user in node.users} != {rounding} or {each.target for each in node.all_input_nodes} != {
            restoring
        }:
            continue
        for value in [each for each in node.all_input_nodes if len(each.users) > 1]:
            with graph.inserting_before(node):
                node.replace_input_with(value, graph.node_copy(value))


def _linear(module: nn.Module, stages: Stages, grids: Mapping[str, Grid]) -> nn.Module:
    """Stores linear layers as int4 weights in -7 ... 7, one scale per group of inputs, or as int8, one scale per
    output, as their grids say. Activations are measured at run time.

    As on Core ML, the largest value of a group is at the end of the range: learned weights then keep their integers.
    torchao's own symmetric mapping puts it half a step further and clips it.
    """
    from torchao.quantization import IntxUnpackedToInt8Tensor

    for layer in module.modules():
        if not isinstance(layer, nn.Linear):
            continue
        weight = layer.weight.detach()  # [O, I]
        grid = grids.get(weight_sha256(weight.numpy()))
        if grid is not None:
            block = grid.block or weight.shape[1]
            largest = weight.reshape(len(weight), -1, block).abs().amax(dim=2)  # [O, I / block]
            scale = torch.where(largest == 0, torch.ones_like(largest), largest / grid.high)
            quantized = IntxUnpackedToInt8Tensor.from_hp(
                weight,
                (1, block),
                torch.int8 if grid.bits == 8 else getattr(torch, "int4"),  # noqa: B009 (torch's stubs lack it)
                activation_quantization="int8_asym_per_token",
                intx_choose_qparams_algorithm=None,
                custom_scale=scale,
                custom_zero_point=torch.zeros_like(scale, dtype=torch.int8),
            )
            layer.weight = nn.Parameter(quantized, requires_grad=False)
    stages.near("converted", module)
    return module
