"""Types of the --json documents of each command, and their published JSON Schemas.

python -m mobileclip_deploy.cli.schemas docs/schemas

A document may gain keys within a `schema_version`, and loses none.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema, FloatSchema

from mobileclip_deploy.artifacts.bundle import Manifest
from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
from mobileclip_deploy.artifacts.layouts import Layout
from mobileclip_deploy.base.error_document import RowError
from mobileclip_deploy.cli.commands import entries, find
from mobileclip_deploy.evaluation.evaluate import EvaluationResult
from mobileclip_deploy.export.smallest import SearchLog
from mobileclip_deploy.network.checkpoints.convert import Conversion
from mobileclip_deploy.network.folding import FoldReport
from mobileclip_deploy.network.model.variants import Variant
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.parity.report import Unproven
from mobileclip_deploy.targets.inspection import PackageInspection
from mobileclip_deploy.verify.audit.embeddings import EmbeddingsReport
from mobileclip_deploy.verify.audit.report import ForeignReport
from mobileclip_deploy.verify.inspect import inspection as kinds
from mobileclip_deploy.verify.inspect.layers import LayerComparison
from mobileclip_deploy.verify.inspect.linting import Comparison as LintComparison
from mobileclip_deploy.verify.inspect.linting import LintReport, Share
from mobileclip_deploy.verify.reports.comparison import Comparison
from mobileclip_deploy.verify.reports.explanation import Explanation


def widened(name: str, base: type, text: str, without: tuple[str, ...] = (), every: bool = False, **added: Any) -> Any:
    """Returns a model of a printed result: the fields of `base` except `without`, and more keys. It is no subclass,
    whose fields would shadow the properties of the same names. For a dataclass, or with `every`, all annotated fields
    are included."""
    if issubclass(base, BaseModel) and not every:
        named_fields: dict[str, Any] = {key: (field.annotation, field) for key, field in base.model_fields.items()}
    else:
        named_fields = {
            key: (kind, ...) for key, kind in get_type_hints(base).items() if get_origin(kind) is not ClassVar
        }
    return create_model(
        name,
        __doc__=text,
        **{key: definition for key, definition in named_fields.items() if key not in without} | added,
    )


class ArtifactDocument(BaseModel, extra="allow"):
    """An artifact of a target without an inspection of its own. Further keys are the target's counts, by kind.

    `bytes`: of the whole, or of each part if the target counts them separately.
    """

    __pydantic_extra__: dict[str, dict[str, int]]

    kind: str
    input: TensorEntry
    output: TensorEntry
    bytes: int | dict[str, int]
    operators: int
    by_type: dict[str, int]
    facts: dict[str, str] | None = None


ModelFile = PackageInspection | kinds.FileInspection | ArtifactDocument
FoldedDocument = widened(
    "FoldedDocument",
    FoldReport,
    "`output`: the checkpoint that was written. The rest is also in the report next to it.",
    output=str,
    changed=bool,
)


class ExportedDocument(BaseModel):
    """A bundle. `written`: true if it was written; a bundle that failed its gate is not. `passed`: true if every check
    was run and passed; null without checks. `search`: with the precision "smallest". `error`: of a bundle that could
    not be made."""

    bundle: str
    written: bool
    passed: bool | None
    manifest: Manifest | None
    parity: tuple[Check, ...]
    search: SearchLog | None = None
    error: RowError | None = None


VerifiedDocument = widened(
    "VerifiedDocument",
    ParityReport,
    "A bundle's report. `seconds`: duration of the checks. `explanations`: with --explain. `unproven`: checks that "
    "were not run or not decided, by reason.",
    passed=bool,
    seconds=float,
    unproven=(tuple[Unproven, ...], ()),
    explanations=(tuple[Explanation, ...], ()),
)


class RefusedDocument(BaseModel):
    """One of several bundles, which could not be verified."""

    bundle: str
    passed: Literal[False]
    error: RowError


class VerifiedBundlesDocument(BaseModel):
    """Several bundles, in the order given."""

    bundles: tuple[VerifiedDocument | RefusedDocument, ...]  # type: ignore[valid-type]


AuditedFileDocument = widened(
    "AuditedFileDocument",
    ForeignReport,
    "The verdict on files of other tools. `passed`: the verdict is same.",
    passed=bool,
)

LintedPackage = widened(
    "LintedPackage", LintReport, "A package, and the share of each status.", shares=dict[str, Share]
)


class LintDocument(BaseModel):
    """All linted packages; with --compare those of both sides, and the changes."""

    packages: tuple[LintedPackage, ...]  # type: ignore[valid-type]
    comparisons: tuple[LintComparison, ...]


class LayersDocument(BaseModel):
    """With --by-layer: the layers of every tower of the given bundles."""

    towers: tuple[LayerComparison, ...]


class ClassifiedDocument(BaseModel):
    """An image, and the probability of each label, the most probable first. `tags`: the labels that are present, if
    they were learned from pictures; empty for none of them. After the images, each image left out by --skip-bad has an
    entry with `skipped` alone: its name and the reason."""

    image: str | None
    probabilities: dict[str, float]
    tags: list[str] | None = None
    skipped: str | None = None


class ErrorDocument(BaseModel):
    """The last line of stderr if the exit code is not 0."""

    error: RowError


DOCUMENTS: dict[str, Any] = {
    "variants": list[Variant],
    "layouts": list[Layout],
    "inspect": kinds.CheckpointInspection | kinds.BundleInspection | kinds.FolderInspection | ModelFile,
    "reparameterize": FoldedDocument,
    "convert": Conversion,
    "export": list[ExportedDocument],
    "verify": VerifiedDocument | VerifiedBundlesDocument,
    "audit": AuditedFileDocument | EmbeddingsReport,
    "lint": LintDocument,
    "evaluate": EvaluationResult,
    "compare": Comparison | LayersDocument,
    "classify": list[ClassifiedDocument],
    "error": ErrorDocument,
}
"""Documents by command. A wing adds its own by the entry point `<wing>.documents`: `DOCUMENTS` in its
`commands/documents.py`."""


class _Schema(GenerateJsonSchema):
    """JSON Schemas in which infinite values are words, and unknown keys of newer versions are allowed."""

    def float_schema(self, schema: FloatSchema) -> JsonSchemaValue:
        return super().float_schema(schema) | {"type": ["number", "string"], "pattern": "^(-?Infinity|NaN)$"}

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        # Pydantic before 2.12 leaves out a dataclass's docstring.
        text = inspect.cleandoc(schema["cls"].__doc__ or "")
        description = {"description": text} if text and not text.startswith(f"{schema['cls'].__name__}(") else {}
        return description | super().dataclass_schema(schema)

    def generate(self, *arguments: Any, **options: Any) -> JsonSchemaValue:
        return _open(super().generate(*arguments, **options))


def _open(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _open(value) for key, value in schema.items() if (key, value) != ("additionalProperties", False)}
    return [_open(item) for item in schema] if isinstance(schema, list) else schema


@cache
def all_documents() -> dict[str, Any]:
    """Returns documents by command: the core's and those of the installed wings."""
    documents = dict(DOCUMENTS)
    for wing in _wings():
        for command, document in wing.DOCUMENTS.items():
            documents[command] = documents[command] | document if command in documents else document
    return documents


def _wings() -> list[Any]:
    """Returns the modules with the documents of the wings' commands."""
    modules = [find(name) for name in sorted(entries()) if name.endswith(".documents")]
    return [module for module in modules if module is not None]


def published() -> dict[str, str]:
    """Returns file name -> JSON Schema (2020-12), of every document of the command line, of wings and of layouts."""
    core_files = {f"{name}.json": _text(name, document) for name, document in all_documents().items()}
    core_files["layout-file.json"] = _text("layout-file", Layout)
    return {
        name: text
        for files in (core_files, *(getattr(wing, "files", dict)() for wing in _wings()))
        for name, text in files.items()
    }


def _text(name: str, document: Any) -> str:
    schema = TypeAdapter(document).json_schema(schema_generator=_Schema)
    for top in _tops(schema, schema.get("$defs", {})):
        version = top["properties"].get("schema_version", {"const": 1, "title": "Schema Version", "type": "integer"})
        top["properties"] = {"schema_version": version} | top["properties"]
        top["required"] = sorted({*top.get("required", ()), "schema_version"}, key=list(top["properties"]).index)
    titles = {"error": "mobileclip-deploy: an error", "layout-file": "mobileclip-deploy: a layout"}
    title = titles.get(name, f"mobileclip-deploy {name} --json")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | schema | {"title": title}, indent=1, ensure_ascii=False) + "\n"


def _tops(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the objects at the top of a document, or in the list at its top."""
    if "properties" in schema:
        yield schema
    for below in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _tops(below, definitions)
    if "$ref" in schema:
        yield from _tops(definitions[schema["$ref"].rpartition("/")[2]], definitions)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for file, schema in published().items():
        (target / file).write_text(schema, encoding="utf-8")
