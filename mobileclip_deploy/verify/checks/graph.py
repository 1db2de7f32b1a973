"""Check of an artifact's graph against torch with the weights from the file, so that only its arithmetic can differ.

Both sides have the same rounded weights, so a wrong softmax axis is visible at 4 bits as clearly as at 32.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mobileclip_deploy.artifacts.heads.contexts import ended
from mobileclip_deploy.artifacts.towers.classifier import Classifier
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.verify.instruments.matching import Matched
from mobileclip_deploy.verify.instruments.stored_constants import StoredConstants
from mobileclip_deploy.verify.instruments.stored_tower import tower_as_stored, with_whole_steps
from mobileclip_deploy.verify.instruments.tower_settings import tower_settings, unlike_tower
from mobileclip_deploy.verify.subject import TowerProof

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


def check_graph(tower: TowerProof) -> list[Check]:
    """Checks the artifact without further rounding against the checkpoint's tower with the artifact's weights. Also
    checks the artifact's settings against the tower's.

    At float32 only classifiers are run, since `shipped` is the same check for embeddings and its gate for classifiers
    is looser. Targets that cannot run their artifacts this way have no answers to check.
    """
    if tower.matched is None:
        return []
    try:
        graph = tower.artifact.graph
    except InvalidInput as error:
        return [Check.failed(STEP, tower.name, str(error))]
    constants = StoredConstants(graph)
    run = tower.precision != "fp32" or bool(tower.subject.head.names)
    checks = _answers(tower, tower.matched, constants) if run else []
    if graph is None:
        return checks
    expected = tower_settings(tower.module, torch.from_numpy(tower.inputs[:1]))
    wrong = unlike_tower(constants.settings, expected, tower.name == "image" and tower.subject.form.pictures)
    if wrong is not None:
        checks = [check for check in checks if check.status == "failed"]
        return [*checks, Check.failed(STEP, tower.name, wrong)]
    return checks or [Check(step=STEP, tower=tower.name, status="passed", detail="settings are the checkpoint's")]


def _answers(tower: TowerProof, matches: Sequence[Matched], constants: StoredConstants) -> list[Check]:
    subject = tower.subject
    try:
        runner, quantized = tower.artifact.plain_runner(), tower.quantized
    except (InvalidInput, NotRun) as error:
        return [Check.not_run(STEP, tower.name, str(error))]
    if runner is None:
        return []
    inputs = _inputs(tower)
    exact = tower_as_stored(tower.module, matches, tower.grids)
    if quantized is not None:
        with_whole_steps(exact, matches, quantized.bias_steps)
    exact.double()
    constants.set_queries(exact, tower.module)
    pads_inside = tower.name == "text" and subject.form.pads_inside
    fed = torch.from_numpy(ended(inputs.astype(np.int64), subject.bundle.manifest.tokens) if pads_inside else inputs)
    with torch.no_grad(), constants:
        expected = exact(fed.double() if tower.name == "image" else fed).float().numpy()
    bound = subject.gates.exact(tower.floor)
    followed = quantized is not None or not precision_of(tower.precision).calibrated
    if not followed:
        bound = tower.bound if subject.head.names else CALIBRATED
    if subject.head.names and followed:
        room = _logit_room(tower, exact, expected, bound.value)
        return [_of_logits(tower, expected, runner(inputs), room, runner.engine)]
    return [Check.of_answers(STEP, tower.name, expected, runner(inputs), bound, runner.engine)]


def _inputs(tower: TowerProof) -> npt.NDArray[np.generic]:
    """Returns the first reference inputs. For texts, adds the longest prompt, a prompt that fills the context, and a
    prompt padded with ends of text. Short prompts do not reach the late positions of a causal tower. Some tokenizers
    pad with ends of text."""
    every = tower.inputs
    if tower.name == "image":
        return every[:INPUTS]
    tokens = tower.subject.bundle.manifest.tokens
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


def _logit_room(tower: TowerProof, exact: nn.Module, expected: Floats, relative: float) -> Floats:
    """Returns the allowed error of each label's logit, relative to the leading label's logit, [N, L].

    An error in a unit-length embedding moves the difference of two logits. The movement is the error's share, times the
    distance of the two labels, times the logit scale. So similar labels have a smaller bound. A network with classes of
    its own moves its logits by that share of their length. Float32 rounding of products is added.
    """
    if not isinstance(exact, Classifier):
        length = float(np.linalg.norm(tower.subject.evidence.reference.of("image")[:INPUTS], axis=1).max())
        return np.full(expected.shape, length * relative + PRODUCT * length)
    labels = exact.weights.double().numpy().T  # [L, D], the logit scale multiplied in
    apart = np.linalg.norm(labels[None] - labels[expected.argmax(axis=1)][:, None], axis=2)
    return apart * relative + PRODUCT * np.linalg.norm(labels, axis=1)


def _of_logits(tower: TowerProof, expected: Floats, answers: Floats, room: Floats, engine: str) -> Check:
    """Checks a classifier's answers as logits, since a softmax hides errors that do not change the leading label.

    Probabilities give logits up to a constant per image. Rounding of the float32 softmax is added to the bound: 2^-24
    of its argument, which is as large as the range of the logits, and a few units in the last place. The check reports
    the label that is nearest to its bound, or furthest beyond it.
    """
    if answers.shape != expected.shape:
        detail = f"answers of shape {list(answers.shape)}, not {list(expected.shape)}"
        return Check.failed(STEP, tower.name, detail, engine)
    logits, actual = (
        np.log(np.clip(np.nan_to_num(rows.astype(np.float64)), SMALLEST, None)) for rows in (expected, answers)
    )
    bounds = room + 2**-20 + 2**-22 * float(np.ptp(logits, axis=1).max())
    # Against the most probable label, whose probability is at least 1 / L.
    leading = expected.argmax(axis=1)[:, None]
    moved = np.abs(
        (actual - np.take_along_axis(actual, leading, 1)) - (logits - np.take_along_axis(logits, leading, 1))
    )
    worst = np.unravel_index((moved / bounds).argmax(), moved.shape)
    return Check(
        step=STEP,
        tower=tower.name,
        status="passed" if moved[worst] <= bounds[worst] else "failed",
        engine=engine,
        gate=f"logits within {bounds[worst]:.2g}",
        figures={"largest_logit_difference": float(moved[worst])},
    )
