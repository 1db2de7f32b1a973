"""Trials of recipes: the checkpoint's embeddings with usual mistakes, compared with those that other code computed."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mobileclip_deploy.base.files.arrays import Array, Doubles
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.verify.audit.mistakes import Recipe

CLEAN: Recipe = {}
"""The checkpoint's own network and its usual inputs."""


def distances(first: Array, second: Array) -> Doubles:
    """Returns the distance of the directions of rows [N, ...]: 2 if their sizes differ, 1 for zeros and NaN."""
    if first.shape != second.shape:
        return np.full(len(first), 2.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (at_length_one(rows.reshape(len(rows), -1)) for rows in (first, second))
        return np.nan_to_num(np.linalg.norm(a - b, axis=1), nan=1.0)


def power(first: Array, second: Array) -> float:
    """Returns the power of the difference of directions."""
    return float((distances(first, second) ** 2).sum())


@dataclass(frozen=True)
class Trial:
    """Embeddings `rows` [N, D] next to `ours`, the checkpoint's with the mistakes of a recipe.

    `form`: of a file's inputs and output; None of an app. `others`: further forms that explain the file as well.
    """

    form: Any
    recipe: Recipe
    rows: Array
    ours: Array
    others: tuple[Any, ...] = ()

    @cached_property
    def noise(self) -> float:
        """Power of the difference that remains."""
        return power(self.rows, self.ours)

    @property
    def distance(self) -> float:
        """Largest distance that remains."""
        return float(distances(self.rows, self.ours).max())


def trials(
    observed: Mapping[Any, Array], recipes: Collection[Recipe], embed: Callable[[Recipe], Array | None], say: Progress
) -> Iterator[Trial]:
    """Yields each recipe with the embeddings in each form; none of a recipe that does not fit the inputs."""
    for index, recipe in enumerate(recipes):
        say(f"cause {index + 1} of {len(recipes)}")
        if (ours := embed(recipe)) is not None:
            yield from (Trial(form, recipe, rows, ours) for form, rows in observed.items())
