"""Checks of the files next to a bundle's artifacts. They are written again from the checkpoint and its card, and
compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.companions import write_companions
from mobileclip_deploy.artifacts.bundle.licences import own_text, write_texts
from mobileclip_deploy.artifacts.bundle.model_card import MODEL_CARD, model_card
from mobileclip_deploy.artifacts.heads.labels import labels_json
from mobileclip_deploy.base.files import files_of
from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.errors import REASON, reraising
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.tokenizer import Padding
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.instruments.versions import written_by_this_version
from mobileclip_deploy.verify.subject import OpenedSubject, Subject


def check_companions(subject: OpenedSubject) -> list[Check]:
    """Checks every file next to the artifacts against a new one: tokenizer, preprocessing, labels, model card."""
    if subject.source is None:
        return [Check.not_run("companions", "both", subject.needs_checkpoint)]
    folder, source = subject.folder / "companions", subject.source
    inside = subject.form.pads_inside and source.variant.ends_texts
    names = _made_again(subject, source, folder, "inside" if inside else "outside")
    wrong = {name: text for name in names if (text := _difference(subject.bundle.path / name, folder / name, name))}
    if wrong and not subject.form.pads_inside:  # earlier versions gave the padding a name of its own
        earlier = folder.with_name("earlier")
        _made_again(subject, source, earlier, "second name")
        wrong = {
            name: text
            for name, text in wrong.items()
            if _difference(subject.bundle.path / name, earlier / name, name) is not None
        }
    sound = f"{len(names)} files match the checkpoint"
    return [Check.of_faults("companions", "both", list(wrong.values()), sound)]


def _made_again(subject: Subject, source: Source, folder: Path, padding: Padding) -> list[str]:
    """Writes the companions of a bundle into a folder, and returns their names relative to it."""
    bundle, labels = subject.bundle, subject.head.names
    folder.mkdir(parents=True)
    write_companions(folder, subject.target.name, source.variant, subject.head, bundle.manifest.layout, padding)
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


def _difference(have: Path, want: Path, name: str) -> str | None:
    """Returns the difference between a file and the expected file, in words. None if they agree."""
    if not have.is_file():
        return f"{name} is missing"
    if have.read_bytes() == want.read_bytes() or (name == MODEL_CARD and same_card(have, want)):
        return None
    if want.suffix != ".json":
        return f"{name} does not match the checkpoint"
    with reraising(f"{have} cannot be read: {REASON}; export the bundle again", OSError, ValueError, RecursionError):
        actual, expected = parse_json(have.read_text(encoding="utf-8")), parse_json(want.read_text(encoding="utf-8"))
    if actual == expected:  # equal in another format
        return None
    if isinstance(actual, dict) and isinstance(expected, dict):
        keys = [key for key in {**expected, **actual} if actual.get(key) != expected.get(key)]
        return f"{name} {keys[0]} is {_short(actual.get(keys[0]))}, the checkpoint has {_short(expected.get(keys[0]))}"
    return f"{name} does not match the checkpoint"


def same_card(have: Path, want: Path) -> bool:
    """Returns whether two cards are equal except for sizes: an equivalent file in other bytes has another size."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (have, want))
    actual, expected = (re.sub(r"(?<=`) \| [\d,]+ \|", " | |", text) for text in texts)
    return actual == expected


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
