"""Learned rounding as a bundle records it: the rounded weights are in the artifact, their hashes in the manifest.

Verification does not learn again. An export compares the file with the weights that it has just learned. Later the
weights of a layer are the learned ones if their hash is the recorded one. They are near the checkpoint's if each output
is about as near as the file's own grid allows. All other checks are the usual ones: the converted module is the
checkpoint's tower with the recorded biases and the weights of the file.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.errors import REASON, InvalidInput
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.grids.decode import StoredWeight
from mobileclip_deploy.targets.grids.encode import to_nearest
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.verify.instruments.matching import Matched, shown_outputs

REACH = {"integers": 6.0, "table": 8.0}
"""Bound of an output's root-mean-square error, as a multiple of the nearest rounding's. An element may be several steps
away, since its neighbours compensate. Worst seen: 5.0 for integers and 6.3 for tables, in S0 by GPTQ. Exchanged outputs
of nano at `w4` begin at 6.2; three times the worst would pass up to 41% of them."""
CLEAR = 0.75
"""Cosine to the nearest rounding above which a learned one's is above 0. Worst seen: 0.25, nano's image at `w4p`."""


def stored_sha256(stored: StoredWeight) -> str:
    """Returns the SHA-256 of a weight's elements as the file stores them, dequantized, float32."""
    return hashlib.sha256(np.ascontiguousarray(stored.values, dtype=np.float32).tobytes()).hexdigest()


def tower_to_round(source: Source, tower: TowerName, target: Target, short: bool = False) -> nn.Module:
    """Returns a copy of a folded source's tower, prepared for learned rounding. Its layer scales and norms are
    multiplied into the weights, as the target's exporter does. `short`: see `make_tower`."""
    model = copy.deepcopy(source.model)
    target.capabilities.storing.absorb(getattr(model, tower))
    return make_tower(model, tower, short)


def learned_floats(before: nn.Module, after: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
    """Returns the tensors, by name, in which two copies of a tower differ, except the weights of these layers."""
    was = dict(before.named_parameters()) | dict(before.named_buffers())
    now = dict(after.named_parameters()) | dict(after.named_buffers())
    changed = (name for name in now if name not in layers and not torch.equal(was[name], now[name]))
    return {name: now[name].detach().clone() for name in changed}


@torch.no_grad()
def read_floats(bundle: Bundle, tower: TowerName, module: nn.Module) -> None:
    """Copies the floats that a bundle records into a tower, in place.

    Raises:
        InvalidInput: the file is damaged, or of another network.
    """
    message = f"{bundle.floats} cannot be read: {REASON}; export the bundle again"
    recorded, _ = read_tensors(bundle.floats, message)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for key, values in recorded.items():
        of, _, name = key.partition(".")
        if of != tower:
            continue
        if name not in tensors or tensors[name].shape != values.shape or not np.isfinite(values).all():
            raise InvalidInput(f"{bundle.floats}: {key} is not a tensor of this checkpoint; export the bundle again")
        tensors[name].copy_(torch.from_numpy(values))


@torch.no_grad()
def with_stored(module: nn.Module, matches: Sequence[Matched], layers: Mapping[str, str]) -> nn.Module:
    """Returns a copy of a tower with the weights of a file for these layers: the module that was converted."""
    rounded = copy.deepcopy(module)
    for match in matches:
        if match.layer in layers:
            weight = rounded.get_parameter(match.layer)
            weight.copy_(torch.from_numpy(np.require(match.stored.values, requirements="W")).reshape(weight.shape))
    return rounded


def unlike_learned(match: Matched, grid: Grid, sha256: str) -> str | None:
    """Returns in words the difference between a stored weight and the learned one, or the checkpoint's. None if there
    is none.

    Args:
        sha256: of the learned elements, as the manifest records it (see `stored_sha256`).
    """
    if (text := match.other_grid(grid)) is not None:
        return text
    if stored_sha256(match.stored) != sha256:
        return "is not the learned rounding: its SHA-256 differs from the manifest's"
    rows = match.wanted.reshape(len(match.wanted), -1)
    learned, nearest = match.stored.values.reshape(rows.shape), _nearest(match, grid).reshape(rows.shape)
    reach = REACH[grid.kind]
    # Negated, so that NaN counts as far.
    far = np.flatnonzero(~(_size(learned - rows) <= reach * _size(nearest - rows) + 1e-6 * _size(rows)))
    if len(far):
        which = shown_outputs(far)
        return f"is not a rounding of the checkpoint's: {which} are more than {reach:g} times as far as the nearest"
    clear = _products(nearest, rows) > CLEAR * _size(nearest) * _size(rows)
    if len(opposite := np.flatnonzero(clear & (_products(learned, rows) <= 0))):
        return f"is no rounding of the checkpoint's: {shown_outputs(opposite)} have another direction"
    return None


def _nearest(match: Matched, grid: Grid) -> Floats:
    """Returns the checkpoint's elements, rounded to the nearest.

    Integers have the scales that an export without learning chooses. Otherwise a scale in the file that is too small
    would loosen its own bound.
    """
    if grid.kind == "integers":
        return to_nearest(grid, torch.from_numpy(np.require(match.wanted, requirements="W"))).numpy()
    return match.stored.nearest(match.wanted)


def _products(one: Floats, other: Floats) -> npt.NDArray[np.float64]:
    return np.asarray(np.mean(one.astype(np.float64) * other, axis=1))


def _size(rows: Floats) -> npt.NDArray[np.float64]:
    return np.sqrt(_products(rows, rows))
