"""Specification of a sweep, read from a TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.errors import REASON, InvalidInput, first_problem, reraising, suggestion
from mobileclip_deploy.evaluation.dataset_files import BUILTIN

BYTES = 1 << 18
DOTS = 64
"""Maximum number of dots in a line that is not a comment. tomllib stores every prefix of a dotted key: 20,000 dots took
1.5 GB."""
HUB = "hf:"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.+-]{0,63}$")]
"""Name of a checkpoint or of a set of options, and of its folder."""


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("it is empty; leave it out, or name one")
    return tuple(dict.fromkeys(values))


Names = Annotated[tuple[str, ...], AfterValidator(_some)]


class CheckpointChoice(BaseModel, frozen=True, extra="forbid"):
    """Checkpoint of a sweep, with the options of `export`; the built-in one if all are left out. `file` is relative to
    the specification, or on the hub ("hf:OWNER/NAME"), which requires `variant`. `embedding_size`, with `fit` and
    `captions`, gives the checkpoint smaller embeddings."""

    file: str | None = None
    variant: str | None = None
    download: bool = False
    image_size: int | None = Field(default=None, gt=0)
    preprocess: str | None = None
    embedding_size: int | None = Field(default=None, gt=0)
    fit: str | None = None
    captions: str | None = None


class Specification(BaseModel, frozen=True, extra="forbid"):
    """A sweep. Paths are relative to its file.

    `targets` and `precisions` have the form of `export` ("all", "image=fp16,text=w8"); without precisions each target
    has its default one. `dataset` is for accuracies (when left out, the built-in checkpoint has its own). `calibration`
    is for ranges of activations. `device` is a device of `benchmark`, for latencies.
    """

    version: Literal[1]
    targets: Names
    precisions: Names | None = None
    checkpoints: dict[Name, CheckpointChoice] = {"nano": CheckpointChoice()}
    options: dict[Name, dict[str, str | bool]] = {}
    dataset: str | None = None
    calibration: str | None = None
    device: str | None = None
    protocol: str = "standard"
    quick: bool = False


def read_specification(path: Path) -> Specification:
    """Reads a sweep's file, and makes its paths absolute.

    Raises:
        InvalidInput: the file is missing or not TOML, or a field is unknown, missing or not valid.
    """
    message = f"{path} is not TOML: {REASON}; see docs/sweep.md"
    with reraising(message, tomllib.TOMLDecodeError, RecursionError, ValueError):
        with reraising(f"{path} cannot be read", OSError, UnicodeDecodeError):
            text = read_regular(path, BYTES).decode("utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            if line.count(".") > DOTS and not line.lstrip().startswith("#"):
                raise InvalidInput(f"{path}, line {number}: more than {DOTS} dots; give each value a line of its own")
        content = tomllib.loads(text)
    try:
        specification = Specification.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"{path}: {_in_words(error)}") from error
    folder = path.absolute().parent
    placed: dict[str, Any] = {
        "dataset": _placed(specification.dataset, folder),
        "calibration": _placed(specification.calibration, folder),
    }
    placed["checkpoints"] = {
        name: choice.model_copy(
            update={field: _placed(getattr(choice, field), folder) for field in ("file", "fit", "captions")}
        )
        for name, choice in specification.checkpoints.items()
    }
    if not placed["checkpoints"]:
        raise InvalidInput(f"{path}: field checkpoints is empty; leave it out for the built-in one")
    return specification.model_copy(update=placed)


def _placed(value: str | None, folder: Path) -> str | None:
    return value if value is None or value == BUILTIN or value.startswith(HUB) else str(folder / value)


def _in_words(error: ValidationError) -> str:
    """Returns a message on the first problem, with its field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        inside = len(first["loc"]) > 1
        fields = (CheckpointChoice if inside else Specification).model_fields
        wrong = str(first["loc"][-1])
        return f"unknown field {place}{suggestion(wrong, fields)}; known: {', '.join(fields)}"
    if first["type"] == "missing":
        return f"field {place} is missing; for example `{EXAMPLES.get(place, place)}`"
    return f"field {first_problem(error)}" if place else first_problem(error)


EXAMPLES = {"version": "version = 1", "targets": 'targets = ["onnx", "coreml"]'}
