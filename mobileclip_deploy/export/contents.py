"""What stands in a bundle beside its artifacts: their entries, the manifest, and the files that clients read."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.bundle import MANIFEST, ClassifierEntry, Manifest, TensorInfo, TowerEntry
from mobileclip_deploy.bundle.manifest import AttachmentEntry, PreprocessEntry, TensorEntry
from mobileclip_deploy.bundle.model_card import model_card
from mobileclip_deploy.bundle.preprocessor_config import write_preprocessor_config
from mobileclip_deploy.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.tokenizer import write_tokenizer_files
from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.parity import Gates, value_tolerance
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import ExportOptions, Place, Target
from mobileclip_deploy.towers.classifier import LabelSet

__all__ = ["attach", "make_manifest", "tower_entry", "write_companions", "write_manifest"]

# In the manifest's `environment`: what decides the bytes of the artifacts.
PACKAGES = ("mobileclip-deploy", "torch", "numpy", "open_clip_torch")


def tower_entry(
    model: MobileCLIP,
    target: Target,
    tower: TowerName,
    precision: str,
    place: Place,
    options: ExportOptions,
    folder: Path,
    labels: LabelSet | None,
) -> TowerEntry:
    artifact, free = folder / place.file, target.takes_batches(tower, options)
    output = (
        target.output_info(model.variant, tower) if labels is None else target.probabilities_info(len(labels.names))
    )
    return TowerEntry(
        file=place.file,
        function=place.function,
        sha256=artifact_sha256(artifact),
        bytes=artifact_bytes(artifact),
        precision=precision,
        input=_tensor(target.input_info(model.variant, tower), free),
        output=_tensor(output, free),
        contents=target.contents(artifact),
    )


def _tensor(info: TensorInfo, free: bool) -> TensorEntry:
    return TensorEntry.of(replace(info, shape=(0, *info.shape[1:])) if free else info)


def attach(
    entry: TowerEntry,
    target: Target,
    tower: TowerName,
    reference: Reference,
    gates: Gates,
    options: ExportOptions,
    folder: Path,
) -> TowerEntry:
    """The entry with what was asked for beside its artifact."""
    expected = reference.of(tower)
    tolerance = value_tolerance(expected, *gates.shipped(entry.precision))
    attached = target.attach(folder / entry.file, reference.inputs.of(tower), expected, tolerance, options)
    if not attached:
        return entry
    entries = {attachment.kind: AttachmentEntry.of(attachment, folder) for attachment in attached}
    return entry.model_copy(update={"attachments": entries})


def make_manifest(
    model: MobileCLIP,
    target: Target,
    entries: dict[TowerName, TowerEntry],
    options: ExportOptions,
    labels: LabelSet | None,
) -> Manifest:
    assert model.provenance is not None
    variant = model.variant
    return Manifest(
        variant=variant.name,
        embedding_space=model.provenance.embedding_space,
        checkpoint=model.provenance,
        target=target.name,
        options=options.recorded(),
        towers=entries,
        classifier=None if labels is None else _classifier(labels, variant),
        embed_dim=variant.embed_dim,
        logit_scale=model.logit_factor,
        template=variant.template,
        tokenizer=variant.tokenizer,
        preprocess=PreprocessEntry(**variant.preprocess.model_dump()),
        environment={name: importlib.metadata.version(name) for name in (*PACKAGES, *target.packages)},
    )


def _classifier(labels: LabelSet, variant: Variant) -> ClassifierEntry:
    return ClassifierEntry(labels=labels.names, template=labels.template_for(variant))


def write_companions(model: MobileCLIP, target: Target, folder: Path, reference: Reference, manifest: Manifest) -> None:
    if manifest.classifier is None:
        write_tokenizer_files(folder / "tokenizer")
        target.write_companions(folder, model.variant)
    write_preprocessor_config(folder, model.variant.preprocess)
    reference.save(folder / "golden.safetensors")
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")
