"""What stands in a bundle beside its artifacts, held against the checkpoint and its card."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mobileclip_deploy.bundle import preprocessor_config
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import Subject

__all__ = ["check_golden", "check_settings"]


def check_golden(subject: Subject) -> list[Check]:
    """The embeddings stored in the bundle against the checkpoint's, for the same inputs."""
    golden = subject.golden
    if golden is None:
        return []
    engine, bound = f"torch {torch.__version__}", subject.gates.exact()
    return [
        Check.of_answers("golden", tower, golden.fresh.of(tower), golden.stored.of(tower), bound, engine)
        for tower in subject.bundle.manifest.towers
    ]


def check_settings(subject: Subject) -> list[Check]:
    """What clients are told about inputs against the checkpoint's own: preprocessing, tokens, template.

    A wrong interpolation or padding moves no golden output, since those inputs are prepared already, and an app that
    follows the manifest or preprocessor_config.json would be wrong all the same.
    """
    if subject.golden is None or subject.source is None:
        return []
    manifest, variant = subject.bundle.manifest, subject.source.variant
    pairs: list[tuple[str, object, object]] = [
        (f"preprocess.{name}", getattr(manifest.preprocess, name), value)
        for name, value in variant.preprocess.model_dump().items()
    ]
    pairs += [
        (f"tokenizer.{name}", getattr(manifest.tokenizer, name), value)
        for name, value in variant.tokenizer.model_dump().items()
    ]
    pairs.append(("template", manifest.template, variant.template))
    told = _read_config(subject.bundle.path / preprocessor_config.NAME)
    wanted = preprocessor_config.preprocessor_config(variant.preprocess)
    pairs += [(f"{preprocessor_config.NAME} {name}", told.get(name), value) for name, value in wanted.items()]
    wrong = [f"{name} is {found}, the checkpoint has {right}" for name, found, right in pairs if found != right]
    detail = "; ".join(wrong) or "preprocessing, tokens and template are the checkpoint's"
    return [Check(step="settings", tower="both", status="failed" if wrong else "passed", detail=detail)]


def _read_config(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; export the bundle again") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} is not an object; export the bundle again")
    return value
