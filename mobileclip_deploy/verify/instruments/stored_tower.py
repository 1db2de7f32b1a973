"""A tower in torch with the weights of a file, which also replaces a slow runtime."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.pictures.checkpoint_embedder import TorchRunner
from mobileclip_deploy.targets import Runner, Target
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.verify.instruments.matching import Matched


@torch.no_grad()
def tower_as_stored(module: nn.Module, matches: Sequence[Matched], grids: Storage | None) -> nn.Module:
    """Returns a copy of a folded tower with the weights of a file. Other tensors are rounded to the floats of the
    storage. Without a storage, uses the checkpoint's weights in the file's form, and rounds nothing."""
    stored = copy.deepcopy(module)
    tensors: dict[str, Tensor] = dict(stored.named_parameters()) | dict(stored.named_buffers())
    scales = {f"{name}.weight": (layer, scale) for name, layer, scale in scaled_layers(stored)}
    norms = {f"{name}.weight": (layer, norm) for name, layer, norm in normed_layers(stored)}
    for match in matches:
        if match.form == "normed":  # and the norm's bias in the layer's
            linear, norm = norms[match.layer]
            moved = linear.weight @ norm.bias
            before: Tensor | None = linear.bias
            linear.bias = nn.Parameter(moved if before is None else before + moved)
            norm.weight.fill_(1)
            norm.bias.zero_()
        if match.form == "scaled":  # the file has the layer scale multiplied into the weight and the bias before it
            layer, scale = scales[match.layer]
            if layer.bias is not None:
                layer.bias.mul_(scale.flatten())
            scale.fill_(1)
        values = match.wanted if grids is None else match.stored.values
        writable = torch.from_numpy(np.require(values, requirements="W"))
        tensors[match.layer].copy_(writable.reshape(tensors[match.layer].shape))
    if grids is None:
        return stored
    layers = {match.layer for match in matches}
    for name, tensor in tensors.items():
        if name not in layers and grids[name].kind == "float" and grids[name].bits == 16:
            tensor.copy_(tensor.half().float())
    return stored


@torch.no_grad()
def with_whole_steps(tower: nn.Module, matches: Sequence[Matched], steps: Mapping[str, Floats]) -> None:
    """Rounds the biases that a file stores in whole steps, in place.

    Args:
        steps: [outputs] of a layer, by the name of its weight in the file.
    """
    tensors = dict(tower.named_parameters())
    for match in matches:
        bias = tensors.get(f"{match.layer.removesuffix('weight')}bias")
        if match.stored.name in steps and bias is not None:
            step = torch.from_numpy(steps[match.stored.name].copy())
            bias.copy_((bias / step).round() * step)


def fast_runner(target: Target, artifact: Artifact, stored: Callable[[], Runner | None]) -> Runner | None:
    """Returns a fast replacement for a runtime that would take hours for all images. Prefers the artifact's own
    replacement, else torch with the weights from the file. None if the runtime is fast, or the weights cannot be read.

    The checks `graph` and `shipped` prove that the artifact computes the same, on the inputs that its runtime runs.

    Args:
        stored: makes the `stored_runner` of the artifact; gives None if its weights cannot be read.
    """
    if target.capabilities.places.slow_runtime is None:
        return None
    return artifact.stand_in() or stored()


def stored_runner(module: nn.Module, matches: Sequence[Matched], grids: Storage) -> Runner:
    """Returns a runner for torch with the weights from a file.

    Args:
        module: the folded tower that was converted.
        matches: which weight of the file belongs to which layer.
        grids: storage of its tensors.
    """
    stored = tower_as_stored(module, matches, grids)

    @torch.no_grad()
    def compute(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        answers: npt.NDArray[np.float32] = stored(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()
        return answers

    return TorchRunner(f"torch {torch.__version__} with the weights that stand in the file", compute)
