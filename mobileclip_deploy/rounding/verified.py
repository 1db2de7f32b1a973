"""Learned rounding, as a bundle records it: what was chosen stands in the artifact, and its hashes in the manifest.

Nothing is learned anew to check it. The numbers of a layer in the file are those that were chosen if their hash is the
recorded one, and they are a rounding of the checkpoint's if they are about as near to them as the file's own grid
allows. Everything else is checked as ever: the module that was converted is the checkpoint's tower with the recorded
biases and the weights that stand in the file.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.errors import WHY, InvalidInput, refusing
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.rounding.layer_answers import LayerAnswers
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.grids.decode import StoredWeight
from mobileclip_deploy.targets.grids.encode import LEARNED
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import scales_tried
from mobileclip_deploy.verify.matching import Matched, shown_outputs

UNLIKE = "is no rounding of the checkpoint's"
DRIFTED = f"{UNLIKE}: all numbers of {{}} are off to the same side"

# A learned number may stand several steps from where it was, and its neighbours make up for it. Of an output the root
# mean square of what its numbers are off by, in that of rounding to the nearest: REACH is far beyond what rounding
# does, and far below what a swapped, scaled or negated output is off by at 8 bits. By GPTQ S0's outputs came to 5.0 of
# integers and to 6.3 of tables, which outputs of small numbers share with others.
REACH = {"integers": 6.0, "table": 8.0}
# What errors of an output have in common: their mean, in that root mean square and in their own deviation from it. By
# GPTQ nano's image tower came to 1.4 (9 inputs; 0.6 with 49 and more), its text tower to 2.7, which was 2.2 of their
# deviation (of 192 captions, fewer than learning takes), S0's (golden-filled) to 1.7 and 1.8. Indices that are all off
# by one come to 3.5, since a step is sqrt(12) times what rounding to it is off by, and to 2.9 of the deviation, which
# is as before: where no value that reaches the layer shows it, the rest of this file's bounds do not.
# What a LayerNorm gives sums to 0, so that a constant added to a row behind it moves no answer, and GPTQ holds no row
# back from it. With 64 numbers 1 of 384 outputs of nano's text tower came to 3.2 and 2.5 at 4 bits, the next one to
# 2.1; with 32 numbers 1 of 96, and 2 of 96 on a processor that adds up in another order. What reads or writes indices
# wrongly does so in all outputs: more than 1 in DRIFTING have to, and where a constant moves no answer 1 in UNSEEN.
MEAN, TOGETHER, DRIFTING, UNSEEN = 3.0, 2.1, 64, 8
# How far tuning moves a scale, as a share of it. Adam moves a parameter by about its rate per step at most, and the
# rates of `TuningSettings` add up to 0.01815. Nano's text tower at 8 bits came to 0.0066 (52,224 scales).
TUNED = 0.0182
# Of the number at the end of a block's range, in float32, in float16 and in bfloat16: as in `Matched.wrong`.
ENDS = {32: 1e-6, 16: 3 * 2**-10, 8: 3 * 2**-7}
# A float16 below 6e-5 stands in steps of 2^-24, whatever its size. S0 (golden-filled) has scales of 6e-6.
SMALLEST = 3 * 2**-25


@dataclass(frozen=True)
class Choice:
    """What is recorded of a layer whose rounding was learned.

    Attributes:
        grid: of its storage.
        sha256: of its numbers (see `stored_sha256`).
        method: by which they were learned.
        half: its scales or its numbers are float16.
    """

    grid: Grid
    sha256: str
    method: str
    half: bool

    @property
    def room(self) -> float:
        """By what share of itself training may have moved a scale: GPTQ moves integers, never a scale."""
        return TUNED if self.method == "tuned" else 0.0

    @property
    def slack(self) -> float:
        """What rounding does to a scale, as a share."""
        return ENDS[8 if self.grid.bfloat16 else 16 if self._in_half else 32]

    @property
    def least(self) -> float:
        """What rounding does to a scale however small it is."""
        return SMALLEST if self._in_half and not self.grid.bfloat16 else 0.0

    @property
    def _in_half(self) -> bool:
        """The encoder of 4-bit blocks holds scales as float16, whatever a file stores them as."""
        return self.half or self.grid.scale_bytes == 2 or self.grid.bits < 8


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


def unlike_choice(match: Matched, choice: Choice, answers: LayerAnswers | None) -> str | None:
    """How a stored weight is not the one that was chosen, or no rounding of the checkpoint's, in words; None where it
    is both.

    Args:
        answers: what the layer answers with it; None of a table of words.
    """
    if (text := match.elsewhere(choice.grid)) is not None:
        return text
    if stored_sha256(match.stored) != choice.sha256:
        return "is not the rounding that was learned: its numbers have another SHA-256 than the manifest records"
    for words, outputs in unlike_outputs(match, choice, answers):
        if len(outputs):
            return words.format(shown_outputs(outputs))
    return None


def unlike_outputs(
    match: Matched, choice: Choice, answers: LayerAnswers | None
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """What no rounding of the checkpoint's does, in words with a place for the outputs, and which outputs do it.

    Args:
        answers: what the layer answers with it; None of a table of words.
    """
    grid, stored = choice.grid, match.stored
    if answers is None:
        moved = not_nearest(match, grid, choice.room + choice.slack, choice.least)
        yield "is not rounded to the nearest: {} are not", np.flatnonzero(moved)
        return
    rows = match.wanted.reshape(len(match.wanted), -1)
    off = stored.values.reshape(rows.shape) - rows
    nearest, least = _size(stored.nearest(match.wanted).reshape(rows.shape) - rows), 1e-6 * _size(rows)
    reach = REACH[grid.kind]
    far = np.flatnonzero(~(_size(off) <= reach * nearest + least))
    yield f"{UNLIKE}: {{}} are more than {reach:g} times as far as the nearest", far
    errors = off.astype(np.float64)
    together = np.maximum(MEAN * nearest, TOGETHER * errors.std(axis=1))
    far = np.flatnonzero(~(np.abs(errors.mean(axis=1)) <= together + least))
    many = DRIFTING if answers.shows_constant else UNSEEN
    yield DRIFTED, far if many * len(far) > len(errors) else far[:0]
    if grid.kind == "integers":
        yield "has scales that its rounding would not have: of {} are so", np.flatnonzero(_off_the_end(match, choice))
    for words, far in answers.wrong(choice.room + _rounded_scale(match, choice)):
        yield f"{UNLIKE}: {{}} {words}", far


def _off_the_end(match: Matched, choice: Choice) -> npt.NDArray[np.bool_]:
    """Whether a block's largest number does not stand where learning puts it, for each output: at the end of the range,
    by one of the scales that it tries, which training may have moved."""
    grid = choice.grid
    wanted, stored = (array.reshape(*array.shape[:2], -1) for array in (match.wanted, match.stored.values))
    block, moved = grid.block or wanted.shape[1], np.zeros(len(wanted), bool)
    shares, steps = np.asarray(LEARNED if grid.bits < 8 else (1.0,)), max(-grid.low, grid.high)
    for start in range(0, wanted.shape[1], block):
        own, have = (array[:, start : start + block].reshape(len(wanted), -1) for array in (wanted, stored))
        largest = np.abs(own).max(axis=1, keepdims=True)
        ratios = np.divide(have, own, out=np.zeros_like(have), where=own != 0)
        least = np.divide(steps * choice.least, largest, out=np.zeros_like(largest), where=largest != 0)[..., None]
        near = (np.abs(ratios[..., None] - shares) <= (choice.slack + choice.room) * shares + least).any(axis=2)
        moved |= ~((near & (np.abs(own) == largest)).any(axis=1) | (largest[:, 0] == 0))
    return moved


def _rounded_scale(match: Matched, choice: Choice) -> npt.NDArray[np.float64]:
    """By what share of itself rounding moves an output's scale at most, that of any of its blocks, [O]: a scale that is
    very small has few digits."""
    grid, rows = choice.grid, np.abs(match.wanted.reshape(*match.wanted.shape[:2], -1)).max(axis=2)
    share = np.zeros(len(rows))
    if grid.kind == "integers":
        for start in range(0, rows.shape[1], grid.block or rows.shape[1]):
            largest = rows[:, start : start + (grid.block or rows.shape[1])].max(axis=1).astype(np.float64)
            own = np.divide(
                max(-grid.low, grid.high) * choice.least, largest, out=np.zeros_like(largest), where=largest > 0
            )
            share = np.maximum(share, own)
    return share


def _size(rows: np.typing.NDArray[np.float32]) -> np.typing.NDArray[np.float64]:
    """The root mean square of each row."""
    return np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=1))


def not_nearest(match: Matched, grid: Grid, room: float, least: float) -> npt.NDArray[np.bool_]:
    """Whether numbers of a word are not the nearest, for each of [words].

    Rounding is learned for what a layer takes. A table of words takes nothing: its numbers stay at the nearest points
    of the grid as it was before training moved scales or entries.

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


def _nearest(own: Tensor, have: Tensor, grid: Grid, room: float, least: float) -> Tensor:
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


def _off_their_entries(match: Matched, grid: Grid) -> npt.NDArray[np.bool_]:
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
