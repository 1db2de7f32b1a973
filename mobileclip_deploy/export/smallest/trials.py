"""Trials of candidates: each tower is exported once per precision and cached, so that a stopped search can resume."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256, replacing
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import ExportError, InvalidInput
from mobileclip_deploy.evaluation.evaluate import Measuring
from mobileclip_deploy.evaluation.looks import Looks, Paired, paired_looks
from mobileclip_deploy.evaluation.metrics import LOOKED_TWICE
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.smallest.candidates import Candidate, TowerChoice
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import compare
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.values import Shared
from mobileclip_deploy.verify.checks.task import TASK_FIGURES
from mobileclip_deploy.verify.instruments.matching import matched_weights
from mobileclip_deploy.verify.instruments.pace import sampled_rows
from mobileclip_deploy.verify.instruments.stored_tower import fast_runner, stored_runner
from mobileclip_deploy.verify.subject import Evidence


@dataclass(frozen=True)
class TriedTower:
    """One tower at one precision: its file, its bytes, and the gate it failed (None: none)."""

    artifact: Path
    bytes: int
    failed: str | None


@dataclass
class Trials:
    """Exports and measurements of the candidates of one source on one target.

    `plan`: of the bundle to find. `evidence`: the checkpoint's answers, and its accuracy if it is compared. `folder`:
    cache of the artifacts and the embeddings of the dataset.
    """

    plan: BundlePlan
    source: Source
    evidence: Evidence
    folder: Path
    progress: Progress = silent
    _towers: dict[TowerChoice, TriedTower] = field(default_factory=dict)
    _shared: dict[TowerName, Shared] = field(default_factory=dict)

    def tower(self, choice: TowerChoice) -> TriedTower:
        """Exports a tower, unless it is cached, and checks it against its gate."""
        if choice not in self._towers:
            self._towers[choice] = self._try(choice)
        return self._towers[choice]

    def _try(self, choice: TowerChoice) -> TriedTower:
        tower, precision = choice.tower, choice.precision
        target = self.plan.target.settled({tower: precision})
        name = target.artifact_name(self.source.variant, tower, precision)
        tower_folder = self.folder / f"{tower}-{choice.label}"
        artifact = tower_folder / name
        try:
            if not artifact.exists():
                self.progress(f"{tower} tower at {precision}: converting")
                self.folder.mkdir(parents=True, exist_ok=True)
                with replacing(tower_folder) as staging:
                    (staging / name).parent.mkdir(parents=True)
                    job = tower_job(self.source, tower, precision, calibration=self.plan.request.calibration)
                    shared = self._shared.setdefault(tower, Shared())
                    target.write(replace(job, four_bit=choice.four_bit, shared=shared), staging / name)
            self.progress(f"{tower} tower at {precision}: measuring")
            runner = target.open(artifact).runner()
            variant, reference = self.source.variant, self.evidence.reference
            inputs = reference.inputs.of(tower)
            rows = sampled_rows(target, variant.name, variant.preprocess.size, tower, inputs)
            deviation = compare(reference.of(tower)[rows], runner(inputs[rows]))
        except (ExportError, InvalidInput) as error:
            return TriedTower(artifact, 0, f"{tower} {precision} could not be converted: {error}")
        bound = self.plan.request.gates.shipped(precision, self.evidence.reference.floor[tower])
        value, ratio = deviation.value(bound.metric), "" if bound.snr_db is None else f", SNR {deviation.decibels}"
        reason = f"{tower} {precision}: {bound.metric} {value:.6g}{ratio}, expected {bound}"
        return TriedTower(artifact, artifact_bytes(artifact), None if passes(deviation, bound) else reason)

    def losses(self, candidate: Candidate, own: Looks, bound: float, patient: bool) -> Paired:
        """Measures the losses of a candidate against the checkpoint.

        Args:
            own: the checkpoint's measurements.
            bound: in points.
            patient: True to measure all views if the plain images decide nothing, even if they put a loss a standard
                error beyond the bound. Few such candidates pass, and the views take four times as long.
        """
        label = ", ".join(f"{tower} {precision}" for tower, precision in candidate.precisions.items())
        self.progress(f"{label}: accuracy")
        exact = all(precision_of(name).bits == 32 for name in candidate.precisions.values())
        looks = self._looks(candidate, own)
        plain = paired_looks(own, looks, TASK_FIGURES, bound, exact, views=(1,))
        beyond = [loss for loss in plain.losses.values() if loss.points - loss.error / LOOKED_TWICE > bound]
        return plain if beyond and not patient else paired_looks(own, looks, TASK_FIGURES, bound, exact)

    def _looks(self, candidate: Candidate, own: Looks) -> Looks:
        artifacts: dict[TowerName, Path] = {choice.tower: self.tower(choice).artifact for choice in candidate.choices}
        runners = {choice.tower: self._runner(choice) for choice in candidate.choices}
        embedder = replace(
            own.embedder,
            name="candidate",
            engine=runners["image"].engine,
            images=runners["image"],
            texts=runners["text"],
            artifact=lambda tower: artifact_sha256(artifacts[tower]),
        )
        return Looks(embedder, own.dataset, Measuring(cache=self.folder / "embeddings"))

    def _runner(self, choice: TowerChoice) -> Runner:
        """Returns the runner for all pictures; a slow runtime is replaced by the fast equivalent that `verify` uses."""
        target, tower = self.plan.target, choice.tower
        artifact = target.open(self.tower(choice).artifact)

        def stored() -> Runner | None:
            if (weights := artifact.weights) is None:
                return None
            module = make_tower(self.source.model, tower)
            grids = storage_of(target, tower, module, choice.precision, choice.four_bit)
            return stored_runner(module, matched_weights(module, weights)[0], grids)

        return fast_runner(target, artifact, stored) or artifact.runner()
