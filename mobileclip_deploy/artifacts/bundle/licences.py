"""LICENSES/ of a bundle: the licence texts of its weights, and a notice with their required sentence and the changes
made."""

import shutil
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry, LicenceEntry, Manifest
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.licences import Licence, licence_text
from mobileclip_deploy.network.model.variants import MCiTower, Variant, load_variant, variant_cards

FOLDER = "LICENSES"
NOTICE = f"{FOLDER}/NOTICE.txt"
OWN = "COPY-OF-THE-TEXT"


def require_product(variant: Variant) -> None:
    """Refuses weights that are not clearly allowed in products.

    Raises:
        UsageError: the answer is no or unknown; the text quotes the licence and names variants that may be used.
    """
    answer = variant.licence.answer_of_copy("product")
    if answer.answer == "yes":
        return
    source = f" ({answer.source}{f', {answer.dated}' if answer.dated else ''})" if answer.source else ""
    others = ", ".join(card.name for card in variant_cards() if card.licence.answer("product").answer == "yes")
    raise UsageError(
        f"`for_product`: whether {variant.name} may be used in a product is answered {answer.answer!r}, not a clear "
        f"'yes': {answer.words}{source}. Similar variants whose licence says yes: {others}; see docs/licences.md"
    )


def write_licences(folder: Path, manifest: Manifest, own: Path | None) -> LicenceEntry:
    """Writes LICENSES/ into a bundle's folder. `own`: a text that came with the weights, copied as it is.

    Returns:
        The manifest's entry.
    """
    (folder / FOLDER).mkdir()
    if own is not None:
        shutil.copyfile(own, folder / FOLDER / f"{OWN}{own.suffix}")
    write_texts(folder, manifest, None if own is None else artifact_sha256(own))
    files = tuple(AttachmentEntry.of(path, folder) for path in sorted((folder / FOLDER).iterdir()))
    return licence_entry(load_variant(manifest.variant).licence, files)


def write_texts(folder: Path, manifest: Manifest, own: str | None) -> None:
    """Writes the files of LICENSES/ that follow from the card: the packaged text and the notice. `own`: SHA-256 of a
    text that came with the weights."""
    (folder / FOLDER).mkdir(exist_ok=True)
    text = load_variant(manifest.variant).licence.text
    if text is not None and text.text is not None:
        (folder / FOLDER / text.text).write_bytes(licence_text(text.text))
    (folder / NOTICE).write_text(notice(manifest, own), encoding="utf-8")


def own_text(entry: LicenceEntry) -> AttachmentEntry | None:
    """Returns the entry of the text that came with the weights. None if none was given."""
    return next((file_entry for file_entry in entry.files if file_entry.file.startswith(f"{FOLDER}/{OWN}")), None)


def licence_entry(licence: Licence, files: tuple[AttachmentEntry, ...]) -> LicenceEntry:
    """Returns the manifest's entry of a card's licence and its files."""
    text = licence.text
    return LicenceEntry(
        name=licence.name,
        spdx=None if text is None else text.spdx,
        sentence=None if text is None else text.sentence,
        asks=() if text is None else text.asks,
        files=files,
        **licence.uses_of_copy(),
    )


def notice(manifest: Manifest, own: str | None = None) -> str:
    """Returns NOTICE.txt: the weights, their licence, its sentence, and the changes. The same for the same manifest.

    `own`: SHA-256 of the text that came with the weights.
    """
    variant, checkpoint = load_variant(manifest.variant), manifest.checkpoint
    licence, text = variant.licence, variant.licence.text
    lines = [
        f"Weights: {variant.title}, from {checkpoint.file} (sha256 {checkpoint.sha256}).",
        f"Licence: {licence.name}{f', {licence.url}' if licence.url else ''}.",
    ]
    if text is not None and text.sentence is not None:
        lines += ["", text.sentence]
    lines += ["", _where_the_text_is(licence, own), "", "Changes made to the weights:", ""]
    lines += [f"- {change}" for change in changes_made(manifest)]
    if text is not None and text.asks:
        lines += ["", "Whoever passes them on:", "", *(f"- {duty}" for duty in text.asks)]
    return "\n".join(lines) + "\n"


def _where_the_text_is(licence: Licence, own: str | None) -> str:
    text = licence.text
    if text is not None and text.text is not None:
        return f"The text is in this folder: {text.text}."
    if own is not None:
        other = (
            ""
            if text is not None and own in text.read
            else (" It differs from the text that this version of the tool knows.")
        )
        return f"The text that came with the weights is in this folder: {OWN}.{other}"
    return (
        "The text is NOT in this bundle. Before you pass the bundle on, add the text that came with your copy of the "
        "weights; mobileclip-deploy export adds it, given as its licence text."
    )


def changes_made(manifest: Manifest) -> tuple[str, ...]:
    """Returns sentences about an export's changes to the weights, which licences require of derivatives."""
    variant, checkpoint = load_variant(manifest.variant), manifest.checkpoint
    towers = " and ".join(manifest.towers)
    changes = [f"Converted to {manifest.target} ({towers}) by mobileclip-deploy."]
    convolutional = isinstance(variant.image, MCiTower) or variant.image.stem == "convolutional"
    if convolutional or variant.text.kind == "mct":
        changes.append("Branches and normalization layers that only training needs were folded into convolutions.")
    if "image" in manifest.towers:
        changes.append("Mean and std of the pictures are part of the image tower's graph.")
    changes += [
        f"The weights of the {tower} tower are stored at the precision {entry.precision}."
        for tower, entry in manifest.towers.items()
        if entry.precision != "fp32"
    ]
    if manifest.rounding is not None:
        changes.append(f"The rounding of the weights of {' and '.join(manifest.rounding.towers)} was learned.")
    if checkpoint.compacted is not None:
        size, full = checkpoint.compacted.size, checkpoint.compacted.full_size
        changes.append(f"Embeddings were reduced from {full} to {size} dimensions, on axes fitted to pictures.")
    if checkpoint.image_size is not None:
        changes.append(f"Pictures of {checkpoint.image_size} pixels instead of {variant.preprocess.size}.")
    classifier = manifest.classifier
    if classifier is not None and (classifier.template is not None or classifier.tags is not None):
        changes.append(f"Ends in probabilities of {len(classifier.labels)} labels.")
    return tuple(changes)
