"""Every text in a document that strangers write has a pattern, a list of words or a bound."""

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import MaxLen
from conversions import ROOT
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mobileclip_deploy.artifacts.bundle.manifest import Manifest, Measurements
from mobileclip_deploy.artifacts.bundle.published import Lock
from mobileclip_deploy.artifacts.heads.label_head import _Description as LabelDescription
from mobileclip_deploy.artifacts.layouts.layout import Layout
from mobileclip_deploy.base.files.names import (
    LONGEST_PROSE,
    Name,
    PackageName,
    Prose,
    Version,
    plain_path,
    plain_text,
    with_fields,
)
from mobileclip_deploy.benchmark.android.ready import Contents
from mobileclip_deploy.benchmark.android.release import Release
from mobileclip_deploy.benchmark.browser.session import PageWord
from mobileclip_deploy.benchmark.ddp.service import Started
from mobileclip_deploy.benchmark.ios.following import RunProgress
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Browser, Result, RoundResult, Run, Snapshot
from mobileclip_deploy.benchmark.sweep.cells import Record
from mobileclip_deploy.export.smallest.log import SearchLog
from mobileclip_deploy.network.checkpoints.finetuned import _AdapterConfig
from mobileclip_deploy.network.checkpoints.weights_files import _ShardIndex
from mobileclip_deploy.network.model.prompts import Labels, Template
from mobileclip_deploy.network.model.provenance import Distilled, Provenance, TakenPreprocess
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.parity.baseline import ParityLock
from mobileclip_deploy.search.index_file import Description
from mobileclip_deploy.training.reinforcement.index import ShardIndex
from mobileclip_deploy.verify.audit.embeddings_file import _Line
from mobileclip_deploy.verify.audit.opening import _Declared

READ: tuple[type[BaseModel], ...] = (
    *(Manifest, Measurements, SearchLog, Layout, ParityLock, Record),
    *(Job, Run, Result, RoundResult, RunProgress, Snapshot, Browser, PageWord),
    *(Contents, Release, Description, ShardIndex),
    *(Provenance, Distilled, TakenPreprocess, TokenizerSpec, Lock),
    *(LabelDescription, Started, _AdapterConfig, _ShardIndex, _Line, _Declared),
)
READ_ELSEWHERE = {
    "Variant": "a card: the user's own or packaged",
    "Specification": "the user's own",
    "Pair": "captions of a dataset",
    "Suite": "packaged",
    "Terms": "packaged",
    "Gate": "made here",
    "Lost": "made here",
    "Tensor": "made here, and in Job",
    "TensorLayout": "made here, and in Layout",
}
READERS = re.compile(
    r"\b([A-Z_]\w*)\.model_validate(?:_json)?\(|\b(?:read|parse)_model\(([A-Z_]\w*)|\bparse_document\(.*, ([A-Z]\w*),"
)
CHECKS = [plain_text, plain_path, *(annotated.__metadata__[0].func for annotated in (Template, Labels))]


def texts(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every `str` and every model in an annotation, with what holds for it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from texts(inside[0], (*metadata, *inside[1:]))
    elif origin in (Union, types.UnionType):
        for one in inside:
            yield from texts(one, metadata)
    elif annotation is str or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield annotation, metadata
    elif origin is not Literal:
        # What holds for a whole list, such as `Labels`, holds for its texts too where it is a check of ours.
        inherited = tuple(one for one in metadata if getattr(one, "func", None) in CHECKS)
        for one in inside:
            yield from texts(one, inherited)


def is_bounded(metadata: tuple[Any, ...]) -> bool:
    flat = [inner for one in metadata for inner in (one.metadata if isinstance(one, FieldInfo) else [one])]
    return any(
        isinstance(one, MaxLen) or getattr(one, "pattern", None) or getattr(one, "func", None) in CHECKS for one in flat
    )


def unbounded(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        for what, metadata in texts(field.annotation, tuple(field.metadata)):
            if what is not str:
                yield from unbounded(what, seen)
            elif not is_bounded(metadata):
                yield f"{model.__name__}.{name}"


def test_every_text_that_strangers_write_has_a_pattern_or_a_bound() -> None:
    seen: set[type[BaseModel]] = set()
    assert [name for model in READ for name in unbounded(model, seen)] == []
    assert len(seen) > 60


def test_a_field_without_a_bound_is_named() -> None:
    class Inner(BaseModel):
        label: str

    class Outer(BaseModel):
        checked: Name
        inner: tuple[Inner, ...] = ()
        keys: dict[str, Name] = {}

    assert list(unbounded(Outer, set())) == ["Inner.label", "Outer.keys"]


def test_every_model_that_is_read_is_looked_at() -> None:
    found = {
        name
        for path in (ROOT / "mobileclip_deploy").rglob("*.py")
        for match in READERS.findall(path.read_text(encoding="utf-8"))
        for name in match
        if name
    }
    assert found - READ_ELSEWHERE.keys() == {model.__name__ for model in READ} - {"Result", "SearchLog"}
    assert READ_ELSEWHERE.keys() <= found


class Versions(BaseModel):
    environment: dict[PackageName, Version]


@pytest.mark.parametrize(
    "pair",
    [
        ("onnxruntime", "1.32.0\n/path/evilpkg"),
        ("onnxruntime", "1.32.0\n"),
        ("onnxruntime", " @ https://example.com/evil.whl"),
        ("onnxruntime", "../../evil"),
        ("onnxruntime", "1.32.0 --hash=sha256:0"),
        ("onnxruntime", ""),
        ("onnxruntime", "1" * 101),
        ("-r evil.txt", "1.0"),
        ("onnxruntime[extra]", "1.0"),
    ],
)
def test_a_version_holds_nothing_that_pip_understands(pair: tuple[str, str]) -> None:
    with pytest.raises(ValidationError):
        Versions(environment=dict([pair]))


@pytest.mark.parametrize("version", ["1.32.0", "2.9.0+cu128", "0.0.0.dev20251130+g5f148cc", "1!2.0rc1", "2025.4.1"])
def test_versions_of_packages_are_taken(version: str) -> None:
    assert Versions(environment={"open_clip_torch": version, "ai-edge-litert": version})


def test_prose_is_cut_and_a_copy_is_validated() -> None:
    class Said(BaseModel, frozen=True):
        name: Name = ""
        words: Prose = ""

    said = Said(words="word " * LONGEST_PROSE)
    assert len(said.words) == LONGEST_PROSE
    assert said.words.endswith(" ...")
    assert with_fields(said, name="new") == Said(name="new", words=said.words)
    with pytest.raises(ValidationError):
        with_fields(said, name="n" * 1001)
