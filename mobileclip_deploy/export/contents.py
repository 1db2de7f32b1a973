"""Contents of a bundle other than its artifacts: their entries, the manifest, the record of learned rounding, and the
files that clients read."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle, ClassifierEntry, Manifest, TowerEntry
from mobileclip_deploy.artifacts.bundle.companions import write_companions
from mobileclip_deploy.artifacts.bundle.manifest import (
    AttachmentEntry,
    PreprocessEntry,
    RoundedTowerEntry,
    RoundingEntry,
    TagsEntry,
    TensorEntry,
)
from mobileclip_deploy.artifacts.bundle.model_card import MODEL_CARD, model_card
from mobileclip_deploy.artifacts.bundle.opening import AXES, ROUNDING
from mobileclip_deploy.artifacts.heads.label_head import LABEL_HEAD
from mobileclip_deploy.artifacts.towers.calibration import calibration_digest
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.tokenizer import Padding
from mobileclip_deploy.network.model.variants import TowerName, Variant
from mobileclip_deploy.parity import Check, StoredWeights, value_tolerance
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.rounding.rounding import Rounded, RoundedTower
from mobileclip_deploy.spaces.int8 import scale_of
from mobileclip_deploy.targets import Place, Target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import stored_in_half
from mobileclip_deploy.targets.values import Expected
from mobileclip_deploy.verify.checks.requested import BACKGROUND, EMBEDDING_SIZE
from mobileclip_deploy.verify.instruments.learned_rounding import learned_floats, stored_sha256, tower_to_round
from mobileclip_deploy.verify.instruments.matching import matched_weights


def package_versions(target: Target) -> dict[str, str]:
    """Returns the versions of the packages that decide the bytes of a target's artifacts."""
    names = ("mobileclip-deploy", "torch", "numpy", "regex", "ftfy", *target.capabilities.packages.all)
    return {name: importlib.metadata.version(name) for name in names}


def tower_entry(plan: BundlePlan, variant: Variant, tower: TowerName, place: Place, folder: Path) -> TowerEntry:
    """Makes the manifest's entry of an artifact in the bundle's folder."""
    target, artifact = plan.target, folder / place.file
    source, result = target.ports(variant, tower, plan.form)
    return TowerEntry(
        file=place.file,
        function=place.function,
        sha256=artifact_sha256(artifact),
        bytes=artifact_bytes(artifact),
        precision=plan.precisions[tower],
        input=TensorEntry.of(source),
        output=TensorEntry.of(result),
        contexts=plan.request.contexts or None if tower == "text" else None,
        pads_inside=True if tower == "text" and plan.form.pads_inside and variant.ends_texts else None,
        contents=target.open(artifact, place.function).contents,
    )


def attach(entry: TowerEntry, plan: BundlePlan, tower: TowerName, reference: Reference, folder: Path) -> TowerEntry:
    """Writes the requested attachments of an artifact, and adds them to its entry."""
    outputs = plan.request.head.scaled(reference.of(tower))
    bound = plan.request.gates.shipped(entry.precision)
    tolerance = value_tolerance(outputs, bound.metric, bound.value)
    attached = plan.target.attach(folder / entry.file, Expected(reference.inputs.of(tower), outputs, tolerance))
    if not attached:
        return entry
    entries = {item.kind: AttachmentEntry.of(item.path, folder, item.tolerance) for item in attached}
    return entry.model_copy(update={"attachments": entries})


def make_manifest(
    plan: BundlePlan, source: Source, entries: dict[TowerName, TowerEntry], folder: Path, reference: Reference
) -> Manifest:
    """Makes the manifest of a bundle that is not verified yet. Writes the axes that its embeddings were cut to, and
    learned labels."""
    variant, target, labels = source.variant, plan.target, plan.request.head.labels
    classifier = axes = None
    if source.axes is not None:
        source.axes.save(folder / AXES)
        axes = AttachmentEntry.of(folder / AXES, folder)
    if labels is not None:
        head = plan.request.head
        template: str | None = labels.template_for(variant)
        tags = None
        if head.learned is not None:
            template = head.learned.template
            head.learned.save(folder / LABEL_HEAD)
            rows = head.answers(source.model, reference.of("image"))
            tags = TagsEntry(
                file=AttachmentEntry.of(folder / LABEL_HEAD, folder),
                thresholds=head.learned.thresholds,
                golden=tuple(tuple(head.learned.thresholds.present(row)) for row in rows),
            )
        classifier = ClassifierEntry(labels=labels.names, template=template, tags=tags)
    return Manifest(
        variant=variant.name,
        embedding_space=source.provenance.embedding_space,
        checkpoint=source.provenance,
        target=target.name,
        options=recorded_options(plan),
        layout=plan.request.layout,
        towers=entries,
        classifier=classifier,
        axes=axes,
        embed_dim=variant.embed_dim,
        logit_scale=source.model.scores.scale,
        logit_bias=source.model.scores.bias,
        template=variant.template,
        tokenizer=variant.tokenizer,
        preprocess=PreprocessEntry(**variant.preprocess.model_dump()),
        environment=package_versions(target),
    )


def int8_scale_of(plan: BundlePlan, source: Source, reference: Reference) -> float | None:
    """Returns the scale to store embeddings of pictures as int8. None if pictures get no embeddings.

    It is in the manifest, since an app that writes an index has the manifest and no golden pictures.
    """
    if "image" not in plan.towers or plan.request.head.names:
        return None
    compacted = source.provenance.compacted
    return scale_of(reference.of("image")) if compacted is None else compacted.int8_scale


def recorded_options(plan: BundlePlan) -> dict[str, str]:
    """Returns the chosen options, without paths of this machine, from which an artifact can be made again."""
    recorded = plan.target.options.recorded()
    if plan.request.calibration is not None and any(precision_of(name).calibrated for name in plan.precisions.values()):
        recorded["calibration"] = plan.request.calibration.resolve().name
        recorded["calibration_sha256"] = calibration_digest(plan.request.calibration)
    if plan.request.background is not None:
        recorded[BACKGROUND] = plan.request.background.resolve().name
    if plan.request.compact is not None:
        recorded[EMBEDDING_SIZE] = str(plan.request.compact.size)
    if (gates := plan.request.gates.recorded()) is not None:
        recorded["gates"] = gates
    return recorded


def write_companion_files(plan: BundlePlan, source: Source, folder: Path, reference: Reference) -> None:
    """Writes tokenizer, preprocessing and golden embeddings, and the files that clients of the format expect."""
    inside = plan.form.pads_inside and "text" in plan.towers and source.variant.ends_texts
    padding: Padding = "inside" if inside else "outside"
    write_companions(folder, plan.target.name, source.variant, plan.request.head, plan.request.layout, padding)
    if plan.request.head.names:  # nothing in the bundle can embed these labels again
        answers = plan.request.head.answers(source.model, reference.of("image"))
        reference = replace(reference, probabilities=answers)
    reference.save(folder / "golden.safetensors")


def write_manifest(
    folder: Path,
    manifest: Manifest,
    facts: Mapping[TowerName, Mapping[str, str]],
    checks: Sequence[Check] = (),
    storage: Sequence[StoredWeights] = (),
) -> None:
    """Writes manifest.json and the model card; `facts` of each artifact as `Artifact.facts`."""
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    (folder / MODEL_CARD).write_text(model_card(manifest, checks, storage, facts), encoding="utf-8")


def record_rounding(plan: BundlePlan, source: Source, rounded: Rounded, bundle: Bundle) -> RoundingEntry | None:
    """Returns the manifest's entry, and writes the learned floats into the bundle. None if learning improved no tower.

    Raises:
        ExportError: an artifact does not have the learned weights.
    """
    learned = {outcome.tower: outcome for outcome in rounded.towers if outcome.layers}
    if not learned:
        return None
    assert plan.learned_on is not None
    floats: dict[str, Tensor] = {}
    entries: dict[TowerName, RoundedTowerEntry] = {}
    for tower, outcome in learned.items():
        before = tower_to_round(source, tower, plan.target)
        after = make_tower(rounded.source.model, tower)
        floats |= {f"{tower}.{name}": values for name, values in learned_floats(before, after, outcome.layers).items()}
        entries[tower] = RoundedTowerEntry(
            method=outcome.method,
            layers=_stored(plan, rounded, outcome, bundle),
            nearest_db=outcome.nearest_db,
            learned_db=outcome.learned_db,
        )
    path = bundle.path / ROUNDING
    save_file(floats, path)
    return RoundingEntry(
        method=plan.request.rounding,
        calibration=plan.learned_on.name,
        calibration_sha256=plan.learned_on.sha256,
        images=len(plan.learned_on.pixels),
        captions=len(plan.learned_on.ids),
        floats=AttachmentEntry.of(path, bundle.path),
        towers=entries,
    )


def _stored(plan: BundlePlan, rounded: Rounded, outcome: RoundedTower, bundle: Bundle) -> dict[str, str]:
    """Returns the hashes of the learned weights in the artifact, after checking that they are exactly the learned
    ones."""
    tower = outcome.tower
    module = make_tower(rounded.source.model, tower)
    four_bit = plan.four_bit.get(tower, frozenset())
    grids = storage_of(plan.target, tower, module, plan.precisions[tower], four_bit)
    stored = plan.target.open(bundle.artifact(tower), bundle.manifest.towers[tower].function).weights
    if stored is None:
        raise ExportError(f"{plan.target.label}: the weights cannot be read back; leave `rounding` out")
    matched, _ = matched_weights(module, stored)
    matches = {match.layer: match for match in matched}
    for name in outcome.layers:
        match = matches.get(name)
        wrong = "is missing from the file" if match is None else match.wrong(grids[name], stored_in_half(grids))
        if wrong is not None:
            raise ExportError(f"{name} was learned, and {wrong}")
    return {name: stored_sha256(matches[name].stored) for name in outcome.layers}
