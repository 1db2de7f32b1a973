"""manifest.json, which describes a bundle for every later step, and parity.json with the measurements of one machine.

They are separate because the manifest is the same on every machine.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PositiveFloat, field_validator, model_validator

from mobileclip_deploy.artifacts.heads.label_head import NONE, Thresholds
from mobileclip_deploy.artifacts.layouts import Layout
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.base.files.names import LongPath, Name, PackageName, PlainPath, Prose, Sha256, Version
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.licences import Answer, LicenceUse
from mobileclip_deploy.network.model.precision import is_precision
from mobileclip_deploy.network.model.prompts import Labels, Template
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.scores import LARGEST, Scores
from mobileclip_deploy.network.model.variants import Preprocess, TokenizerSpec, TowerName
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.gates import exported_gates

MANIFEST = "manifest.json"


class TensorEntry(BaseModel, frozen=True, extra="forbid"):
    """Input or output of an artifact. A dimension of 0 is free."""

    name: Name
    dtype: Name
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None
    colour: Name | None = None
    normalised: bool | None = None

    @property
    def any_size(self) -> bool:
        """True if it is one picture of any size, as bytes [H, W, C]."""
        return self.dtype == "uint8" and self.shape == (0, 0, 0)

    @classmethod
    def of(cls, info: object) -> Self:
        """Makes an entry from a target's description of a tensor (`targets.TensorInfo`)."""
        return cls(**vars(info))


class AttachmentEntry(BaseModel, frozen=True, extra="forbid"):
    """A file next to an artifact. `tolerance`: largest difference of one value of an output from those in the file."""

    file: PlainPath
    sha256: Sha256
    bytes: int
    tolerance: float | None = None

    @classmethod
    def of(cls, path: Path, folder: Path, tolerance: float | None = None) -> Self:
        """Makes the entry of a file in a bundle's folder."""
        file = path.relative_to(folder).as_posix()
        return cls(file=file, sha256=artifact_sha256(path), bytes=artifact_bytes(path), tolerance=tolerance)


class TowerEntry(BaseModel, frozen=True, extra="forbid"):
    """One artifact: `file` is relative to the bundle; a package's bytes and hash cover all files in it.

    `function`: name inside a file with several (a Core ML package of both towers); bytes and hash are then those of the
    whole file, in both entries. `contexts`: the lengths in tokens that a text tower takes, ascending, if there are
    several: a prompt that fits has the same embedding at each. `pads_inside`: a row of ids ends at its first end token;
    what follows counts as padding. None in earlier versions, and where apps pad. `contents`: delegates, operators
    outside them and bytes by kind, for targets that report them. `attachments`: requested files next to the artifact,
    by kind (`ort`).
    """

    file: PlainPath
    function: Name | None = None
    sha256: Sha256
    bytes: int
    precision: Name
    input: TensorEntry
    output: TensorEntry
    contexts: tuple[int, ...] | None = None
    pads_inside: Literal[True] | None = None
    contents: dict[Name, dict[Name, int]] | None = None
    attachments: dict[Name, AttachmentEntry] | None = None

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, name: str) -> str:
        if not is_precision(name):
            raise ValueError(f"this version does not support the precision {name!r}")
        return name


class PreprocessEntry(Preprocess, frozen=True):
    """The variant's preprocessing; `where` says that the graph applies mean and std."""

    where: Literal["graph"] = "graph"


class TagsEntry(BaseModel, frozen=True, extra="forbid"):
    """Labels that were learned from pictures. `file`: their rows and thresholds. `golden`: the indices of the labels
    that are present in each golden picture."""

    file: AttachmentEntry
    thresholds: Thresholds
    golden: tuple[tuple[int, ...], ...]


class ClassifierEntry(BaseModel, frozen=True, extra="forbid"):
    """Labels of a classifier, in the order of its probabilities; its bundle has no text tower.

    `template`: of the prompts for the labels. None if they were learned from pictures alone. `tags`: of labels that
    were learned from pictures; the last label is then "none of these".
    """

    labels: Labels = Field(min_length=2)
    template: Template | None = None
    tags: TagsEntry | None = None

    @model_validator(mode="after")
    def _ratios_of_the_labels(self) -> ClassifierEntry:
        tags = self.tags
        if tags is not None and (len(tags.thresholds.ratios) + 1 != len(self.labels) or self.labels[-1] != NONE):
            raise ValueError(f"`tags` needs a ratio for each label, and {NONE!r} as the last label")
        return self


class RoundedTowerEntry(BaseModel, frozen=True, extra="forbid"):
    """A tower whose rounding was learned, by `method`: the requested one, or a simpler one that came nearer.

    `layers`: SHA-256 of the weight of each such layer as the artifact stores it, dequantized, float32. `nearest_db`,
    `learned_db`: centred SNR of the tower against its float original on inputs that were not learned from, rounded to
    the nearest and as it is.
    """

    method: Name
    layers: dict[Name, Sha256]
    nearest_db: float
    learned_db: float


class RoundingEntry(BaseModel, frozen=True, extra="forbid"):
    """Rounding of weights to their grids, if it was learned. Towers that are not in `towers` are rounded to the
    nearest.

    `method`: the requested one. `calibration`, `images` and `captions`: folder and numbers of the samples that it was
    learned on. `floats`: the file of the other learned tensors, biases.
    """

    method: Name
    calibration: LongPath
    calibration_sha256: Sha256
    images: int
    captions: int
    floats: AttachmentEntry
    towers: dict[TowerName, RoundedTowerEntry]


class RelevancePoint(BaseModel, frozen=True, extra="forbid"):
    """Effect of the threshold in a library of `size` pictures, as shares of queries from 0 to 1.

    Attributes:
        left_out, nonsense: false alarms among queries whose picture is not in the library, and among texts that fit no
            picture; None if there were none.
        missed: queries whose picture is in the library but that find nothing; None without `queries`, as all below.
        auc_left_out, auc_nonsense: area under the ROC curve against either; `cosine_...`: that of the bare cosine.
        roc: false alarms, of both kinds together, and the share of found pictures at them.
    """

    size: int
    left_out: float | None = None
    nonsense: float | None = None
    missed: float | None = None
    auc_left_out: float | None = None
    auc_nonsense: float | None = None
    cosine_auc_left_out: float | None = None
    cosine_auc_nonsense: float | None = None
    roc: tuple[tuple[float, float], ...] = ()


class RelevanceAnswer(BaseModel, frozen=True, extra="forbid"):
    """Expected values of a client for one golden prompt: the mean and spread of its scores over the background, and the
    cosine that a match needs in a library of 1,000 pictures."""

    mean: float
    spread: float
    needed: float


class RelevanceEntry(BaseModel, frozen=True, extra="forbid"):
    """Threshold of a match (docs/search.md).

    A text t of length 1 needs the cosine `intercept + slope ln(n) - weights . t - spread s` in a library of n pictures;
    s is the standard deviation of its scores over the background.

    Attributes:
        file: .safetensors: `background` int8 [K, D], whose integers times `scale` are components; `weights` float32
            [D].
        background: name of the pictures' folder; `images`: their number; `images_sha256`: of their contents.
        queries: number of captions with their own pictures that it was learned from; None: only `false_alarms` were
            fitted, `weights` and `spread` are 0, and the share of missed pictures is unknown.
        false_alarms: target share of queries without a picture that pass the threshold.
        curve: effect on captions that it was not learned from.
        golden: of the golden prompts, in their order.
    """

    file: AttachmentEntry
    background: Name
    images: int
    images_sha256: Sha256
    scale: float = Field(gt=0, le=1)
    queries: int | None = None
    queries_sha256: Sha256 | None = None
    spread: float
    intercept: float
    slope: float = Field(ge=0)
    false_alarms: float = Field(gt=0, lt=1)
    curve: tuple[RelevancePoint, ...]
    golden: tuple[RelevanceAnswer, ...]


class LicenceEntry(BaseModel, frozen=True, extra="forbid"):
    """Licence of the weights: the answer for each use, with its source.

    `sentence`: required text, word for word; `asks`: other duties of those who pass the weights on; `files`: the texts
    and the notice, in LICENSES/.
    """

    name: Name
    spdx: Name | None = None
    research: Answer
    redistribution: Answer
    product: Answer
    sentence: Prose | None = None
    asks: tuple[Prose, ...] = ()
    files: tuple[AttachmentEntry, ...]

    def uses(self) -> dict[LicenceUse, Answer]:
        """Returns every use with its answer."""
        return {"research": self.research, "redistribution": self.redistribution, "product": self.product}


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """Content of manifest.json. The same for the same checkpoint, options and versions.

    `embedding_space`: embeddings of different ids must not be compared. `layout`: names of files and tensors, and files
    next to them, if an app's were requested; None for the target's own. `joint`: the file of both towers together, if
    requested; a tower whose `function` names it is in that file alone. `axes`: the file of the axes that both
    projections were cut to; `checkpoint.compacted` describes them. `licence`: None in bundles of earlier versions.
    `int8_scale`: of the embedding space, to store its embeddings as int8: an integer times this is a component of a
    unit vector. None in earlier versions, and if no picture gets an embedding. `logit_bias`: of a model trained with a
    sigmoid for each pair, whose score is sigmoid(`logit_scale` * cosine + `logit_bias`). None for one trained with a
    softmax of `logit_scale` * cosine over all labels. `tokenizer`: None in bundles of variants without a
    text tower, which version 0.4.0 had. `measurements`: the file of one machine's measurements. Schema version 1 had
    the checks in the manifest itself, as `parity`.
    """

    schema_version: Literal[1, 2] = 2
    variant: Name
    embedding_space: Name
    checkpoint: Provenance
    target: Name
    options: dict[Name, LongPath] = {}
    layout: Layout | None = None
    towers: dict[TowerName, TowerEntry] = Field(min_length=1)
    joint: AttachmentEntry | None = None
    classifier: ClassifierEntry | None = None
    rounding: RoundingEntry | None = None
    axes: AttachmentEntry | None = None
    relevance: RelevanceEntry | None = None
    licence: LicenceEntry | None = None
    embed_dim: int
    int8_scale: PositiveFloat | None = None
    logit_scale: Annotated[float, Field(ge=0, le=LARGEST)]
    logit_bias: Annotated[float, Field(ge=-LARGEST, le=LARGEST)] | None = None
    template: Template
    tokenizer: TokenizerSpec | None = None
    preprocess: PreprocessEntry
    measurements: Literal["parity.json"] | None = None
    parity: tuple[Check, ...] = ()
    environment: dict[PackageName, Version]

    @model_validator(mode="after")
    def _axes_and_what_they_are(self) -> Manifest:
        if (self.axes is None) != (self.checkpoint.compacted is None):
            raise ValueError("`axes` and `checkpoint.compacted` need each other: both describe smaller embeddings")
        return self

    @property
    def gates(self) -> Gates:
        """Gates that the bundle was exported with, from its recorded options."""
        return exported_gates(self.options)

    @property
    def scores(self) -> Scores:
        """Conversion of cosines to scores."""
        return Scores(self.logit_scale, self.logit_bias)

    @property
    def tokens(self) -> TokenizerSpec:
        """Tokenizer of the text tower.

        Raises:
            UsageError: the variant has no text tower.
        """
        if self.tokenizer is None:
            raise UsageError(f"{self.variant} has no text tower")
        return self.tokenizer

    @property
    def context_length(self) -> int:
        """Number of tokens per text; 0 without a text tower."""
        return 0 if self.tokenizer is None else self.tokenizer.context_length

    @property
    def attached_files(self) -> Iterator[AttachmentEntry]:
        """Every file next to the artifacts whose hash is recorded."""
        for entry in self.towers.values():
            yield from (entry.attachments or {}).values()
        rounding, relevance = self.rounding, self.relevance
        tags = self.classifier.tags if self.classifier else None
        entries = (
            self.joint,
            rounding.floats if rounding else None,
            self.axes,
            relevance.file if relevance else None,
            tags.file if tags else None,
        )
        yield from (entry_or_none for entry_or_none in entries if entry_or_none is not None)
        yield from () if self.licence is None else self.licence.files

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        return self.model_dump(mode="json", exclude_none=True, exclude=None if self.parity else {"parity"})

    def to_json(self) -> str:
        """Returns stable text: the same manifest gives the same bytes."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"


MEASUREMENTS: Literal["parity.json"] = "parity.json"


class Measurements(BaseModel, frozen=True, extra="forbid"):
    """Checks of a bundle with their figures, and the machine that measured them.

    torch's number of `threads`, the `processor` and the instruction set (`capability`) decide the last bits of a
    figure. `floor` is the noise floor of each tower (see `ParityReport`).
    """

    schema_version: Literal[1] = 1
    threads: int
    processor: Name
    capability: Name
    environment: dict[PackageName, Version]
    floor: dict[Name, float]
    checks: tuple[Check, ...]

    def to_json(self) -> str:
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def processor_name() -> str:
    """Returns the name of this machine's processor; on Linux `platform` only knows the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
