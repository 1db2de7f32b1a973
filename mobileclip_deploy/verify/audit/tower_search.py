"""Search for the convention of a file's inputs and for the mistake that explains a difference, by its embeddings."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.network.embedding import embed, embed_exactly
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.verify.audit.conventions import Convention, ImageConvention, Roles, TextConvention
from mobileclip_deploy.verify.audit.mistakes import Mistake, Recipe, image_mistakes, network_input
from mobileclip_deploy.verify.audit.network_mistakes import block_changes, changed, network_changes
from mobileclip_deploy.verify.audit.opening import OpenedFile, Port, Stopped
from mobileclip_deploy.verify.audit.trials import CLEAN, Trial, distances, power, trials

FEW, HOPELESS = 2, 1.25**2
"""Inputs that are embedded in float64 for the noise floor, and by every changed network for `partly`; and the share of
power on them that rules a cause out: one of 1.06^2 on two inputs was 0.96^2 on all."""
EXPLAINED = 0.25**2
"""Largest share of the power that may remain of a network with a mistake, which makes it the cause."""
PARTLY = 0.85**2
"""The same for a difference within the bound. In clean files at int8: 0.996^2 or more of nano, 0.88^2 of S0 with drawn
weights. In nano's with QuickGELU: 0.80^2 (tests/verify/audit)."""
ALIKE, LEAST = 1.5**2, 1e-12
"""Ratio of powers up to which another form explains a file as well; and power of a row up to which any ratio does."""
TRIED = 16
"""Best trials that are confirmed on all inputs, at most."""
LARGEST = 1 << 16
"""Elements of the largest output that may be the embedding; a ViT-B/16's hidden state has 151,296."""
NEAR = 1e-3
"""Distance up to which single blocks are not tried: float16's rounding."""


@dataclass(frozen=True)
class TowerSearch:
    """Search for one tower of a file. A form is a convention and the index of an output.

    Attributes:
        usual: a convention of each tower of the file, for the inputs of the other one.
        inputs: of both towers.
        conventions: those to try.
        ran: results on all inputs by convention.
    """

    file: OpenedFile
    roles: Roles
    usual: dict[TowerName, Convention]
    model: MobileCLIP
    tower: TowerName
    inputs: Inputs
    conventions: Sequence[Convention]
    progress: Progress
    ran: dict[Convention, list[Array]] = field(default_factory=dict)

    def run(self, convention: Convention, count: int | None = None) -> list[Array]:
        """Returns each output's vectors [N, D] for the first inputs of the tower. Each input runs alone.

        Raises:
            RuntimeFailed: the runtime refuses the convention.
        """
        values = self.inputs.of(self.tower)[:count]
        rows = [self._one(convention, values[index : index + 1]) for index in range(len(values))]
        return [np.stack(each) for each in zip(*rows, strict=True)]

    def _one(self, convention: Convention, row: Array) -> list[Array]:
        results, batch = self.file.call(self._fed(convention, row)), max(1, self.batch)
        return [np.ravel(result[0] if result.ndim and len(result) == batch else result) for result in results]

    @property
    def batch(self) -> int:
        """Rows that the tower's input takes at once: 0 if any number."""
        index, rank = (self.roles.image, 4) if self.tower == "image" else (self.roles.ids, 2)
        assert index is not None
        shape = self.file.inputs[index].shape
        return shape[0] if len(shape) == rank else 1

    def together(self, convention: Convention, rows: Sequence[int], others: Sequence[int] = (0,)) -> list[Array]:
        """Returns each output for a batch of the tower's inputs, by index, next to a batch of the other tower's.

        Raises:
            RuntimeFailed: the runtime refuses the batch.
        """
        return self.file.call(self._fed(convention, self.inputs.of(self.tower)[list(rows)], others))

    def _fed(self, convention: Convention, rows: Array, others: Sequence[int] = (0,)) -> list[Array]:
        values: dict[int | None, Array] = {}  # those of an absent input have the key None
        for tower, each in (self.usual | {self.tower: convention}).items():
            some: Array = rows if tower == self.tower else self.inputs.of(tower)[list(others)]
            if isinstance(each, ImageConvention):
                values[self.roles.image] = each.values(some)
            else:
                values[self.roles.ids], values[self.roles.mask] = each.values(some, self.model.variant.tokens)
                values[self.roles.positions] = np.tile(np.arange(each.length), (len(some), 1))
        return [_of_port(values[index].astype(port.dtype), port) for index, port in enumerate(self.file.inputs)]

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """Mistakes to try, each in all blocks at once."""
        variant, network = self.model.variant, getattr(self.model, self.tower)
        if self.tower == "image":
            inputs = (mistake for mistake in image_mistakes(variant.preprocess) if mistake.name)
            return [*network_changes(network, 0, 0), *inputs]
        (context,) = {each.length for each in self.conventions if isinstance(each, TextConvention)}
        return list(network_changes(network, variant.tokens.eot, context))

    @torch.no_grad()
    def embed(self, recipe: Recipe, count: int | None = None) -> Array | None:
        """Returns the checkpoint's embeddings [N, D] of the first inputs. None if a mistake does not fit."""
        values: Array = self.inputs.of(self.tower)[:count]
        compute = self.model.encode_text if self.tower == "text" else self.model.encode_image
        if self.tower == "image":
            spec = self.model.variant.preprocess
            values = np.stack([network_input(row.transpose(1, 2, 0), spec, recipe) for row in values])
        with changed(recipe):
            try:
                return torch.cat([compute(row) for row in torch.from_numpy(values).split(1)]).numpy()
            except (RuntimeError, IndexError):  # sizes that do not fit
                return None

    @cached_property
    def floor(self) -> float:
        """Largest distance that rounding alone explains."""
        some = self.inputs.some(self.tower, np.arange(FEW))
        rounded = distances(embed(self.model, self.tower, some), embed_exactly(self.model, self.tower, some))
        return Gates().exact(float(rounded.max())).value

    @cached_property
    def clean(self) -> Array:
        """Embeddings [N, D] of the checkpoint's own network."""
        expected = self.embed(CLEAN)
        assert expected is not None
        return expected

    def search(self) -> Trial:
        """Returns the form and the mistake that explain the file best: the checkpoint's own network unless a mistake
        explains much more.

        Raises:
            NotRun: the runtime refused every convention.
            InvalidInput: no output may be an embedding.
            Stopped: the runtime died or exceeded a limit.
        """
        observed: dict[tuple[Convention, int], Array] = {}
        refusal = ""
        for index, convention in enumerate(self.conventions):
            self.progress(f"{self.tower}: convention {index + 1} of {len(self.conventions)}")
            try:
                outputs = self.run(convention, 1)
            except Stopped:
                raise
            except RuntimeFailed as error:
                refusal = str(error)
                continue
            observed |= {(convention, index): x for index, x in enumerate(outputs) if x.shape[1] <= LARGEST}
        if not observed and refusal:
            raise NotRun(refusal)
        if not observed:
            raise InvalidInput(f"{self.file.path}: its outputs are too large for embeddings; give a tower's file")
        plain = self._confirmed(self._trials(observed, [CLEAN]))
        assert plain is not None
        tiers: Iterable[Iterable[Mistake]] = (self.mistakes, block_changes(getattr(self.model, self.tower)))
        for mistakes, near in zip(tiers, (self.floor, NEAR), strict=True):
            if plain.distance <= near:
                break
            recipes = [{mistake.stage: mistake} for mistake in mistakes]
            if (best := self._confirmed(self._trials(observed, recipes), EXPLAINED * plain.noise)) is not None:
                return best
        return plain

    def partly(self, plain: Trial) -> Trial | None:
        """Returns the mistake that explains the most of a difference within the bound. None if rounding explains it."""
        recipes: list[Recipe] = [{mistake.stage: mistake} for mistake in self.mistakes if not mistake.forms]
        most = HOPELESS * power(plain.rows[:FEW], self.clean[:FEW])
        some = self._trials({plain.form: plain.rows[:FEW]}, recipes, FEW)
        hopeful = [trial for trial in some if trial.noise <= most]
        return self._confirmed(hopeful, PARTLY * power(plain.rows, self.clean), len(hopeful))

    def _trials(self, observed: dict[Any, Array], recipes: Sequence[Recipe], count: int = 1) -> list[Trial]:
        every = trials(observed, recipes, lambda recipe: self.embed(recipe, count), self.progress)
        return [trial for trial in every if _fits(trial.recipe, trial.form[0])]

    def _confirmed(self, some: Iterable[Trial], limit: float = math.inf, most: int = TRIED) -> Trial | None:
        """Returns the best of the first trials on all inputs. None if more than `limit` remains of all of them."""
        best: list[Trial] = []
        ours: dict[int, Array | None] = {}
        for trial in sorted(some, key=lambda trial: trial.noise)[:most]:
            # What remains on all inputs is at least what remains on the first.
            if trial.noise > max(ALIKE * min([limit, *(each.noise for each in best)]), LEAST):
                break
            self.progress(f"{self.tower}: on all inputs")
            key, (convention, output) = id(trial.recipe), trial.form
            if convention not in self.ran:
                self.ran[convention] = self.run(convention)
            ours[key] = whole = ours[key] if key in ours else self.embed(trial.recipe)
            if whole is not None:
                best.append(replace(trial, rows=self.ran[convention][output], ours=whole))
        first = min(best, key=lambda trial: trial.noise, default=None)
        if first is None or first.noise > limit:
            return None
        enough = max(ALIKE * first.noise, LEAST * len(first.rows))
        alike = [trial.form[0] for trial in best if trial.recipe is first.recipe and trial.noise <= enough]
        return replace(first, others=tuple(each for each in dict.fromkeys(alike) if each != first.form[0]))


def _of_port(value: Array, port: Port) -> Array:
    """Returns rows as an input takes them: one row without a batch, or repeated if the batch is fixed."""
    if value.ndim == len(port.shape) + 1:
        return value[0]
    if len(value) == 1 < port.shape[0]:
        return np.repeat(value, port.shape[0], axis=0)
    return value[:1] if port.shape[0] == 1 else value


def _fits(recipe: Recipe, convention: Convention) -> bool:
    """Returns whether a recipe is tried with a convention. Texts without their end token are pooled at the first one,
    which would explain any file."""
    if isinstance(convention, TextConvention):
        return not recipe or (convention.start and convention.end)
    return all(not mistake.forms or convention.encoding.name in mistake.forms for mistake in recipe.values())
