"""Checks of the files next to a bundle's artifacts. They are written again from the checkpoint and its card, and
compared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mobileclip_deploy.artifacts.bundle.licences import licence_entry, own_text, write_texts
from mobileclip_deploy.artifacts.bundle.manifest import Manifest, TensorEntry
from mobileclip_deploy.artifacts.bundle.model_card import MODEL_CARD, model_card, write_preprocessor_config
from mobileclip_deploy.artifacts.layouts import Layout, default_layout, packaged_layout, write_side_files
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.artifacts.towers.labels import labels_json
from mobileclip_deploy.base.files import files_of
from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import WHY, refusing
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.tokenizer import write_tokenizer_files
from mobileclip_deploy.network.model.variants import Variant
from mobileclip_deploy.network.samples import calibration_prompts
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.int8 import scale_of
from mobileclip_deploy.targets import Target
from mobileclip_deploy.verify.checks.contents import written_by, written_by_this_version
from mobileclip_deploy.verify.instruments.distilled import image_tower_of
from mobileclip_deploy.verify.subject import OpenedSubject, Subject, lacks_to_convert

EVERY = "both"
SHOWN = 6
OF_SOURCE = (
    "variant",
    "licence",
    "builtin",
    "towers",
    "image_size",
    "preprocess",
    "recovered",
    "weights",
    "compacted",
    "distilled",
)
"""Fields of `checkpoint` in the manifest that must equal those of the checkpoint."""


def check_golden(subject: OpenedSubject) -> list[Check]:
    """Checks the bundle's inputs against the packaged samples, and its embeddings against the checkpoint's."""
    fresh, stored, towers = subject.fresh, subject.stored, tuple(subject.bundle.manifest.towers)
    if fresh is None or subject.source is None:
        return [Check.not_run("golden", tower, subject.needs_checkpoint) for tower in towers]
    engine, gates, floor = f"torch {torch.__version__}", subject.gates, fresh.floor
    inputs, prompts_until_0_3 = stored.inputs, tuple(calibration_prompts())
    samples = sample_inputs(
        subject.source.model, texts=prompts_until_0_3 if inputs.prompts == prompts_until_0_3 else ()
    )
    checks = []
    for tower in towers:
        names = (inputs.images, samples.images) if tower == "image" else (inputs.prompts, samples.prompts)
        have, want = inputs.of(tower), samples.of(tower)
        # Pixels come from bytes: another version of Pillow may round one of them differently.
        alike = have.shape == want.shape and np.allclose(have, want, rtol=0, atol=1.5 / 255)
        if names[0] != names[1] or not alike:
            detail = f"its {tower} inputs are not the packaged samples as this checkpoint takes them"
            checks.append(Check(step="golden", tower=tower, status="failed", detail=detail))
            continue
        bound = gates.exact(floor[tower])
        checks.append(Check.of_answers("golden", tower, fresh.of(tower), stored.of(tower), bound, engine))
        if tower != "image" or not subject.head.names or subject.head.own:
            continue
        if stored.probabilities is None:
            if written_by(subject) >= (0, 3):
                detail = "it holds no image_probabilities, which a benchmark holds a classifier's answers against"
                checks.append(Check(step="golden probabilities", tower=tower, status="failed", detail=detail))
        else:
            answers = subject.head.answers(subject.source.model, fresh.of(tower))
            bound = gates.exact(None, probabilities=True)
            checks.append(Check.of_answers("golden probabilities", tower, answers, stored.probabilities, bound, engine))
    return checks


def check_settings(subject: OpenedSubject) -> list[Check]:
    """Checks the manifest's settings against the checkpoint: preprocessing, tokens, logit scale, dimensions, names,
    licence.

    A wrong interpolation or padding moves no golden output, since those inputs are already preprocessed. An app that
    follows the manifest would still be wrong.
    """
    if subject.source is None:
        return [Check.not_run("settings", EVERY, subject.needs_checkpoint)]
    differing = _settings(subject, subject.source)
    wrong = [f"{name} is {actual}, the checkpoint has {expected}" for name, actual, expected in differing]
    detail = _listed(wrong) or "preprocessing, tokens, logit scale, names and licence are the checkpoint's"
    return [Check(step="settings", tower=EVERY, status="failed" if wrong else "passed", detail=detail)]


def _settings(subject: OpenedSubject, source: Source) -> Iterator[tuple[str, object, object]]:
    """Yields each setting of the manifest that differs from the checkpoint's: its name, its value, the expected
    value."""
    manifest, variant, origin = subject.bundle.manifest, source.variant, source.provenance
    if manifest.checkpoint.weights is None or origin.weights is None:
        # An earlier version wrote one of them, and its spaces were those of files.
        origin = with_fields(origin, weights=manifest.checkpoint.weights)
    pairs: list[tuple[str, object, object]] = [
        ("variant", manifest.variant, variant.name),
        ("embedding_space", manifest.embedding_space, origin.embedding_space),
        ("embed_dim", manifest.embed_dim, variant.embed_dim),
        ("template", manifest.template, variant.template),
    ]
    pairs += [(f"checkpoint.{name}", getattr(manifest.checkpoint, name), getattr(origin, name)) for name in OF_SOURCE]
    if written_by_this_version(subject):  # other versions may have other texts, or none
        pairs.append(("schema_version", manifest.schema_version, Manifest.model_fields["schema_version"].default))
        if manifest.checkpoint.sha256 == origin.sha256 and manifest.checkpoint.preprocess is None:
            pairs.append(("checkpoint.notes", manifest.checkpoint.notes, origin.notes))  # the same file
        if manifest.licence is None:
            pairs.append(("licence", None, variant.licence.name))
        else:
            expected = licence_entry(variant.licence, manifest.licence.files)
            pairs += [(f"licence.{name}", getattr(manifest.licence, name), value) for name, value in expected]
        pairs.append(("checkpoint.research_only", manifest.checkpoint.research_only, origin.research_only))
    if manifest.layout is not None and written_by_this_version(subject):
        packaged = packaged_layout(manifest.layout.name)
        if packaged is not None and packaged != manifest.layout:
            yield f"layout {packaged.name}", "another", "what this version packages, by that name"
    for group, have, want in (
        ("preprocess", manifest.preprocess, variant.preprocess),
        ("tokenizer", manifest.tokenizer, variant.tokenizer),
    ):
        fields = {} if want is None else want.model_dump()
        pairs += [(f"{group}.{name}", getattr(have, name, None), value) for name, value in fields.items()]
        if want is None:
            pairs.append((group, have, want))
    for tower, entry in manifest.towers.items():
        ports = subject.target.ports(variant, tower, subject.form)
        pairs.append((f"{tower} input", entry.input, TensorEntry.of(ports[0])))
        pairs.append((f"{tower} output", entry.output, TensorEntry.of(ports[1])))
        if entry.function is not None:  # apps load the function by this name
            pairs.append((f"{tower} function", entry.function, tower))
    yield from (pair for pair in pairs if pair[1] != pair[2])
    distilled = manifest.checkpoint.distilled
    if distilled is not None and (image := image_tower_of(distilled)) not in (None, distilled.image_sha256):
        yield "checkpoint.distilled.image_sha256", distilled.image_sha256, f"in the space that it claims {image}"
    has_scale = "image" in manifest.towers and not subject.head.names and not variant.gives_tokens
    if manifest.int8_scale is None and has_scale and written_by_this_version(subject):
        yield "int8_scale", None, scale_of(subject.stored.of("image"))
    if manifest.int8_scale is not None:  # from the golden pictures, which `golden` compares with the checkpoint
        compacted = manifest.checkpoint.compacted
        int8_scale = scale_of(subject.stored.of("image")) if compacted is None else compacted.int8_scale
        if manifest.int8_scale != int8_scale:
            yield "int8_scale", manifest.int8_scale, int8_scale
    scale, bias = source.model.scores.scale, source.model.scores.bias
    if not math.isclose(manifest.logit_scale, scale, rel_tol=1e-6):  # exp() on other processors differs in its last bit
        yield "logit_scale", manifest.logit_scale, scale
    if manifest.logit_bias != bias:
        yield "logit_bias", manifest.logit_bias, bias


def check_companions(subject: OpenedSubject) -> list[Check]:
    """Checks every file next to the artifacts against a new one: tokenizer, preprocessing, labels, model card."""
    if subject.source is None:
        return [Check.not_run("companions", EVERY, subject.needs_checkpoint)]
    folder = subject.folder / "companions"
    names = _made_again(subject, subject.source, folder)
    wrong = [text for name in names if (text := _difference(subject.bundle.path / name, folder / name, name))]
    detail = _listed(wrong) or f"{len(names)} files are as the checkpoint gives them"
    return [Check(step="companions", tower=EVERY, status="failed" if wrong else "passed", detail=detail)]


def write_companions(folder: Path, target: Target, variant: Variant, head: Head, layout: Layout | None = None) -> None:
    """Writes the tokenizer, the preprocessing, and files for an app's layout or for clients of the format. A
    classifier, or an image tower alone, gets no tokenizer."""
    if not head.names and variant.text is not None:
        write_tokenizer_files(folder / "tokenizer", variant.tokens)
    if layout is None and variant.text is not None:
        layout = default_layout(target.name)
    if not head.names and layout is not None:
        write_side_files(folder, layout, variant)
    write_preprocessor_config(folder, variant.preprocess)


def _made_again(subject: Subject, source: Source, folder: Path) -> list[str]:
    """Writes the companions of a bundle into a folder, and returns their names relative to it."""
    bundle, labels = subject.bundle, subject.head.names
    folder.mkdir(parents=True)
    write_companions(folder, subject.target, source.variant, subject.head, bundle.manifest.layout)
    if labels:
        image_folder = Path(bundle.manifest.towers["image"].file).parent
        (folder / image_folder).mkdir(parents=True, exist_ok=True)
        (folder / image_folder / "labels.json").write_text(labels_json(labels), encoding="utf-8")
    licence = bundle.manifest.licence
    if licence is not None and written_by_this_version(subject):
        text = own_text(licence)
        write_texts(folder, bundle.manifest, None if text is None else text.sha256)
    # Other versions word the card differently, and with schema version 1 it contained figures. The storage of weights
    # is available only if they can be converted again.
    convertible = all(lacks_to_convert(subject, tower) is None for tower in bundle.manifest.towers)
    if written_by_this_version(subject) and convertible and bundle.manifest.schema_version > 1:
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
        return f"{name} is not what the checkpoint gives"
    with refusing(f"{have} cannot be read: {WHY}; export the bundle again", OSError, ValueError, RecursionError):
        actual, expected = parse_json(have.read_text(encoding="utf-8")), parse_json(want.read_text(encoding="utf-8"))
    if actual == expected:  # equal in another format
        return None
    if isinstance(actual, dict) and isinstance(expected, dict):
        keys = [key for key in {**expected, **actual} if actual.get(key) != expected.get(key)]
        return f"{name} {keys[0]} is {_short(actual.get(keys[0]))}, the checkpoint has {_short(expected.get(keys[0]))}"
    return f"{name} is not what the checkpoint gives"


def same_card(have: Path, want: Path) -> bool:
    """Returns whether two cards are equal except for sizes: an equivalent file in other bytes has another size."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (have, want))
    actual, expected = (re.sub(r"(?<=`) \| [\d,]+ \|", " | |", text) for text in texts)
    return actual == expected


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(texts: list[str]) -> str:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
