"""A layout as a value: an app's requirements on a bundle. Those of this package are in `data/`, one JSON file each."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from mobileclip_deploy.base.files.names import Name, PlainPath, PlainText, plain_path
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.tokenizer import TokenizerFile
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, Variant

ArtifactName = Literal["image", "text", "classifier"]
ARTIFACTS: tuple[ArtifactName, ...] = ("image", "text", "classifier")

PLACEHOLDER = re.compile(r"\{(\w+)\}")
ANY = {"variant": "variant", "precision": "precision"}
IN_NAMES = {*ANY, "suffix"}
# Files that an export writes into every bundle, in lower case, for disks that ignore case.
OWN = {
    *(
        "manifest.json",
        "parity.json",
        "golden.safetensors",
        "rounding.safetensors",
        "relevance.safetensors",
        "model_card.md",
    ),
    *("smallest.json", "smallest.svg", "preprocessor_config.json", "tokenizer"),
}
DEEPEST = 50
"""Limit of nested objects and lists in a side file's content."""

Precision = Annotated[str, Field(pattern=r"^[a-z0-9_+-]{1,40}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0.01, le=10)]
Suffix = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{0,40}$")]


class Normalisation(BaseModel, frozen=True, extra="forbid"):
    """Mean and standard deviation that an app applies to pixels in [0, 1], for red, green and blue."""

    mean: tuple[Share, Share, Share]
    std: tuple[Deviation, Deviation, Deviation]

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value of a pixel after it."""
        channels = tuple(zip(self.mean, self.std, strict=True))
        return min(-mean / std for mean, std in channels), max((1 - mean) / std for mean, std in channels)


class TensorLayout(BaseModel, frozen=True, extra="forbid"):
    """An input or output: its name and, for an input, the dtype; the target's own if left out.

    `any_size`: an image as bytes [H, W, 3 or 4], resized, cropped and scaled inside the artifact. `any_length`: ids
    [N, L] of any length, if the target pads them inside the artifact; otherwise ids have the context's length.
    `applied`: the app has already applied this mean and std to the pixels; the artifact undoes it.
    """

    name: PlainText = Field(min_length=1, max_length=200)
    dtype: Literal["float32", "uint8", "int32", "int64"] | None = None
    any_size: bool = False
    any_length: bool = False
    applied: Normalisation | None = None


class ArtifactLayout(BaseModel, frozen=True, extra="forbid"):
    """One artifact. `file`: its path inside the bundle, with the placeholders `{variant}`, `{precision}` and
    `{suffix}`."""

    file: PlainPath
    input: TensorLayout
    output: TensorLayout

    @field_validator("output")
    @classmethod
    def _float32(cls, output: TensorLayout) -> TensorLayout:
        if output.dtype not in (None, "float32"):
            raise ValueError("an output is float32; leave its dtype out")
        return output


class SideFile(BaseModel, frozen=True, extra="forbid"):
    """A file next to the artifacts: one of the tokenizer's, or a JSON object, its `content`.

    A text in `content` that is just `{name}` is replaced by a value of the variant's card (see `values_of`).
    """

    tokenizer: TokenizerFile | None = None
    content: dict[Name, Any] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SideFile:
        if (self.tokenizer is None) == (self.content is None):
            raise ValueError("a file is either `tokenizer` or `content`")
        texts = set()
        for depth, value in _inside(self.content):
            if depth > DEEPEST:
                raise ValueError(f"`content` is nested deeper than {DEEPEST} times")
            texts |= {value} if isinstance(value, str) else set()
        unknown = sorted({match[1] for text in texts if (match := PLACEHOLDER.fullmatch(text))} - VALUES)
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is not known; known: {', '.join(sorted(VALUES))}")
        return self


class Layout(BaseModel, frozen=True, extra="forbid"):
    """Requirements of one app, or one client library, on a bundle.

    `source`: where the app's loading of files is documented. `target`: the format. `default`: True if the target uses
    it without a named layout. `precision`: used if none is requested; the target's default if None. `options`: of the
    target. `normalised`: embeddings leave the artifacts at length 1. `suffixes`: value of `{suffix}` by precision; if
    empty, any precision is allowed. Artifacts that are left out do not exist. `files`: files next to them, by path.
    `needs`: values of the variant that the app has as constants.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._+-]{0,39}$")
    title: PlainText
    source: PlainText = ""
    target: PlainText
    default: bool = False
    precision: PlainText | None = None
    options: dict[PlainText, PlainText | bool] = {}
    normalised: bool = False
    suffixes: dict[Precision, Suffix] = Field({}, max_length=100)
    image: ArtifactLayout | None = None
    text: ArtifactLayout | None = None
    classifier: ArtifactLayout | None = None
    files: dict[PlainPath, SideFile] = Field({}, max_length=200)
    needs: dict[Literal["image_size", "embed_dim"], Annotated[int, Field(ge=1, le=100_000)]] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Layout:
        artifacts = list(self.artifacts.values())
        if not artifacts:
            raise ValueError("it has no image, text or classifier file")
        for name, artifact in self.artifacts.items():
            source = artifact.input
            if artifact.output.any_size or (
                source.any_size and (name == "text" or source.dtype not in (None, "uint8"))
            ):
                raise ValueError(f"`any_size` is for an image input of dtype uint8; {name} sets it")
            if artifact.output.applied or (source.applied and (name == "text" or source.any_size)):
                raise ValueError(f"`applied` is for an image input of pixels; {name} sets it")
            if artifact.output.any_length or (source.any_length and name != "text"):
                raise ValueError(f"`any_length` is for a text input; {name} sets it")
        for artifact in artifacts:
            unknown = sorted(set(PLACEHOLDER.findall(artifact.file)) - IN_NAMES)
            if unknown:
                raise ValueError(f"{{{unknown[0]}}} in {artifact.file}; known: {', '.join(sorted(IN_NAMES))}")
            if "{suffix}" in artifact.file and not self.suffixes:
                raise ValueError(f"{artifact.file} has a suffix, but `suffixes` is empty")
        paths = {
            name: {
                _named(artifact_layout.file, {**ANY, "suffix": suffix}) for suffix in self.suffixes.values() or ("",)
            }
            for name, artifact_layout in self.artifacts.items()
        }
        _apart([*(paths.pop(tower) for tower in self.towers), *({file} for file in self.files)])
        _apart(paths.values())
        return self

    @property
    def pictures(self) -> bool:
        """True if its image tower takes pictures of any size."""
        return self.image is not None and self.image.input.any_size

    @property
    def towers(self) -> tuple[TowerName, ...]:
        """Towers that it has."""
        return tuple(tower for tower in TOWERS if tower in self.artifacts)

    @property
    def artifacts(self) -> dict[ArtifactName, ArtifactLayout]:
        """Artifacts that it has, by name."""
        layouts: dict[ArtifactName, ArtifactLayout | None] = {name: getattr(self, name) for name in ARTIFACTS}
        return {name: artifact for name, artifact in layouts.items() if artifact is not None}

    @property
    def applied(self) -> Normalisation | None:
        """Mean and std that the app has applied to the pixels of its image tower. None if it applies none."""
        return None if self.image is None else self.image.input.applied

    def require_variant(self, variant: Variant) -> None:
        """Refuses a variant that the app cannot load.

        Raises:
            UsageError: it has another image size, or embeddings of another size.
        """
        for name, needed in self.needs.items():
            if (actual := OF_THE_MODEL[name](variant)) != needed:
                raise UsageError(f"the layout {self.name} needs {name} {needed}; {variant.name} has {actual}")

    def artifact(self, name: str) -> ArtifactLayout:
        """Returns the layout of one artifact: a tower, or a classifier.

        Raises:
            UsageError: it has none.
        """
        layouts = {str(key): artifact for key, artifact in self.artifacts.items()}
        if name not in layouts:
            raise UsageError(f"the layout {self.name} has no {name}; it has {', '.join(layouts)}")
        return layouts[name]

    def file(self, variant: Variant, name: str, precision: str) -> str:
        """Returns the path of an artifact inside its bundle.

        Raises:
            UsageError: it has no such artifact, or no name for this precision.
        """
        rest = precision_of(precision).rest  # apps have no name for another precision of the table of words
        if self.suffixes and rest not in self.suffixes:
            raise UsageError(f"the layout {self.name} has no {precision}; it has {', '.join(self.suffixes)}")
        names = {"variant": variant.name, "precision": precision, "suffix": self.suffixes.get(rest, "")}
        try:
            return _named(self.artifact(name).file, names)
        except ValueError as error:
            raise UsageError(f"the layout {self.name}: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON: the content of a layout file."""
        return self.model_dump(mode="json", exclude_none=True)


OF_THE_MODEL: dict[str, Callable[[Variant], Any]] = {
    "variant": operator.attrgetter("name"),
    "title": operator.attrgetter("title"),
    "embed_dim": operator.attrgetter("embed_dim"),
    "image_size": operator.attrgetter("preprocess.size"),
    "interpolation": operator.attrgetter("preprocess.interpolation"),
    "resize_mode": lambda variant: {"shorter_side": "shortest", "squash": "squash"}[variant.preprocess.resize],
}
OF_THE_TEXT: dict[str, Callable[[Variant], Any]] = {
    "text_width": operator.attrgetter("text.width"),
    "text_heads": operator.attrgetter("text.heads"),
    "text_layers": operator.attrgetter("text.depth"),
    **{name: operator.attrgetter(f"tokens.{name}") for name in ("context_length", "vocab_size", "sot", "eot", "pad")},
}
VALUES = OF_THE_MODEL.keys() | OF_THE_TEXT.keys()


def values_of(variant: Variant) -> dict[str, Any]:
    """Returns the values of a side file's placeholders."""
    return {name: read(variant) for name, read in (OF_THE_MODEL | OF_THE_TEXT).items()}


def _inside(content: object, depth: int = 0) -> Iterator[tuple[int, object]]:
    """Yields each value in JSON content with its depth of nesting."""
    yield depth, content
    values = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    for value in values:
        yield from _inside(value, depth + 1)


def _named(template: str, names: Mapping[str, str]) -> str:
    """Returns an artifact's path with its placeholders replaced, checked as a path once more."""
    return plain_path(PLACEHOLDER.sub(lambda found: names[found[1]], template))


def _apart(files: Iterable[set[str]]) -> None:
    """Checks that each file has its own path, whichever of its possible paths it takes.

    A path must not be inside another file's, nor one that every export writes, even on disks that ignore case.
    """
    used: set[tuple[str, ...]] = set()
    for paths in files:
        split = {path: tuple(path.casefold().split("/")) for path in paths}
        for path, parts in split.items():
            if parts[0] in OWN:
                raise ValueError(f"{path} is a reserved file name of bundles; choose another name")
            if any(parts[: len(other)] == other[: len(parts)] for other in used):
                raise ValueError(f"{path} is also the name of another file, or of a folder above it")
        used |= set(split.values())
