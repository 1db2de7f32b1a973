"""Learned rounding, as a bundle records it: what was chosen stands in the artifact, and its hashes in the manifest.

Nothing is learned again to check it. An export compares the file with the numbers that it has just learned. Later the
numbers of a layer are those that were learned if their hash is the recorded one. They are near the checkpoint's if each
output is about as near as the file's own grid allows. Everything else is checked as ever: the module that was converted
is the checkpoint's tower with the recorded biases and the weights of the file.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import WHY, InvalidInput, refusing
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.grids.decode import StoredWeight
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.train import to_nearest
from mobileclip_deploy.verify.matching import Matched, shown_outputs

REACH = {"integers": 6.0, "table": 8.0}
"""Bound of an output's root-mean-square error, in that of rounding to the nearest. A learned number may be several
steps from where it was, and its neighbours make up for it. Worst seen: 5.0 of integers and 6.3 of tables, in S0 by
GPTQ."""


def stored_sha256(stored: StoredWeight) -> str:
    """SHA-256 of a weight's numbers as the file holds them, dequantized, float32."""
    return hashlib.sha256(np.ascontiguousarray(stored.values, dtype=np.float32).tobytes()).hexdigest()


def tower_to_round(source: Source, tower: TowerName, target: Target, short: bool = False) -> nn.Module:
    """A copy of a folded source's tower as rounding is learned on it: with its layer scales and norms in the weights,
    where the target's exporter puts them. `short`: see `make_tower`."""
    model = copy.deepcopy(source.model)
    target.abilities.absorb(getattr(model, tower))
    return make_tower(model, tower, short)


def learned_floats(before: nn.Module, after: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
    """The tensors, by name, in which two copies of a tower differ, but for the weights of these layers."""
    was = dict(before.named_parameters()) | dict(before.named_buffers())
    now = dict(after.named_parameters()) | dict(after.named_buffers())
    changed = (name for name in now if name not in layers and not torch.equal(was[name], now[name]))
    return {name: now[name].detach().clone() for name in changed}


@torch.no_grad()
def read_floats(bundle: Bundle, tower: TowerName, module: nn.Module) -> None:
    """Give a tower the floats that a bundle records of it, in place.

    Raises:
        InvalidInput: the file is damaged, or of another network.
    """
    told = f"{bundle.floats} cannot be read: {WHY}; export the bundle again"
    with refusing(told, OSError, ValueError, SafetensorError):
        check_tensors(bundle.floats)
        found = load_file(bundle.floats)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for key, values in found.items():
        of, _, name = key.partition(".")
        if of != tower:
            continue
        if name not in tensors or tensors[name].shape != values.shape or not bool(torch.isfinite(values).all()):
            raise InvalidInput(f"{bundle.floats}: {key} is no tensor of this checkpoint; export the bundle again")
        tensors[name].copy_(values)


@torch.no_grad()
def with_stored(module: nn.Module, found: Sequence[Matched], layers: Mapping[str, str]) -> nn.Module:
    """A copy of a tower with the numbers of a file for the weights of these layers: what was converted."""
    rounded = copy.deepcopy(module)
    for match in found:
        if match.layer in layers:
            weight = rounded.get_parameter(match.layer)
            weight.copy_(torch.from_numpy(np.require(match.stored.values, requirements="W")).reshape(weight.shape))
    return rounded


def unlike_learned(match: Matched, grid: Grid, sha256: str) -> str | None:
    """Returns in words how a stored weight is not the one that was learned, or not near the checkpoint's; else None.

    Args:
        sha256: of the learned numbers, as the manifest records it (see `stored_sha256`).
    """
    if (text := match.elsewhere(grid)) is not None:
        return text
    if stored_sha256(match.stored) != sha256:
        return "is not the rounding that was learned: its numbers have another SHA-256 than the manifest records"
    rows = match.wanted.reshape(len(match.wanted), -1)
    error = _size(match.stored.values.reshape(rows.shape) - rows)
    nearest = _size(_nearest(match, grid).reshape(rows.shape) - rows)
    reach = REACH[grid.kind]
    # Negated, so that what is not a number is off.
    far = np.flatnonzero(~(error <= reach * nearest + 1e-6 * _size(rows)))
    if not len(far):
        return None
    which = shown_outputs(far)
    return f"is no rounding of the checkpoint's: {which} are more than {reach:g} times as far as the nearest"


def _nearest(match: Matched, grid: Grid) -> Floats:
    """Returns the checkpoint's numbers, rounded to the nearest.

    Integers have the scales that an export without learning chooses. A scale in the file that is too small would bring
    the bound that lets it pass.
    """
    if grid.kind == "integers":
        return to_nearest(grid, torch.from_numpy(np.require(match.wanted, requirements="W"))).numpy()
    return match.stored.nearest(match.wanted)


def _size(rows: Floats) -> npt.NDArray[np.float64]:
    """Root mean square of each row."""
    return np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=1))
