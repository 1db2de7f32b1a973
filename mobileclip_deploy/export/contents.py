"""What stands in a bundle beside its artifacts: their entries, the manifest, and the files that clients read."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.bundle import MANIFEST, ClassifierEntry, Manifest, TowerEntry
from mobileclip_deploy.bundle.manifest import AttachmentEntry, PreprocessEntry, TensorEntry
from mobileclip_deploy.bundle.model_card import MODEL_CARD, model_card
from mobileclip_deploy.bundle.opening import AXES
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.embeddings.storage import scale_of
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.model.precision import precision_of
from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.parity import Check, StoredWeights, value_tolerance
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import Place
from mobileclip_deploy.targets.values import Expected
from mobileclip_deploy.towers.calibration import calibration_digest
from mobileclip_deploy.verify.companions import write_companions

__all__ = [
    "attach",
    "int8_scale_of",
    "make_manifest",
    "recorded_options",
    "tower_entry",
    "write_beside",
    "write_manifest",
]

# In the manifest's `environment`: what decides the bytes of the artifacts.
PACKAGES = ("mobileclip-deploy", "torch", "numpy", "open_clip_torch")


def tower_entry(plan: BundlePlan, variant: Variant, tower: TowerName, place: Place, folder: Path) -> TowerEntry:
    """The manifest's entry of an artifact that lies in the bundle's folder."""
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
        contents=target.open(artifact, place.function).contents,
    )


def attach(entry: TowerEntry, plan: BundlePlan, tower: TowerName, reference: Reference, folder: Path) -> TowerEntry:
    """The entry with what was asked for beside its artifact."""
    outputs = plan.request.head.scaled(reference.of(tower))
    bound = plan.request.gates.shipped(entry.precision)
    tolerance = value_tolerance(outputs, bound.metric, bound.value)
    attached = plan.target.attach(folder / entry.file, Expected(reference.inputs.of(tower), outputs, tolerance))
    if not attached:
        return entry
    entries = {one.kind: AttachmentEntry.of(one.path, folder, one.tolerance) for one in attached}
    return entry.model_copy(update={"attachments": entries})


def make_manifest(plan: BundlePlan, source: Source, entries: dict[TowerName, TowerEntry], folder: Path) -> Manifest:
    """The manifest of a bundle that has not been verified; writes the axes that its embeddings were cut to."""
    variant, target, labels = source.variant, plan.target, plan.request.head.labels
    classifier = axes = None
    if source.axes is not None:
        source.axes.save(folder / AXES)
        axes = AttachmentEntry.of(folder / AXES, folder)
    if labels is not None:
        template = None if plan.request.head.own else labels.template_for(variant)
        classifier = ClassifierEntry(labels=labels.names, template=template)
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
        environment={name: importlib.metadata.version(name) for name in (*PACKAGES, *target.abilities.all_packages)},
    )


def int8_scale_of(plan: BundlePlan, source: Source, reference: Reference) -> float | None:
    """The scale of the embedding space, for whoever stores embeddings of pictures as int8; None where there are none.
    It stands in the manifest, since an app that writes an index has that, and no golden pictures."""
    if "image" not in plan.towers or plan.request.head.names or source.variant.gives_tokens:
        return None
    compacted = source.provenance.compacted
    return scale_of(reference.of("image")) if compacted is None else compacted.int8_scale


def recorded_options(plan: BundlePlan) -> dict[str, str]:
    """What was chosen, without paths of this machine: an artifact can be made again from it."""
    recorded = plan.target.options.recorded()
    if plan.request.calibration is not None and any(precision_of(name).calibrated for name in plan.precisions.values()):
        recorded["calibration"] = plan.request.calibration.resolve().name
        recorded["calibration_sha256"] = calibration_digest(plan.request.calibration)
    if (gates := plan.request.gates.recorded()) is not None:
        recorded["gates"] = gates
    return recorded


def write_beside(plan: BundlePlan, source: Source, folder: Path, reference: Reference) -> None:
    """Tokenizer, preprocessing and golden answers, and what clients of the format expect."""
    write_companions(folder, plan.target, source.variant, plan.request.head, plan.request.layout)
    if plan.request.head.names and not plan.request.head.own:  # whose labels nothing in the bundle could embed again
        answers = plan.request.head.answers(source.model, reference.of("image"))
        reference = replace(reference, probabilities=answers)
    reference.save(folder / "golden.safetensors")


def write_manifest(
    folder: Path, manifest: Manifest, checks: Sequence[Check] = (), storage: Sequence[StoredWeights] = ()
) -> None:
    """manifest.json and the card that people read."""
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    (folder / MODEL_CARD).write_text(model_card(manifest, checks, storage), encoding="utf-8")
