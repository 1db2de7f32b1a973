"""A table of words whose scales or entries were tuned: its integers and indices are the nearest, and are held to that.

Rounding is learned for what a layer takes. A table of words takes nothing: its numbers stay at the nearest points of
the grid as it was before training moved scales or entries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import scales_tried
from mobileclip_deploy.verify.matching import Matched

Outputs = npt.NDArray[np.bool_]


def not_nearest(match: Matched, grid: Grid, room: float, least: float) -> Outputs:
    """Whether numbers of a word are not the nearest, for each of [words].

    Args:
        room: by what share of itself a scale may have been moved.
        least: by how much it may have been, however small it is.
    """
    if grid.kind == "table":
        return _off_their_entries(match, grid)
    wanted, stored = (
        torch.from_numpy(np.require(one, requirements="W")) for one in (match.wanted, match.stored.values)
    )
    block, wrong = grid.block or wanted.shape[1], torch.zeros(len(wanted), dtype=torch.bool)
    for own, have in zip(wanted.split(block, dim=1), stored.split(block, dim=1), strict=True):
        wrong |= ~_nearest(own, have, grid, room, least)
    return wrong.numpy()


def _nearest(own: torch.Tensor, have: torch.Tensor, grid: Grid, room: float, least: float) -> torch.Tensor:
    """Whether the numbers of blocks [words, n] are the integers that one of the scales that are tried gives, by a scale
    that is so near to that one."""
    extreme = own.abs().argmax(dim=1, keepdim=True)
    right = (own == 0).all(dim=1) & (have == 0).all(dim=1)
    for scale, end in scales_tried(grid, own.gather(1, extreme)):
        step = have.gather(1, extreme) / end
        rows = (~right & ((step - scale).abs() <= room * scale.abs() + least)[:, 0]).nonzero()[:, 0]
        integers = (own[rows] / scale[rows]).round().clamp(grid.low, grid.high).scatter(1, extreme[rows], end[rows])
        right[rows] = ((have[rows] / step[rows]).round() == integers).all(dim=1)
    return right


def _off_their_entries(match: Matched, grid: Grid) -> Outputs:
    """Whether numbers of a word have another entry than others of their size: the numbers of an entry are all between
    those of the entry below and those of the entry above."""
    together, wrong = grid.group or len(match.wanted), []
    for start in range(0, len(match.wanted), together):
        own, have = (one[start : start + together].reshape(-1) for one in (match.wanted, match.stored.values))
        _, entries = np.unique(have, return_inverse=True)
        # Training may have moved two entries past each other: they are told by the numbers that have them.
        places = np.argsort(np.bincount(entries, own) / np.bincount(entries)).argsort()[entries]
        order, off = np.argsort(own, kind="stable"), np.empty(len(own), bool)
        off[order] = places[order] != np.sort(places)
        many = off.reshape(-1, match.wanted[0].size).sum(axis=1)
        wrong.append(2 * many > many.max())
    return np.concatenate(wrong)
