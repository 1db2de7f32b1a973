"""Learned rounding, as a bundle records it: what was chosen stands in the artifact, and its hashes in the manifest.

Nothing is learned anew to check it. The numbers of a layer in the file are those that were chosen if their hash is the
recorded one, and they are a rounding of the checkpoint's if they are about as near to them as the file's own grid
allows. Everything else is checked as ever: the module that was converted is the checkpoint's tower with the recorded
biases and the weights that stand in the file.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import check_tensors
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.grids.decode import StoredWeight
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.towers.tower import make_tower
from mobileclip_deploy.verify.matching import Matched

__all__ = ["learned_floats", "read_floats", "stored_sha256", "tower_to_round", "unlike_choice", "with_stored"]

# A learned number may stand several steps from where it was, and its neighbours make up for it. Of an output the root
# mean square of what its numbers are off by, in that of rounding to the nearest: REACH is far beyond what rounding
# does, and far below what a swapped, scaled or negated output is off by at 8 bits.
REACH = 6.0


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
    try:
        check_tensors(bundle.floats)
        found = load_file(bundle.floats)
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidInput(f"{bundle.floats} cannot be read: {error}; export the bundle again") from error
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
            weight.copy_(torch.from_numpy(match.stored.values).reshape(weight.shape))
    return rounded


def unlike_choice(match: Matched, grid: Grid, sha256: str) -> str | None:
    """How a stored weight is not the one that was chosen, or no rounding of the checkpoint's, in words; None where it
    is both."""
    stored = match.stored
    if stored.kind != grid.kind or stored.bits != grid.bits:
        return f"is stored as {stored.kind} of {stored.bits} bits, its storage says {grid.describe()}"
    if stored_sha256(stored) != sha256:
        return "is not the rounding that was learned: its numbers have another SHA-256 than the manifest records"
    rows = match.wanted.reshape(len(match.wanted), -1)
    nearest = stored.nearest(match.wanted).reshape(rows.shape)
    off = _size(stored.values.reshape(rows.shape) - rows)
    allowed = REACH * _size(nearest - rows) + 1e-6 * _size(rows)
    far = np.flatnonzero(~(off <= allowed))
    if not len(far):
        return None
    shown = ", ".join(map(str, far[:3])) + (", ..." if len(far) > 3 else "")
    return f"is no rounding of the checkpoint's: outputs {shown} are more than {REACH:g} times as far as the nearest"


def _size(rows: np.typing.NDArray[np.float32]) -> np.typing.NDArray[np.float64]:
    """The root mean square of each row."""
    return np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=1))
