"""The graph of an artifact against torch with the weights that stand in the file: what is left is its arithmetic.

Rounding of weights is the same on both sides, so that a wrong softmax axis shows at 4 bits as surely as at 32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.model.precision import precision_of
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets.quantized import Floats
from mobileclip_deploy.targets.storage import Storage, stored_in_half
from mobileclip_deploy.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.verify.matching import Matched
from mobileclip_deploy.verify.subject import Subject

__all__ = ["INPUTS", "check_graph", "tower_as_stored", "with_whole_steps"]

STEP = "graph"
# So many inputs are enough: an operation that computes something else does so on every one.
INPUTS = 4
# Where what is no layer's weight stands in float16, constants of the graph (1/255, an epsilon, the scale of attention)
# are rounded as well. nano's towers came to 2.3e-5 and 30 noise floors.
HALF_LEAST, HALF_FLOORS = 1e-4, 100.0
# For a file that quantizes activations and cannot be followed: its biases may be whole steps of sums of int8 products.
CALIBRATED = Bound("cosine", 0.999)


def check_graph(subject: Subject, tower: TowerName) -> list[Check]:
    """The artifact, with nothing rounded but what stands in it, against the checkpoint's tower with those weights.

    Nothing to be said of a target that cannot run its artifacts so.
    """
    found = subject.matched.get(tower)
    if found is None or subject.head.names:
        return []
    try:
        runner = subject.artifact(tower).plain_runner()
        quantized = subject.quantized(tower)
    except (InvalidInput, NotRun) as error:
        return [Check.not_run(STEP, tower, str(error))]
    if runner is None:
        return []
    inputs = subject.evidence.reference.inputs.of(tower)[:INPUTS]
    grids = subject.grids(tower)
    exact = tower_as_stored(subject.module(tower), found, grids)
    if quantized is not None:
        with_whole_steps(exact, found, quantized.bias_steps)
    exact.double()
    fed = torch.from_numpy(inputs)
    with torch.no_grad():
        wanted = exact(fed.double() if tower == "image" else fed).float().numpy()
    floor = subject.floor(tower)
    bound = subject.gates.exact(floor)
    if precision_of(subject.bundle.manifest.towers[tower].precision).calibrated and quantized is None:
        bound = CALIBRATED
    elif stored_in_half(grids):
        bound = Bound("relative", max(bound.value, HALF_LEAST, HALF_FLOORS * (floor or 0.0)))
    return [Check.of_answers(STEP, tower, wanted, runner(inputs), bound, runner.engine)]


@torch.no_grad()
def tower_as_stored(module: nn.Module, found: Sequence[Matched], grids: Storage | None) -> nn.Module:
    """A copy of a folded tower with the numbers of a file: each layer's weight as it stands there, all other tensors
    rounded to the floats that the storage says; without a storage in the form of the file, and nothing rounded."""
    stored = copy.deepcopy(module)
    tensors: dict[str, Tensor] = dict(stored.named_parameters()) | dict(stored.named_buffers())
    scales = {f"{name}.weight": (layer, scale) for name, layer, scale in scaled_layers(stored)}
    norms = {f"{name}.weight": (layer, norm) for name, layer, norm in normed_layers(stored)}
    for match in found:
        if match.form == "normed":  # and the norm's bias in the layer's
            linear, norm = norms[match.layer]
            moved = linear.weight @ norm.bias
            before: Tensor | None = linear.bias
            linear.bias = nn.Parameter(moved if before is None else before + moved)
            norm.weight.fill_(1)
            norm.bias.zero_()
        if match.form == "scaled":  # the file has the layer scale in the weight and the bias before it
            layer, scale = scales[match.layer]
            if layer.bias is not None:
                layer.bias.mul_(scale.flatten())
            scale.fill_(1)
        values = match.wanted if grids is None else match.stored.values
        tensors[match.layer].copy_(torch.from_numpy(values).reshape(tensors[match.layer].shape))
    if grids is None:
        return stored
    layers = {match.layer for match in found}
    for name, tensor in tensors.items():
        if name not in layers and grids[name].kind == "float" and grids[name].bits == 16:
            tensor.copy_(tensor.half().float())
    return stored


@torch.no_grad()
def with_whole_steps(tower: nn.Module, found: Sequence[Matched], steps: Mapping[str, Floats]) -> None:
    """Round the biases that a file holds in whole steps, in place.

    Args:
        steps: [outputs] of a layer, by the name of its weight in the file.
    """
    tensors = dict(tower.named_parameters())
    for match in found:
        bias = tensors.get(f"{match.layer.removesuffix('weight')}bias")
        if match.stored.name in steps and bias is not None:
            step = torch.from_numpy(steps[match.stored.name].copy())
            bias.copy_((bias / step).round() * step)
