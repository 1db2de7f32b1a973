"""Check of an artifact's graph against torch with the weights from the file, so that only its arithmetic can differ.

Both sides have the same rounded weights, so a wrong softmax axis is visible at 4 bits as clearly as at 32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.artifacts.towers.classifier import Classifier
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.verify.instruments.matching import Matched
from mobileclip_deploy.verify.instruments.stored_constants import StoredConstants
from mobileclip_deploy.verify.instruments.tower_settings import tower_settings, unlike_tower
from mobileclip_deploy.verify.subject import Subject

STEP = "graph"
# A few inputs suffice: a wrong operation is wrong on every input.
INPUTS = 4
# Lower limit of a probability: float32 has few accurate digits for much smaller ones.
SMALLEST = 1e-30
# Rounding of a product in float32, as a share of its factors' lengths: a few units in the last place of a logit. nano's
# logits came to less than half of it.
PRODUCT = 2**-22
# For a file whose quantized activations cannot be traced: its biases may be whole steps of int8 sums.
CALIBRATED = Bound("cosine", 0.999)


def check_graph(subject: Subject, tower: TowerName) -> list[Check]:
    """Checks the artifact without further rounding against the checkpoint's tower with the artifact's weights. Also
    checks the artifact's settings against the tower's.

    At float32 only classifiers are run, since `shipped` is the same check for embeddings and its gate for classifiers
    is looser. Targets that cannot run their artifacts this way have no answers to check.
    """
    if subject.matched.get(tower) is None:
        return []
    try:
        graph = subject.artifact(tower).graph
    except InvalidInput as error:
        return [Check(step=STEP, tower=tower, status="failed", detail=str(error))]
    constants = StoredConstants(graph)
    run = subject.precision(tower) != "fp32" or bool(subject.head.names)
    checks = _answers(subject, tower, constants) if run else []
    if graph is None:
        return checks
    row = torch.from_numpy(subject.evidence.reference.inputs.of(tower)[:1])
    expected = tower_settings(subject.module(tower), row)
    wrong = unlike_tower(constants.settings, expected, tower == "image" and subject.form.pictures)
    if wrong is not None:
        checks = [check for check in checks if check.status == "failed"]
        return [*checks, Check(step=STEP, tower=tower, status="failed", detail=wrong)]
    return checks or [Check(step=STEP, tower=tower, status="passed", detail="settings are the checkpoint's")]


def _answers(subject: Subject, tower: TowerName, constants: StoredConstants) -> list[Check]:
    matches = subject.matched[tower]
    assert matches is not None
    try:
        runner = subject.artifact(tower).plain_runner()
        quantized = subject.quantized(tower)
    except (InvalidInput, NotRun) as error:
        return [Check.not_run(STEP, tower, str(error))]
    if runner is None:
        return []
    inputs = _inputs(subject, tower)
    grids = subject.grids(tower)
    exact = tower_as_stored(subject.module(tower), matches, grids)
    if quantized is not None:
        with_whole_steps(exact, matches, quantized.bias_steps)
    exact.double()
    constants.set_queries(exact, subject.module(tower))
    fed = torch.from_numpy(inputs)
    with torch.no_grad(), constants:
        expected = exact(fed.double() if tower == "image" else fed).float().numpy()
    floor = subject.floor(tower)
    bound = subject.gates.exact(floor)
    precision = subject.precision(tower)
    followed = quantized is not None or not precision_of(precision).calibrated
    if not followed:
        bound = subject.gates.shipped(precision, floor, True) if subject.head.names else CALIBRATED
    if subject.head.names and followed:
        room = _logit_room(subject, exact, expected, bound.value)
        return [_of_logits(tower, expected, runner(inputs), room, runner.engine)]
    return [Check.of_answers(STEP, tower, expected, runner(inputs), bound, runner.engine)]


def _inputs(subject: Subject, tower: TowerName) -> npt.NDArray[np.generic]:
    """Returns the first reference inputs. For texts, adds the longest prompt, a prompt that fills the context, and a
    prompt padded with ends of text. Short prompts do not reach the late positions of a causal tower. Some tokenizers
    pad with ends of text."""
    every = subject.evidence.reference.inputs.of(tower)
    if tower == "image":
        return every[:INPUTS]
    tokens = subject.bundle.manifest.tokens
    ends = np.where((every == tokens.eot).any(axis=1), (every == tokens.eot).argmax(axis=1), every.shape[1])
    start = len(tokens.first)
    words = np.concatenate([row[start:end] for row, end in zip(every, ends, strict=True)])
    full = np.full(every.shape[1], tokens.eot, every.dtype)
    full[:start] = tokens.first
    full[start:-1] = np.resize(words, len(full) - start - 1) if len(words) else tokens.eot
    longest = int(ends.argmax())
    rows = every[: INPUTS if longest < INPUTS else INPUTS + 1].copy()
    if longest >= INPUTS:
        rows[-1] = every[longest]
    padded = every[int(ends.argmin())].copy()
    padded[ends.min() :] = tokens.eot
    return np.concatenate([rows, full[None], padded[None]])


def _logit_room(subject: Subject, exact: nn.Module, wanted: Floats, relative: float) -> Floats:
    """Returns the allowed error of each label's logit, relative to the leading label's logit, [N, L].

    An error in a unit-length embedding moves the difference of two logits. The movement is the error's share, times the
    distance of the two labels, times the logit scale. So similar labels have a smaller bound. A network with classes of
    its own moves its logits by that share of their length. Float32 rounding of products is added.
    """
    if not isinstance(exact, Classifier):
        length = float(np.linalg.norm(subject.evidence.reference.of("image")[:INPUTS], axis=1).max())
        return np.full(wanted.shape, length * relative + PRODUCT * length)
    labels = exact.weights.double().numpy().T  # [L, D], the logit scale multiplied in
    apart = np.linalg.norm(labels[None] - labels[wanted.argmax(axis=1)][:, None], axis=2)
    return apart * relative + PRODUCT * np.linalg.norm(labels, axis=1)


def _of_logits(tower: TowerName, wanted: Floats, found: Floats, room: Floats, engine: str) -> Check:
    """Checks a classifier's answers as logits, since a softmax hides errors that do not change the leading label.

    Probabilities give logits up to a constant per image. Rounding of the float32 softmax is added to the bound: 2^-24
    of its argument, which is as large as the range of the logits, and a few units in the last place. The check reports
    the label that is nearest to its bound, or furthest beyond it.
    """
    if found.shape != wanted.shape:
        detail = f"answers of shape {list(found.shape)}, not {list(wanted.shape)}"
        return Check(step=STEP, tower=tower, status="failed", engine=engine, detail=detail)
    logits, actual = (
        np.log(np.clip(np.nan_to_num(rows.astype(np.float64)), SMALLEST, None)) for rows in (wanted, found)
    )
    bounds = room + 2**-20 + 2**-22 * float(np.ptp(logits, axis=1).max())
    # Against the most probable label, whose probability is at least 1 / L.
    leading = wanted.argmax(axis=1)[:, None]
    moved = np.abs(
        (actual - np.take_along_axis(actual, leading, 1)) - (logits - np.take_along_axis(logits, leading, 1))
    )
    worst = np.unravel_index((moved / bounds).argmax(), moved.shape)
    return Check(
        step=STEP,
        tower=tower,
        status="passed" if moved[worst] <= bounds[worst] else "failed",
        engine=engine,
        gate=f"logits within {bounds[worst]:.2g}",
        figures={"largest_logit_difference": float(moved[worst])},
    )


@torch.no_grad()
def tower_as_stored(module: nn.Module, found: Sequence[Matched], grids: Storage | None) -> nn.Module:
    """Returns a copy of a folded tower with the weights of a file. Other tensors are rounded to the floats of the
    storage. Without a storage, uses the checkpoint's weights in the file's form, and rounds nothing."""
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
    layers = {match.layer for match in found}
    for name, tensor in tensors.items():
        if name not in layers and grids[name].kind == "float" and grids[name].bits == 16:
            tensor.copy_(tensor.half().float())
    return stored


@torch.no_grad()
def with_whole_steps(tower: nn.Module, found: Sequence[Matched], steps: Mapping[str, Floats]) -> None:
    """Rounds the biases that a file stores in whole steps, in place.

    Args:
        steps: [outputs] of a layer, by the name of its weight in the file.
    """
    tensors = dict(tower.named_parameters())
    for match in found:
        bias = tensors.get(f"{match.layer.removesuffix('weight')}bias")
        if match.stored.name in steps and bias is not None:
            step = torch.from_numpy(steps[match.stored.name].copy())
            bias.copy_((bias / step).round() * step)
