"""The recipe of a training: every number that its result depends on, as YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.errors import InvalidInput, Malformed, first_problem, problem, reraising, suggestion
from mobileclip_deploy.training.datacompdr.settings import Beside, ShardSettings
from mobileclip_deploy.training.reinforcement.policy import AugmentationPolicy

RECIPE_BYTES, MOST_BRACKETS = 64 << 10, 1000
_R = TypeVar("_R", bound=BaseModel)
# The papers' own runs as fields of a recipe, from apple/ml-mobileclip, training/configs at commit 4144bb1:
# run_datacompdr12m.sh, run_datacompdr1b.sh, run_dfndr12m.sh and run_dfndr2b.sh (`--distill-loss-weights` w0 w1 are
# 1 - `distillation` and `distillation`). They train without an average of the weights.
_V1 = [{"embed_dim": 768, "scale": 100.0}] * 2
_V2 = [{"embed_dim": 768, "scale": 70.0}, {"embed_dim": 768, "scale": 60.0}]
_ALL = {
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 1000,
    "betas": [0.9, 0.95],
    "weight_decay": 0.2,
    "gradient_norm": 1.0,
    "average": 0.0,
    "layer_scale": 1e-5,
    "distillation": 1.0,
    "datacompdr": {"teachers": _V1},
}
_12M = _ALL | {"steps": 30_000, "batch": 8192}
_1B = _ALL | {"steps": 200_000, "batch": 65_536}
PRESETS: dict[str, dict[str, Any]] = {
    "datacompdr-12m": _12M,
    "datacompdr-1b": _1B,
    "datacompdr-1b-vit": _1B | {"distillation": 0.75},
    "dfndr-12m": _12M | {"datacompdr": {"teachers": _V2}},
    "finetune": {
        "distillation": 0.0,
        "steps": 300,
        "batch": 64,
        "learning_rate": 1e-4,
        "average": 0.98,
        "statistics": "frozen",
        "layer_decay": 0.8,
        "patience": 4,
        "evaluate_every": 50,
        "checkpoint_every": 50,
    },
    "dfndr-2b": _1B | {"datacompdr": {"teachers": _V2, "captions": "^syn_text_dfn_mscoco38k$"}},
}
"""Presets. Those of the papers' runs: `datacompdr-1b` is for the S variants, `datacompdr-1b-vit` for ViT-B/16.
`finetune` continues from a checkpoint on few pictures (docs/finetune.md)."""
FINETUNE = "finetune"


class _Fields(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Base that refuses booleans for numbers, since YAML's yes and no would count as 1 and 0."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(
                f"{str(value).lower()} (as YAML reads yes, no, on and off too) is neither a number nor a string"
            )
        return value


class AnchorSettings(_Fields, frozen=True):
    """Settings of a training with one trained vector, an anchor, for each different true caption. `captions`: number of
    a batch's captions that are read (anchors represent the others). `label_smoothing`: of the cross-entropy against
    anchors."""

    captions: int = Field(default=32, gt=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class Optimisation(_Fields, frozen=True):
    """Length, speed and optimizer of a training; see `Recipe`."""

    version: Literal[1]
    steps: int = Field(gt=0)
    batch: int = Field(gt=1)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(default=0.04, gt=0, lt=1)
    warmup_steps: int | None = Field(default=None, gt=0)
    betas: tuple[float, float] | None = None
    weight_decay: float = Field(default=0.05, ge=0)
    gradient_norm: float = Field(default=2.0, gt=0)
    average: float = Field(default=0.995, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    device: str = "cpu"
    checkpoint_every: int = Field(default=100, gt=0)
    evaluate_every: int = Field(default=500, gt=0)


class Recipe(Optimisation, frozen=True):
    """A training of one variant on a reinforced dataset or on plain pairs. Paths are relative to the recipe's file.

    `start` is a checkpoint to continue from. Without it weights are drawn, with layer scales at `layer_scale`. (The
    published 1e-5 is for runs a hundred times longer.) `evaluation` is a dataset to measure recall on; the built-in
    held-out set when left out. `distillation` is the lambda of arXiv 2311.17049. `average` is the decay of the running
    average of the weights, which are measured and written. `learning_rate` is reached after the share `warmup` of all
    `steps` and falls to 0 along a cosine. Plain pairs need `distillation` 0. Their images are augmented at every step
    by the policy `augmentation` (that of `reinforce` when left out). `anchors` is for pairs in which few captions have
    many images each, without teachers. `datacompdr` is for shards as Apple publishes them. `preset` names one of the
    papers' runs, whose fields replace those that the recipe leaves out. With `schedule` "cosine" the rate rises
    linearly over `warmup_steps`, as open_clip's. `accumulate`: number of parts in which a batch passes the towers, for
    devices with little memory; the loss is that of the whole batch. `autocast`: type in which the towers compute.

    For a fine-tune: `statistics` "frozen" keeps the means and variances of BatchNorm as in `start`. `layer_decay` is
    the factor of the learning rate from each layer to the one before it. `patience` is the number of measurements
    without a better recall after which the training stops; the best weights are written. With `patience` and without
    `evaluation` every third picture of `data` is held out. `preprocess`: as for `load`. `template`: caption of a class.
    `lora`: rank of factors that are trained in place of the weights, and merged at the end.
    """

    variant: str
    data: Beside
    preset: str | None = None
    start: Beside | None = None
    evaluation: Beside | None = None
    schedule: Literal["cosine"] | None = None
    distillation: float = Field(default=0.7, ge=0, le=1)
    augmentation: AugmentationPolicy | None = None
    anchors: AnchorSettings | None = None
    datacompdr: ShardSettings | None = None
    layer_scale: float = Field(default=0.3, gt=0)
    accumulate: int | None = Field(default=None, gt=0)
    autocast: Literal["bfloat16"] | None = None
    workers: int = Field(default=0, ge=0)
    statistics: Literal["frozen"] | None = None
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    patience: int | None = Field(default=None, gt=0)
    preprocess: str | None = Field(default=None, max_length=4096)
    template: str | None = Field(default=None, max_length=1000)
    lora: int | None = Field(default=None, gt=0, le=1024)

    @model_validator(mode="after")
    def _anchors_or_teachers(self) -> Recipe:
        if self.anchors is not None and self.distillation > 0:
            raise ValueError("anchors cannot be combined with teachers; set distillation to 0")
        if self.statistics is not None and (self.start is None or self.anchors is not None):
            raise ValueError("frozen statistics need a start, and no anchors; name the checkpoint with start")
        if self.lora is not None and self.start is None:
            raise ValueError("lora needs a start; name the checkpoint with start")
        if self.template is not None and "{}" not in self.template:
            raise ValueError("the template has no {} for the name of the class; write a photo of a {}")
        if self.anchors is not None and (self.accumulate or 1) > 1:
            raise ValueError("anchors cannot be combined with accumulate; leave accumulate out")
        if (self.schedule is None) != (self.warmup_steps is None):
            raise ValueError("schedule and warmup_steps need each other; give both, or leave both out")
        return self

    def identity(self) -> dict[str, object]:
        """Returns the settings that decide the result. Left out are the frequency of saving, the number of loading
        processes and the paths."""
        aside = {"checkpoint_every", "workers", "data", "start", "evaluation", "preset"}
        fields = self.model_dump(mode="json", exclude=aside)
        if self.datacompdr is not None:
            fields["datacompdr"].pop("images")
        return fields


EXAMPLES = {
    "version": "1",
    "variant": "nano",
    "data": "photos/",
    "start": "mobileclip_s0.pt",
    "evaluation": "held_out/",
    "steps": "2000",
    "batch": "64",
    "learning_rate": "0.001",
    "augmentation": "{scale: [0.5, 1.0], mirror: 0.5}",
    "anchors": "{captions: 32, label_smoothing: 0.1}",
    "datacompdr": "{images: DataComp-12M/shards}",
    "schedule": "cosine",
    "warmup_steps": "1000",
    "betas": "[0.9, 0.95]",
    "accumulate": "4",
    "autocast": "bfloat16",
    "device": "cuda",
    "parallel": "[pairs.tsv]",
    "languages": "[de, fr]",
    "teacher": "mobileclip_s0.pt",
    "held_out": "held_out.tsv",
    "statistics": "frozen",
    "layer_decay": "0.8",
    "patience": "4",
    "lora": "8",
    "preprocess": "openai",
    "template": "a photo of a {}",
}
"""Examples of fields; a field without one here has a default, which is its example."""


def _in_words(error: ValidationError, recipe: type[BaseModel]) -> str:
    """Returns a message about the first problem of a recipe: the field, its problem and an example."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        more = " `steps: 2000`" if first["type"] == "model_type" else ""
        return f"a recipe has one `field: value` per line, such as{more}" if more else first_problem(error)
    name = str(first["loc"][0])
    models: dict[str, type[BaseModel]] = {
        "augmentation": AugmentationPolicy,
        "anchors": AnchorSettings,
        "datacompdr": ShardSettings,
    }
    if first["type"] == "extra_forbidden":
        allowed = (models[name] if len(first["loc"]) > 1 else recipe).model_fields
        wrong = str(first["loc"][-1])
        prefix = f"{name}." if len(first["loc"]) > 1 else ""
        return f"unknown field {prefix}{wrong}{suggestion(wrong, allowed)}; known: {', '.join(allowed)}"
    field = recipe.model_fields.get(name)
    example = EXAMPLES.get(name) or (None if field is None else json.dumps(field.default))
    full, bound = ".".join(map(str, first["loc"])), BOUNDS.get(first["type"])
    if bound is not None:
        value = json.dumps(first["input"], ensure_ascii=False, default=str)[:60]
        return f"{full} is {value}; it must be {bound.format(**first.get('ctx', {}))}"
    complaint = " is missing" if first["type"] == "missing" else f": {problem(first)}"
    return f"{full}{complaint}; for example `{name}: {example}`"


BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
}
"""Types of pydantic's errors about a single value, and the values that the field takes."""


class _Once(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Loader that refuses a field that is given twice; YAML's own loaders keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise Malformed(f"{key.value} is given twice, again in line {line}")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_fields(path: Path) -> Any:
    """Reads a recipe's file. Checks only that it is YAML of a recipe's size.

    Raises:
        InvalidInput: missing, or not YAML.
    """
    with reraising(f"{path} is not YAML", yaml.YAMLError, ValueError, RecursionError):
        with reraising(f"{path} cannot be read", OSError, UnicodeDecodeError):
            text = read_regular(path, RECIPE_BYTES).decode("utf-8")
        if text.count("[") + text.count("{") > MOST_BRACKETS:  # the scanner's time grows with their square
            raise InvalidInput(f"{path} is nested too deeply for a recipe")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):  # a few expand to billions of items
            raise InvalidInput(f"{path} refers back to itself (*name), which a recipe does not need; write it out")
        return yaml.load(text, _Once)


def read_recipe(path: Path, data: Path | None = None, images: Path | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        data: replaces the recipe's `data`.
        images: replaces the recipe's `datacompdr.images`.

    Raises:
        InvalidInput: missing, not YAML, or a field that is unknown, missing or out of range.
    """
    content: Any = read_fields(path)
    if isinstance(content, dict):
        content = _with_preset(content, path)
        if data is not None:
            content["data"] = str(data.absolute())
        settings = content.get("datacompdr") or {}
        if images is not None and isinstance(settings, dict):
            content["datacompdr"] = settings | {"images": str(images.absolute())}
    return recipe_of(Recipe, content, path)


def finetune_recipe(variant: str, start: Path, data: Path, held_out: Path | None, preprocess: str | None) -> Recipe:
    """Returns the preset `finetune` for a checkpoint and pictures.

    Raises:
        InvalidInput: a value is out of range.
    """
    fields = {"preset": FINETUNE, "variant": variant, "start": start, "data": data}
    fields |= {"evaluation": held_out, "preprocess": preprocess}
    return recipe_of(Recipe, {"version": 1} | PRESETS[FINETUNE] | fields, None)


def recipe_of(kind: type[_R], content: Any, path: Path | None) -> _R:
    """Validates the fields of a recipe, from a file or, if `path` is None, from options.

    Raises:
        InvalidInput: a field is unknown, missing or out of range.
    """
    try:
        return kind.model_validate(content, context={"folder": Path() if path is None else path.parent})
    except ValidationError as error:
        raise InvalidInput(f"{path or 'the options'}: {_in_words(error, kind)}") from error


def _with_preset(content: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """Returns the fields of a recipe merged over those of the preset that it names."""
    name = content.get("preset")
    if name is None:
        return dict(content)
    if not isinstance(name, str) or name not in PRESETS:
        presets = ", ".join(PRESETS)
        raise InvalidInput(
            f"{path}: unknown preset {str(name)[:40]!r}{suggestion(str(name), PRESETS)}; known: {presets}"
        )
    merged = PRESETS[name] | content
    for field, value in PRESETS[name].items():
        if isinstance(value, dict) and isinstance(content.get(field), dict):
            merged[field] = value | content[field]
    return merged
