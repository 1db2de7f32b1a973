"""What a bundle says of itself: manifest.json has everything that a later step needs to know; parity.json what one
machine measured, apart from what is the same on every machine."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PositiveFloat, field_validator, model_validator

from mobileclip_deploy.artifacts.layouts import Layout
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.base.files.names import LongPath, Name, PackageName, PlainPath, Prose, Sha256, Version
from mobileclip_deploy.network.model.licences import Answer, LicenceUse
from mobileclip_deploy.network.model.precision import is_precision
from mobileclip_deploy.network.model.prompts import Labels, Template
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.scores import LARGEST, Scores
from mobileclip_deploy.network.model.variants import Preprocess, TokenizerSpec, TowerName, no_text_tower
from mobileclip_deploy.parity import Check, Gates, ParityReport
from mobileclip_deploy.parity.gates import exported_gates

MANIFEST = "manifest.json"


class TensorEntry(BaseModel, frozen=True, extra="forbid"):
    """An artifact's input or output. A dimension of 0 is free."""

    name: Name
    dtype: Name
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None
    colour: Name | None = None
    normalised: bool | None = None

    @property
    def any_size(self) -> bool:
        """Whether it is one picture of any size, as bytes [H, W, C]."""
        return self.dtype == "uint8" and self.shape == (0, 0, 0)

    @classmethod
    def of(cls, info: object) -> Self:
        """Entry with what a target says of a tensor (`targets.TensorInfo`)."""
        return cls(**vars(info))


class AttachmentEntry(BaseModel, frozen=True, extra="forbid"):
    """A file beside an artifact. `tolerance`: by how much one value of an output may differ from those in the file."""

    file: PlainPath
    sha256: Sha256
    bytes: int
    tolerance: float | None = None

    @classmethod
    def of(cls, path: Path, folder: Path, tolerance: float | None = None) -> Self:
        """Entry of a file in a bundle's folder."""
        file = path.relative_to(folder).as_posix()
        return cls(file=file, sha256=artifact_sha256(path), bytes=artifact_bytes(path), tolerance=tolerance)


class TowerEntry(BaseModel, frozen=True, extra="forbid"):
    """One artifact: `file` is relative to the bundle; a package's bytes and hash are those of the files in it.

    `function`: of the file, where it holds several (a Core ML package of both towers); its bytes and hash are then
    those of the whole file, in both entries. `contexts`: the lengths in tokens that a text tower takes, the longest
    last, where there are several: a prompt that fits has the same embedding at each. `contents`: delegates, operators
    outside of them and bytes by kind, for targets that tell. `attachments`: what was asked for beside the artifact, by
    kind (`bundled_program`, `etrecord`).
    """

    file: PlainPath
    function: Name | None = None
    sha256: Sha256
    bytes: int
    precision: Name
    input: TensorEntry
    output: TensorEntry
    contexts: tuple[int, ...] | None = None
    contents: dict[Name, dict[Name, int]] | None = None
    attachments: dict[Name, AttachmentEntry] | None = None

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, name: str) -> str:
        if not is_precision(name):
            raise ValueError(f"this version does not know the precision {name!r}")
        return name


class PreprocessEntry(Preprocess, frozen=True):
    """The variant's preprocessing, and where mean and std are applied: inside the graph."""

    where: Literal["graph"] = "graph"


class ClassifierEntry(BaseModel, frozen=True, extra="forbid"):
    """What a classifier tells apart, in the order of its probabilities; its bundle holds no text tower. `template`: of
    the prompts that stand for the labels; None where they are the classes that the network itself was trained on."""

    labels: Labels = Field(min_length=2)
    template: Template | None = None


class RoundedTowerEntry(BaseModel, frozen=True, extra="forbid"):
    """A tower whose rounding was learned, by `method`: as asked for, or a simpler one that came nearer. `layers`: of
    each such layer's weight the SHA-256 of its numbers as the artifact holds them, dequantized, float32. `nearest_db`,
    `learned_db`: how near the tower is to its float original, centred SNR on inputs that were not learned from, rounded
    to the nearest and as it is."""

    method: Name
    layers: dict[Name, Sha256]
    nearest_db: float
    learned_db: float


class RoundingEntry(BaseModel, frozen=True, extra="forbid"):
    """How weights were put on their grids where it was not to the nearest: `method`, on what it was learned (folder,
    SHA-256, pictures, captions), and `floats`, the file with what else was learned: biases. Towers that are not here
    are rounded to the nearest."""

    method: Name
    calibration: LongPath
    calibration_sha256: Sha256
    images: int
    captions: int
    floats: AttachmentEntry
    towers: dict[TowerName, RoundedTowerEntry]


class RelevancePoint(BaseModel, frozen=True, extra="forbid"):
    """What the threshold does in a library of `size` pictures, as shares of queries from 0 to 1.

    Attributes:
        left_out, nonsense: false alarms among queries whose picture is not in the library, and among texts that fit
            none; None where there were none.
        missed: queries whose picture is there and that are told "nothing found"; None without `queries`, as all below.
        auc_left_out, auc_nonsense: area under the ROC curve against either; `cosine_...`: that of the bare cosine.
        roc: false alarms, of both kinds together, and what is found at them.
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
    """What a client computes for one golden prompt: the mean and spread of its scores over the background, and the
    cosine that a match needs in a library of 1,000 pictures."""

    mean: float
    spread: float
    needed: float


class RelevanceEntry(BaseModel, frozen=True, extra="forbid"):
    """From when on a match counts (docs/search.md): a text t of length 1 needs the cosine `intercept + slope ln(n) -
    weights . t - spread s` in a library of n pictures, s the standard deviation of its scores over the background.

    Attributes:
        file: .safetensors: `background` int8 [K, D], an integer times `scale` is a component; `weights` float32 [D].
        background: name of the pictures' folder; `images`: how many; `images_sha256`: of their contents.
        queries: captions with their own pictures that it was learned from; None: only `false_alarms` were looked at,
            `weights` and `spread` are 0, and what is missed is not known.
        false_alarms: share of queries without a picture that the threshold lets pass, as it was aimed at.
        curve: what it does, on captions that it was not learned from.
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
    """The licence of the weights: whether each use is allowed, in whose words; `sentence`: what has to be said, word
    for word; `asks`: what else whoever passes them on has to do; `files`: the texts and the notice, in LICENSES/."""

    name: Name
    spdx: Name | None = None
    research: Answer
    redistribution: Answer
    product: Answer
    sentence: Prose | None = None
    asks: tuple[Prose, ...] = ()
    files: tuple[AttachmentEntry, ...]

    def uses(self) -> dict[LicenceUse, Answer]:
        """Every use with its answer."""
        return {"research": self.research, "redistribution": self.redistribution, "product": self.product}


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """manifest.json. `embedding_space`: embeddings of different ids must not be compared.

    `layout`: how files and tensors are called and what stands beside them, where an app's names were asked for; None
    for the target's own. `axes`: the file of the axes that both projections were cut to, which `checkpoint.compacted`
    tells of. `licence`: None of bundles of before it was recorded. `int8_scale`: of the embedding space, for whoever
    stores its embeddings as int8: an integer times this is a component of a unit vector; None of earlier versions, and
    where no picture gets an embedding. `logit_bias`: of a model that was trained with a sigmoid for each pair, whose
    score is sigmoid(`logit_scale` * cosine + `logit_bias`); None of one that was trained with a softmax of
    `logit_scale` * cosine over all labels. `tokenizer`: None of a variant without a text tower. `measurements`: the
    file with what one machine measured of the bundle; all else here is the same for the same checkpoint, options and
    versions. Schema version 1 had the checks in the manifest itself, as `parity`.
    """

    schema_version: Literal[1, 2] = 2
    variant: Name
    embedding_space: Name
    checkpoint: Provenance
    target: Name
    options: dict[Name, LongPath] = {}
    layout: Layout | None = None
    towers: dict[TowerName, TowerEntry] = Field(min_length=1)
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
            raise ValueError("`axes` and `checkpoint.compacted` go together: both are of smaller embeddings")
        return self

    @property
    def gates(self) -> Gates:
        """Gates that the bundle was exported with, by its recorded options."""
        return exported_gates(self.options)

    @property
    def scores(self) -> Scores:
        """What makes scores of cosines."""
        return Scores(self.logit_scale, self.logit_bias)

    @property
    def tokens(self) -> TokenizerSpec:
        """What the text tower is asked with.

        Raises:
            UsageError: the variant has no text tower.
        """
        if self.tokenizer is None:
            raise no_text_tower(self.variant)
        return self.tokenizer

    @property
    def context_length(self) -> int:
        """Number of tokens per text; 0 where no texts are taken."""
        return 0 if self.tokenizer is None else self.tokenizer.context_length

    @property
    def beside(self) -> Iterator[AttachmentEntry]:
        """Every file beside the artifacts that it has a hash of."""
        for entry in self.towers.values():
            yield from (entry.attachments or {}).values()
        rounding, relevance = self.rounding, self.relevance
        found = (rounding.floats if rounding else None, self.axes, relevance.file if relevance else None)
        yield from (one for one in found if one is not None)
        yield from () if self.licence is None else self.licence.files

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json", exclude_none=True, exclude=None if self.parity else {"parity"})

    def to_json(self) -> str:
        """Stable text: the same manifest gives the same bytes."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"


MEASUREMENTS: Literal["parity.json"] = "parity.json"


class Measurements(BaseModel, frozen=True, extra="forbid"):
    """The checks of a bundle with their figures, and where they were taken.

    `threads` that torch used, `processor` and the instruction set (`capability`) decide the last bits of a figure;
    `floor` is the noise floor of each tower (see `ParityReport`).
    """

    schema_version: Literal[1] = 1
    threads: int
    processor: Name
    capability: Name
    environment: dict[PackageName, Version]
    floor: dict[Name, float]
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, report: ParityReport, environment: dict[str, str]) -> Measurements:
        """What was measured here just now. `environment`: versions of packages."""
        import torch  # not where a bundle is merely opened: a damaged one is refused at once

        return cls(
            threads=torch.get_num_threads(),
            processor=processor_name(),
            capability=torch.backends.cpu.get_cpu_capability(),
            environment=environment,
            floor=report.floor,
            checks=report.checks,
        )

    def to_json(self) -> str:
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def processor_name() -> str:
    """What this machine's processor is called; on Linux `platform` knows the architecture alone."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
