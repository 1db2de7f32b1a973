"""Writes docs/schemas/: the JSON Schemas of the --json documents of every command, and of jobs and results.

python tests/json_schemas.py

A document may gain keys within a `schema_version`, and loses none.
"""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema, FloatSchema

from mobileclip_deploy.artifacts.bundle import Manifest
from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
from mobileclip_deploy.artifacts.layouts import Layout
from mobileclip_deploy.base.files.names import RowError
from mobileclip_deploy.benchmark.doctor import Diagnosis
from mobileclip_deploy.benchmark.driver import Listing
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Result, Run
from mobileclip_deploy.benchmark.suite.measuring import SuiteResult
from mobileclip_deploy.benchmark.sweep.result import SweepResult
from mobileclip_deploy.evaluation.evaluate import EvaluationResult
from mobileclip_deploy.export.smallest import SearchLog
from mobileclip_deploy.network.checkpoints.convert import Conversion
from mobileclip_deploy.network.folding import FoldReport
from mobileclip_deploy.network.model.variants import Variant
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.parity.report import Unproven
from mobileclip_deploy.search.bridging import BridgeResult
from mobileclip_deploy.search.embedding_files import EmbeddingFile
from mobileclip_deploy.search.library import IndexFile
from mobileclip_deploy.search.searching import SearchResult
from mobileclip_deploy.targets.inspection import PackageInspection
from mobileclip_deploy.training.language.distilling import DistilledTower
from mobileclip_deploy.training.reinforcement.index import ShardIndex
from mobileclip_deploy.training.trainer.running import Trained
from mobileclip_deploy.verify.audit.embeddings import EmbeddingsReport
from mobileclip_deploy.verify.audit.report import ForeignReport
from mobileclip_deploy.verify.inspect import inspection as kinds
from mobileclip_deploy.verify.inspect.layers import LayerComparison
from mobileclip_deploy.verify.inspect.linting import Comparison as LintComparison
from mobileclip_deploy.verify.inspect.linting import LintReport, Share
from mobileclip_deploy.verify.reports.comparison import Comparison
from mobileclip_deploy.verify.reports.explanation import Explanation

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"


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


ReinforcedDocument = widened(
    "ReinforcedDocument",
    ShardIndex,
    "The dataset at `output`, with its index; shards `made` now, and those `kept` from an earlier run.",
    without=("shards",),
    every=True,
    format=str,
    version=int,
    dtype=str,
    output=str,
    made=int,
    kept=int,
)
TextTowerDocument = widened(
    "TextTowerDocument",
    DistilledTower,
    "Result of `train --text-tower`. `output`: the checkpoint. `log`: held-out recall by language. `pairs`: number of "
    "learned pairs, by language; `left_out`: texts, by reason. `vocabulary`: its tokens.",
    without=("weights",),
    output=str,
)
TrainedDocument = widened(
    "TrainedDocument",
    Trained,
    "`output`: the trained weights. `resumed_at`: step at which the training resumed, 0 from the start. `left_out`: "
    "samples left out of published shards, null for other data.",
    without=("folder", "weights"),
    output=str,
)
DoctorDocument = widened(
    "DoctorDocument",
    Diagnosis,
    "What is installed. `complete`: all required packages are installed.",
    complete=bool,
)


class ReportDocument(BaseModel):
    """The files that were written, and what speaks against each run, by its id."""

    outputs: tuple[str, ...]
    runs: dict[str, tuple[str, ...]]


class DemoDocument(BaseModel):
    """Address of the page while it is served, and with --static the folder where it was written."""

    address: str | None
    folder: str | None


class PublishDocument(BaseModel):
    """Repository or folder, its commit and lock if something was uploaded, and the state of each file before it."""

    repository: str
    commit: str | None
    lock: str | None
    files: dict[str, Literal["new", "changed", "same", "removed"]]


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
    "evaluate": EvaluationResult | SuiteResult,
    "compare": Comparison | LayersDocument,
    "classify": list[ClassifiedDocument],
    "embed": EmbeddingFile | IndexFile,
    "search": SearchResult,
    "bridge": BridgeResult,
    "reinforce": ReinforcedDocument,
    "train": TrainedDocument | TextTowerDocument,
    "sweep": SweepResult,
    "devices": list[Listing],
    "report": ReportDocument,
    "doctor": DoctorDocument,
    "demo": DemoDocument,
    "publish": PublishDocument,
    "error": ErrorDocument,
}
"""Documents by command. `benchmark` prints the file that it writes."""
FILES: dict[str, type[BaseModel]] = {"benchmark-job": Job, "benchmark-run": Run, "benchmark-result": Result}
"""Files of the benchmark."""


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


def published() -> dict[str, str]:
    """Returns file name -> JSON Schema (2020-12), of every document of the command line, of layouts and of files."""
    texts = {name: _text(name, document) for name, document in DOCUMENTS.items()}
    texts["layout-file"] = _text("layout-file", Layout)
    texts |= {name: _printed(model.model_json_schema()) for name, model in FILES.items()}
    return {f"{name}.json": text for name, text in texts.items()}


def _text(name: str, document: Any) -> str:
    schema = TypeAdapter(document).json_schema(schema_generator=_Schema)
    for top in _tops(schema, schema.get("$defs", {})):
        version = top["properties"].get("schema_version", {"const": 1, "title": "Schema Version", "type": "integer"})
        top["properties"] = {"schema_version": version} | top["properties"]
        top["required"] = sorted({*top.get("required", ()), "schema_version"}, key=list(top["properties"]).index)
    titles = {"error": "mobileclip-deploy: an error", "layout-file": "mobileclip-deploy: a layout"}
    title = titles.get(name, f"mobileclip-deploy {name} --json")
    return _printed(schema | {"title": title})


def _printed(schema: dict[str, Any]) -> str:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"


def _tops(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the objects at the top of a document, or in the list at its top."""
    if "properties" in schema:
        yield schema
    for below in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _tops(below, definitions)
    if "$ref" in schema:
        yield from _tops(definitions[schema["$ref"].rpartition("/")[2]], definitions)


if __name__ == "__main__":
    for file, schema in published().items():
        (SCHEMAS / file).write_text(schema, encoding="utf-8")
