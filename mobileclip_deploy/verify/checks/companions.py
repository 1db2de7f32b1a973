"""Checks of the files next to a bundle's artifacts. They are written again from the checkpoint and its card, and
compared."""

import json
import re
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.companions import write_companions
from mobileclip_deploy.artifacts.bundle.licences import own_text, write_texts
from mobileclip_deploy.artifacts.bundle.model_card import MODEL_CARD, model_card
from mobileclip_deploy.artifacts.heads.labels import labels_json
from mobileclip_deploy.base.files import files_of
from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.errors import REASON, UsageError, reraising
from mobileclip_deploy.network.model.tokenizer import Padding
from mobileclip_deploy.network.model.variants import Variant, load_variant
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.instruments.versions import written_by_this_version
from mobileclip_deploy.verify.subject import OpenedSubject, Subject


def check_companions(subject: OpenedSubject) -> list[Check]:
    """Checks every file next to the artifacts against a new one: tokenizer, preprocessing, labels, model card."""
    if subject.source is None:
        return [Check.not_run("companions", "both", subject.needs_checkpoint)]
    return [_compared(subject, subject.source.variant, "the checkpoint")]


def check_companions_by_card(subject: OpenedSubject) -> Check:
    """Checks the same files against those of the variant's card, without the checkpoint: its preprocessing and
    tokenizer are the manifest's."""
    manifest = subject.bundle.manifest
    try:
        variant = load_variant(manifest.variant).for_layout(manifest.checkpoint.layout)
    except UsageError as error:
        return Check.not_run("companions", "both", str(error))
    if manifest.tokenizer is None or manifest.tokens.missing:
        return Check.not_run("companions", "both", subject.needs_checkpoint)
    fields = {"preprocess": manifest.preprocess, "tokenizer": manifest.tokens, "embed_dim": manifest.embed_dim}
    return _compared(subject, variant.model_copy(update=fields), f"{variant.name}'s card")


def _compared(subject: OpenedSubject, variant: Variant, origin: str) -> Check:
    folder, inside = subject.folder / "companions", subject.form.pads_inside and variant.ends_texts
    names = _made_again(subject, variant, folder, "inside" if inside else "outside")
    wrong = {name: text for name in names if (text := _difference(subject.bundle.path, folder, name, origin))}
    if wrong and not subject.form.pads_inside:  # earlier versions gave the padding a name of its own
        earlier = folder.with_name("earlier")
        _made_again(subject, variant, earlier, "second name")
        wrong = {name: text for name, text in wrong.items() if _difference(subject.bundle.path, earlier, name, origin)}
    return Check.of_faults("companions", "both", list(wrong.values()), f"{len(names)} files match {origin}")


def _made_again(subject: Subject, variant: Variant, folder: Path, padding: Padding) -> list[str]:
    """Writes the companions of a bundle into a folder, and returns their names relative to it."""
    bundle, labels = subject.bundle, subject.head.names
    folder.mkdir(parents=True)
    write_companions(folder, subject.target.name, variant, subject.head, bundle.manifest.layout, padding)
    if labels:
        image_folder = Path(bundle.manifest.towers["image"].file).parent
        (folder / image_folder).mkdir(parents=True, exist_ok=True)
        (folder / image_folder / "labels.json").write_text(labels_json(labels), encoding="utf-8")
    licence = bundle.manifest.licence
    if licence is not None and written_by_this_version(bundle):
        text = own_text(licence)
        write_texts(folder, bundle.manifest, None if text is None else text.sha256)
    # Other versions word the card differently, and with schema version 1 it contained figures. The storage of weights
    # is available only if they can be converted again.
    convertible = all(tower.missing_for_conversion() is None for tower in subject.towers.values())
    if written_by_this_version(bundle) and convertible and bundle.manifest.schema_version > 1:
        storage = subject.stored_weights if bundle.parity else ()
        card = model_card(bundle.manifest, bundle.parity, storage, subject.facts)
        (folder / MODEL_CARD).write_text(card, encoding="utf-8")
    return [path.relative_to(folder).as_posix() for path in files_of(folder)]


def _difference(bundle: Path, expected_files: Path, name: str, origin: str) -> str | None:
    """Returns the difference between a file and the expected file, in words. None if they agree."""
    have, want = bundle / name, expected_files / name
    if not have.is_file():
        return f"{name} is missing"
    if have.read_bytes() == want.read_bytes() or (name == MODEL_CARD and same_card(have, want)):
        return None
    if want.suffix != ".json":
        return f"{name} does not match {origin}"
    with reraising(f"{have} cannot be read: {REASON}; export the bundle again", OSError, ValueError, RecursionError):
        actual, expected = parse_json(have.read_text(encoding="utf-8")), parse_json(want.read_text(encoding="utf-8"))
    if actual == expected:  # equal in another format
        return None
    if isinstance(actual, dict) and isinstance(expected, dict):
        keys = [key for key in {**expected, **actual} if actual.get(key) != expected.get(key)]
        return f"{name} {keys[0]} is {_short(actual.get(keys[0]))}, {origin} has {_short(expected.get(keys[0]))}"
    return f"{name} does not match {origin}"


def same_card(have: Path, want: Path) -> bool:
    """Returns whether two cards are equal except for sizes: an equivalent file in other bytes has another size."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (have, want))
    actual, expected = (re.sub(r"(?<=`) \| [\d,]+ \|", " | |", text) for text in texts)
    return actual == expected


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
