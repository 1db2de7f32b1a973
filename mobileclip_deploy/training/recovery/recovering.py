"""Recovery: towers trained on the grid of a precision, kept if that brings them closer to their float original."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mobileclip_deploy.base.files import write_whole
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.provenance import Provenance, Recovered
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.grids.train import TrainableGrid
from mobileclip_deploy.training.recovery.inputs import TowerInputs, own_embeddings, tower_inputs
from mobileclip_deploy.training.recovery.plan import RecoveryPlan, report_path
from mobileclip_deploy.training.recovery.student import attach, detach, grids, round_plainly, rounded_activations
from mobileclip_deploy.training.recovery.training import Closeness, closeness, train


@dataclass(frozen=True)
class GridWeight:
    """A weight on its grid. `grid` describes the grid. `sha256` is the hash of its integers (int8 or uint8, in the
    order of the weight's elements), to compare with an artifact's."""

    name: str
    shape: tuple[int, ...]
    grid: str
    sha256: str


@dataclass(frozen=True)
class TowerRecovery:
    """One tower: its closeness to the float original without and with training.

    `weights` are those of the trained tower, even if it was not kept.
    """

    tower: TowerName
    precision: str
    without: Closeness
    trained: Closeness
    weights: tuple[GridWeight, ...]

    @property
    def kept(self) -> bool:
        """True if the trained tower is the better one."""
        return self.trained.better_than(self.without)


@dataclass(frozen=True)
class Recovery:
    """Result of a recovery for each tower, and the written files; `report` holds the same as JSON."""

    output: Path
    report: Path
    target: str
    towers: tuple[TowerRecovery, ...]
    inputs: int

    def as_dict(self) -> dict[str, Any]:
        """Returns the result for JSON."""
        towers = [asdict(tower) | {"kept": tower.kept} for tower in self.towers]
        return {"output": str(self.output), "target": self.target, "inputs": self.inputs, "towers": towers}


def recover(plan: RecoveryPlan, progress: Progress = silent) -> Recovery:
    """Trains towers on the grid of their precision. Writes the folded model, with each trained tower that is closer,
    and a report.

    The source is folded in place, and not changed otherwise. Towers that the plan does not name stay as they are.

    Raises:
        UsageError: another process writes the output.
        InvalidInput: the data or the output cannot be used.
    """
    output, force = plan.request.output, plan.request.force
    with sole_writer(output, "recover", force=force, beside=report_path(output)):
        return _recover(plan, progress)


def _recover(plan: RecoveryPlan, progress: Progress) -> Recovery:
    source = plan.source.folded()
    dataset = own_embeddings(plan, progress)
    result = copy.deepcopy(source.model)
    outcomes = []
    for tower in plan.request.precisions:
        outcome, student = _tower(plan, tower, tower_inputs(tower, dataset, plan.request.settings), progress)
        outcomes.append(outcome)
        if outcome.kept:
            setattr(result, tower, getattr(student, tower))
    name = plan.target.name
    notes = (*source.provenance.notes, *(_note(outcome, name) for outcome in outcomes))
    recovered = _record(source.provenance, outcomes, name)
    result.provenance = source.provenance.model_copy(update={"recovered": recovered, "notes": notes})
    folded.save(result, plan.request.output)
    recovery = Recovery(plan.request.output, report_path(plan.request.output), name, tuple(outcomes), len(dataset))
    write_whole(recovery.report, json.dumps(recovery.as_dict(), indent=2) + "\n")
    return recovery


def _tower(
    plan: RecoveryPlan, tower: TowerName, inputs: TowerInputs, progress: Progress
) -> tuple[TowerRecovery, MobileCLIP]:
    model, precision, settings = plan.source.model, plan.request.precisions[tower], plan.request.settings
    progress(f"{tower} tower at {precision}, without training")
    rounded, student = copy.deepcopy(model), copy.deepcopy(model)
    round_plainly(attach(rounded, tower, precision, plan.target))
    trainee = attach(student, tower, precision, plan.target)
    quantized = [name for name, _, _ in grids(trainee)] if precision_of(precision).calibrated else []
    with _activations(rounded, tower, quantized, inputs):
        without = closeness(_encoder(rounded, tower), inputs, settings.batch)
    with _activations(student, tower, quantized, inputs):
        encode = _encoder(student, tower)
        fixed = plan.target.capabilities.storing.fixed(trainee)
        train(trainee, encode, inputs, settings, fixed, lambda text: progress(f"{tower} tower, {text}"))
        trained = closeness(encode, inputs, settings.batch)
    weights = tuple(_grid_weight(name, module, grid) for name, module, grid in grids(trainee))
    detach(trainee)
    return TowerRecovery(tower, precision, without, trained, weights), student


def _activations(
    model: MobileCLIP, tower: TowerName, quantized: Sequence[str], inputs: TowerInputs
) -> AbstractContextManager[None]:
    held_inputs, _ = inputs.held_back()
    encode = _encoder(model, tower)
    return rounded_activations(getattr(model, tower), quantized, lambda: encode(held_inputs) if quantized else None)


def _encoder(model: MobileCLIP, tower: TowerName) -> Any:
    return model.encode_image if tower == "image" else model.encode_text


def _grid_weight(name: str, module: nn.Module, grid: TrainableGrid) -> GridWeight:
    codes = grid.codes(module.parametrizations["weight"].original)  # type: ignore[index,union-attr]
    return GridWeight(
        name, tuple(codes.shape), grid.stored.describe(), hashlib.sha256(codes.numpy().tobytes()).hexdigest()
    )


def _record(source: Provenance, outcomes: list[TowerRecovery], target: str) -> Recovered | None:
    """Returns the file's record of the recovery. None if no trained tower was kept, so that the file is a folded
    copy."""
    precisions: dict[str, str] = {outcome.tower: outcome.precision for outcome in outcomes if outcome.kept}
    if not precisions:
        return None
    return Recovered(
        precisions=precisions,
        target=target,
        source_file=source.file,
        source_sha256=source.sha256,
        source_weights=source.weights,
    )


def _note(outcome: TowerRecovery, target: str) -> str:
    without, trained = outcome.without, outcome.trained
    figures = f"mean cosine to the float original {trained.mean:.4f} with training, {without.mean:.4f} without"
    figures += f"; the same nearest embedding for {trained.agreement:.1%} and {without.agreement:.1%} of the inputs"
    if outcome.kept:
        return f"{outcome.tower} tower recovered for {outcome.precision} on {target}: {figures}"
    return f"{outcome.tower} tower not recovered for {outcome.precision} on {target}, training did not help: {figures}"
