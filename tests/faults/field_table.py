"""Every field of manifest.json and parity.json changed or dropped once: which check sees it.

python tests/faults/field_table.py [FOLDER or TARGET:PRECISION ...]     (with tests/ and the repository on PYTHONPATH)
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from relevant_bundle import relevant_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle, Manifest
from mobileclip_deploy.artifacts.bundle.manifest import Measurements
from mobileclip_deploy.artifacts.bundle.source import open_source
from mobileclip_deploy.errors import MobileClipDeployError
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.computing import compute_again
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.attachments import check_attachments
from mobileclip_deploy.verify.checks.companions import check_companions
from mobileclip_deploy.verify.checks.contents import check_contents
from mobileclip_deploy.verify.checks.files import check_files
from mobileclip_deploy.verify.checks.golden import check_golden
from mobileclip_deploy.verify.checks.measured import check_measured
from mobileclip_deploy.verify.checks.relevance import check_relevance
from mobileclip_deploy.verify.checks.requested import check_requested
from mobileclip_deploy.verify.checks.settings import check_settings
from mobileclip_deploy.verify.checks.structure import check_structure
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject

FILES: dict[str, type[BaseModel]] = {"manifest.json": Manifest, "parity.json": Measurements}
OTHERS: dict[str, Any] = {
    "Manifest.schema_version": 1,
    "Manifest.target": "litert",
    "TowerEntry.precision": "w4",
    "Preprocess.interpolation": "bicubic",
    "Preprocess.resize": "squash",
    "Preprocess.crop": "none",
    "Answer.answer": "unknown",
    "Check.status": "undecided",
    "Measurements.floor": {"image": 1.0, "text": 1.0},
    "TensorEntry.dtype": "float16",
}
"""Other values that the schema takes, of fields that have but a few."""
UNSEEN = "nothing"


@dataclass(frozen=True)
class Field:
    """A value in a document: `name` is MODEL.FIELD, `place` the keys that lead to it."""

    name: str
    place: tuple[str | int, ...]


def model_fields(model: type[BaseModel], known: set[type[BaseModel]] | None = None) -> Iterator[str]:
    """MODEL.FIELD of a model and of every model in it."""
    known = set() if known is None else known
    if model in known:
        return
    known.add(model)
    for name, info in model.model_fields.items():
        yield f"{_owner(model, name)}.{name}"
        for inner in _models(info.annotation):
            yield from model_fields(inner, known)


def _owner(model: type[BaseModel], name: str) -> str:
    """The first class that declares a field: a subclass has the rows of its base."""
    return next(kind.__name__ for kind in reversed(model.__mro__) if name in getattr(kind, "__annotations__", {}))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def present(model: type[BaseModel], value: dict[str, Any], place: tuple[str | int, ...] = ()) -> Iterator[Field]:
    """Every field that a document has, the outer ones first."""
    for name, info in model.model_fields.items():
        if name not in value:
            continue
        yield Field(f"{_owner(model, name)}.{name}", (*place, name))
        inner = next(_models(info.annotation), None)
        if inner is None:
            continue
        for at, part in _parts(info.annotation, value[name]):
            yield from present(inner, part, (*place, name, *at))


def _parts(annotation: Any, value: Any) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """The objects of a model in a value: itself, those of a list, or of a mapping."""
    kinds = [annotation, *get_args(annotation)] if get_origin(annotation) in (Union, UnionType) else [annotation]
    if any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
        yield (), value
    elif isinstance(value, list):
        yield from (((index,), part) for index, part in enumerate(value))
    elif isinstance(value, dict):
        yield from (((key,), part) for key, part in value.items() if isinstance(part, dict))


def other(name: str, value: Any) -> Any:
    """Another value of the same kind."""
    if name in OTHERS and value != OTHERS[name]:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 if value else 0.25
    if isinstance(value, str):
        digits = len(value) == 64 and set(value) <= set("0123456789abcdef")
        return ("0" if value[0] != "0" else "1") + value[1:] if digits else value + "x"
    if value == []:
        return ["x"]
    if isinstance(value, list):
        return [*value[:-1], other("", value[-1])] if value and not isinstance(value[-1], dict) else value[:-1]
    if isinstance(value, dict) and value:
        key = next(iter(value))
        return {**value, key: other("", value[key])} if not isinstance(value[key], dict) else dict([*value.items()][1:])
    return {"x": "x"}


@dataclass
class Trial:
    """A sound bundle whose files are changed one at a time, and its checkpoint."""

    folder: Path
    source: Source
    fresh: Reference
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, bundle: Bundle, folder: Path) -> Trial:
        """A copy with background pictures and a threshold."""
        whole = relevant_bundle(bundle, folder / "trial")
        source = open_source(bundle)
        assert source is not None
        fresh, _ = compute_again(source.model, Reference.read(whole.golden))
        trial = cls(whole.path, source.folded(), fresh, bundle.parity)
        assert trial.first_seen() == UNSEEN  # of a sound bundle
        return trial

    def first_seen(self) -> str:
        """The first check that fails, cheap ones first; `opening` where the bundle is refused, `nothing` where none."""
        try:
            bundle = Bundle.open(self.folder)
            with tempfile.TemporaryDirectory() as made:
                subject = OpenedSubject(bundle, Evidence(self.fresh), Gates(), Path(made), source=self.source)
                subject.fresh, subject.thorough = self.fresh, False
                for check in self._checks(subject):
                    if check.status == "failed":
                        return check.step
        except MobileClipDeployError:
            return "opening"
        return UNSEEN

    def _checks(self, subject: OpenedSubject) -> Iterator[Check]:
        for whole in (check_requested, check_settings, check_relevance, check_files, check_golden):
            yield from whole(subject)
        yield from check_measured(subject, self.checks)
        for tower in subject.towers.values():
            for part in (check_structure, check_contents, check_attachments):
                yield from part(tower)
        yield from check_companions(subject)

    def table(self, only: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
        """Yields the name of every field, or of some, with what sees another value and what sees it dropped."""
        known: set[str] = set()
        for name, model in FILES.items():
            path = self.folder / name
            text = path.read_text(encoding="utf-8")
            for field in present(model, json.loads(text)):
                if field.name not in known and (not only or field.name in only):
                    known.add(field.name)
                    yield field.name, self._changed(path, text, field), self._dropped(path, text, field)
            path.write_text(text, encoding="utf-8")

    def _changed(self, path: Path, text: str, field: Field) -> str:
        document = json.loads(text)
        holder = _at(document, field.place[:-1])
        holder[field.place[-1]] = other(field.name, holder[field.place[-1]])
        path.write_text(json.dumps(document), encoding="utf-8")
        return self.first_seen()

    def _dropped(self, path: Path, text: str, field: Field) -> str:
        document = json.loads(text)
        del _at(document, field.place[:-1])[field.place[-1]]
        with suppress(ValidationError):
            kind = FILES[path.name]
            if kind.model_validate(document) == kind.model_validate_json(text):
                return "default"
        path.write_text(json.dumps(document), encoding="utf-8")
        return self.first_seen()


def _at(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


def main(wanted: list[str]) -> None:
    """Print the table of each bundle of nano: a folder, or TARGET:PRECISION, which is exported."""
    for one in wanted or ["onnx:w8"]:
        folder = Path(tempfile.mkdtemp())
        try:
            if Path(one).is_dir():
                bundle = Bundle.open(one)
            else:
                target, _, precision = one.partition(":")
                bundle = mcd.export(mcd.load_model(), target, precision, folder / "out")
            for row in Trial.of(bundle, folder).table():
                print("\t".join((bundle.path.name, *row)), flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
