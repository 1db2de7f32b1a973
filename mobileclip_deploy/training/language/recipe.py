"""The recipe of a text tower for other languages: every number that its result depends on, as YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.training.datacompdr.settings import Beside
from mobileclip_deploy.training.language.parallel import ENGLISH, Filters
from mobileclip_deploy.training.trainer.recipe import Optimisation, read_fields, recipe_of


class TowerRecipe(Optimisation, frozen=True):
    """A text tower distilled over parallel sentences. Paths are relative to the recipe's file.

    `parallel`: tables with one column per language (`read_parallel`). `languages`: those to learn, in addition to
    English. `teacher`: the checkpoint; the built-in one when left out. `held_out`: a table like those, never trained
    on; one English sentence in fifty when left out. `vocabulary`: number of tokens that are learned; `context`: tokens
    of a text. `begin` "teacher": with the layers of the teacher's text tower and the rows of the tokens that both
    vocabularies have; "random": with neither. `form`: a variant with a smaller text tower, whose form is learned; the
    teacher's when left out. `start`: a checkpoint distilled from the same teacher, to continue from, with its
    vocabulary, context and form. `english`: the share of every batch that is English, to keep it. `contrast`: the
    weight of the contrast within the batch, relative to the distance. `temperature`: of the contrast. `negatives`:
    number of further English sentences in it, by their stored embeddings. `longest`, `script`: see `Filters`.
    `english_bound`: percent of the held-out English sentences that must find themselves.
    """

    parallel: tuple[Beside, ...] = Field(min_length=1)
    languages: tuple[str, ...] = Field(min_length=1)
    teacher: Beside | None = None
    held_out: Beside | None = None
    vocabulary: int = Field(default=32_768, gt=514)
    context: int = Field(default=32, gt=3, le=4096)
    start: Beside | None = None
    begin: Literal["teacher", "random"] = "teacher"
    form: str | None = None
    english: float = Field(default=0.15, ge=0, lt=1)
    contrast: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=0.05, gt=0)
    negatives: int = Field(default=1024, ge=0)
    longest: int = Field(default=300, gt=0)
    script: float = Field(default=0.5, ge=0, le=1)
    english_bound: float = Field(default=90.0, ge=0, le=100)

    @field_validator("languages", "parallel", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @property
    def filters(self) -> Filters:
        """Filters of the sentences."""
        return Filters(self.longest, self.script)

    def identity(self) -> dict[str, object]:
        """Returns the settings that decide the result. Left out are the frequency of saving and the paths."""
        return self.model_dump(mode="json", exclude={"checkpoint_every", "parallel", "teacher", "held_out", "start"})


def read_tower_recipe(
    path: Path | None, parallel: Sequence[Path] = (), languages: Sequence[str] = (), teacher: Path | None = None
) -> TowerRecipe:
    """Reads a recipe, or takes its defaults if `path` is None. Other arguments replace the recipe's fields.

    Raises:
        InvalidInput: missing, not YAML, or a field that is unknown, missing or out of range.
        UsageError: neither a recipe nor parallel sentences and languages.
    """
    if path is None and not (parallel and languages):
        raise UsageError("a text tower learns from parallel sentences: give `parallel` and `languages`, or a recipe")
    content = {"version": 1, "steps": 5000, "batch": 256, "learning_rate": 1e-3} if path is None else read_fields(path)
    overrides = {"parallel": [str(file.absolute()) for file in parallel], "languages": list(languages)}
    content |= {name: value for name, value in overrides.items() if value}
    if teacher is not None:
        content["teacher"] = str(teacher.absolute())
    recipe = recipe_of(TowerRecipe, content, path)
    if ENGLISH in recipe.languages:
        raise UsageError(f"`languages` lists languages besides English; leave {ENGLISH} out")
    return recipe
