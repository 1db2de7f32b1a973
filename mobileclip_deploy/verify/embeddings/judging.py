"""`verify_embeddings`: the search for the mistake that explains an app's embeddings, and the verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel

from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.files.arrays import Array, Doubles
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.inputs import BATCH, embed_exactly, sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.gates import SCALE, Gates, passes
from mobileclip_deploy.parity.metrics import Deviation, compare
from mobileclip_deploy.parity.reference import EXACT
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.pictures.image_listing import ImageListing
from mobileclip_deploy.pictures.text_files import BadRows, read_lines, read_texts
from mobileclip_deploy.verify.embeddings import causes
from mobileclip_deploy.verify.embeddings.causes import Recipe, Stages
from mobileclip_deploy.verify.embeddings.reading import AppEmbeddings, read_embeddings, rows_of_names

Precision = Literal["fp32", "fp16", "w8", "w4"]
LOSSES: dict[Precision, str] = {
    "fp32": "within float32 arithmetic",
    "fp16": "at the loss of 16-bit floats",
    "w8": "at the loss of 8-bit weights",
    "w4": "at the loss of 4-bit weights",
}
TRIED, CONFIRMED = 6, 64
"""Inputs on which causes are tried, and on which the cause is confirmed."""
GAIN = 2.0
"""A cause halves the power of the deviation, or it explains nothing. On nano's clean ONNX bundles at w8 and w4, with 16
photographs, each cause raised the deviation, by 1.6 dB or more (`tests/foreign/app_mistakes.py --bundle`)."""
CERTAIN = 10.0
"""The same for mistakes of all rows together, which leave only rounding."""
BEAM, DEPTH = 3, 3
"""Causes that are combined with others, and most causes together."""
MOST_ORDERED = 4096
"""Rows whose order is searched, in a matrix of all pairs."""
UNIT = 0.02
"""Deviation of a length from 1 that rounding explains."""


class TriedCause(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """A cause alone, and the remaining deviation with it. `visible`: False if it changes none of the inputs."""

    stage: str
    cause: str
    visible: bool
    cosine: float
    snr_db: float | None


class EmbeddingsReport(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """Verdict on an app's embeddings. `precision`: the tightest bound that holds, after the causes; None: none holds.
    `lengths`: as the checkpoint's; each 1; or others. `deviation`: of the rows as they are; `remaining`: with the
    causes. `causes`: of one difference, each necessary; empty if it has none, or no usual one. `bound`: relative
    deviation of float32 arithmetic, from the checkpoint's noise floor."""

    schema_version: Literal[1] = 1
    embeddings: str
    variant: str
    tower: TowerName
    rows: int
    verdict: Literal["same", "differs"]
    sentence: str
    causes: tuple[str, ...]
    precision: Precision | None
    lengths: Literal["as the checkpoint's", "1", "others"]
    bound: float
    deviation: Deviation | None
    remaining: Deviation | None
    tried: tuple[TriedCause, ...]


@dataclass
class _Inputs:
    """Inputs of one tower, and how they are made with the causes of a recipe."""

    model: MobileCLIP
    tower: TowerName
    items: list[str]
    _opened: dict[tuple[str, str | None], Image.Image] = field(default_factory=dict)

    @cached_property
    def stages(self) -> Stages:
        if self.tower == "image":
            return causes.image_stages(self.model.variant.preprocess)
        return causes.text_stages(self.model.variant.tokens)

    def made(self, rows: Sequence[int], recipe: Recipe) -> Array:
        """Returns the network's inputs of these items."""
        items = [self.items[row] for row in rows]
        if self.tower == "text":
            return causes.text_input(items, self.model.variant.tokens, self.stages, recipe)
        spec, cause = self.model.variant.preprocess, recipe.get("file")
        if len(items) > TRIED:
            images = (causes.opened(Path(item), self.stages, recipe) for item in items)
        else:  # the same few again and again
            selected = {key: image for key, image in self._opened.items() if key[1] in (None, cause)}
            for item in items:
                if (item, cause) not in selected:
                    selected[item, cause] = causes.opened(Path(item), self.stages, recipe)
            self._opened, images = selected, (selected[item, cause] for item in items)
        return np.stack([causes.image_input(image, spec, self.stages, recipe) for image in images])

    def embedded(self, rows: Sequence[int], recipe: Recipe, progress: Progress = silent) -> Doubles:
        """Returns the checkpoint's embeddings of these items, a few at a time."""
        parts = []
        for start in range(0, len(rows), BATCH):
            progress(f"{self.tower} {start} of {len(rows)}")
            made = self.made(rows[start : start + BATCH], recipe)
            parts.append(causes.embed_input(self.model, self.tower, made))
        return np.concatenate(parts).astype(np.float64)

    def floor(self, rows: Sequence[int]) -> float:
        """Returns the noise floor: the relative deviation of float32 from float64 arithmetic, worst of these items."""
        items = [self.items[row] for row in rows[:EXACT]]
        images, texts = ([Path(item) for item in items], ()) if self.tower == "image" else ((), items)
        inputs = sample_inputs(self.model, images, texts)
        return compare(embed_exactly(self.model, self.tower, inputs), self.embedded(rows[:EXACT], {})).relative


def verify_embeddings(
    embeddings: StrPath,
    *,
    images: StrPath | None = None,
    texts: StrPath | None = None,
    names: StrPath | None = None,
    checkpoint: MobileCLIP | StrPath | None = None,
    progress: Progress = silent,
) -> EmbeddingsReport:
    """Compares embeddings that an app computed with a checkpoint's, and names the usual mistakes that explain them.

    Directions are compared; lengths are judged after that, so that embeddings of length 1 are the same.

    Args:
        embeddings: .npy, .npz, .jsonl or .safetensors, with one row for each input.
        images: folder of the images that the app embedded, in the order of their paths.
        texts: a .txt with one text per line, or a .jsonl as `embed` reads it, instead of images.
        names: a file with the name of each row's image or text, one per line. When None, the names in the embeddings'
            file; without such names, all inputs in order.
        checkpoint: a model from `load_model`, or a file of weights; the built-in nano when None.

    Raises:
        UsageError: neither images nor texts, or both; or the checkpoint lacks the tower, or has no embeddings.
        InvalidInput: a file cannot be used, or rows do not fit the inputs.
    """
    place = place_of(images, texts)
    model = checkpoint if isinstance(checkpoint, MobileCLIP) else load_model(None, checkpoint)
    tower: TowerName = "image" if texts is None else "text"
    if tower not in model.towers:
        raise UsageError(f"the checkpoint has no {tower} tower to compare with")
    theirs = read_embeddings(Path(embeddings), tower)
    inputs = _Inputs(model, tower, read_texts(place) if tower == "text" else listed_images(place))
    if names is not None:
        lines = tuple(line for _, line in read_lines(Path(names), BadRows(skip=False)))
        if len(lines) != len(theirs.values):
            raise InvalidInput(f"{names} has {len(lines):,} names for {len(theirs.values):,} rows; correct it")
        theirs = replace(theirs, names=lines)
    return _Judge(inputs, theirs, Path(embeddings), place, progress).report()


def place_of(images: StrPath | None, texts: StrPath | None) -> Path:
    """Returns the folder or file of the inputs that were embedded.

    Raises:
        UsageError: neither images nor texts, or both.
    """
    place = optional_path(images) or optional_path(texts)
    if place is None or (images is not None and texts is not None):
        raise UsageError("embeddings are of images or of texts; name one of them with `images` or `texts`")
    return place


def listed_images(folder: Path) -> list[str]:
    """Returns the image files of a folder, sorted."""
    with ImageListing([folder]) as listing:
        return [str(file) for file in listing]


@dataclass
class _Judge:
    inputs: _Inputs
    theirs: AppEmbeddings
    file: Path
    place: Path
    progress: Progress
    tried: list[TriedCause] = field(default_factory=list)
    named: list[str] = field(default_factory=list)

    def report(self) -> EmbeddingsReport:
        """Returns the verdict."""
        values, items = self.theirs.values, self.inputs.items
        dimension = self.inputs.model.variant.embed_dim
        if (broken := _broken(values)) is not None:
            return self._concluded("differs", f"{broken}.", None, None, 0.0)
        if values.shape[1] != dimension:
            text = f"its rows have {values.shape[1]} values and the checkpoint's {dimension}: another model or output."
            return self._concluded("differs", text, None, None, 0.0)
        names = self.theirs.names
        rows = list(range(len(items))) if names is None else rows_of_names(names, items, self.place)
        ours = self.inputs.embedded(rows, {}, self.progress)
        floor = self.inputs.floor(rows)
        if len(rows) != len(values):
            return self._of_other_count(ours, floor)
        before = compare(at_length_one(ours), at_length_one(values))
        if self._precision(before, floor) == "fp32":
            return self._of_lengths(ours, values, before, floor)
        selected, order = self._in_order(values, ours)
        values, ours, rows = values[selected], ours[order], [rows[index] for index in order]
        changed = self._of_all_rows(values, ours)
        after = compare(at_length_one(changed), at_length_one(values))
        precision = self._precision(after, floor)
        if changed is ours and (precision is None or (precision != "fp32" and not self.named)):
            changed, values, after = self._explained(rows, ours, values, floor)
        ours = changed
        return self._of_lengths(ours, values, after, floor, before)

    def _precision(self, deviation: Deviation, floor: float) -> Precision | None:
        """Returns the first precision whose bound holds. None: not even that of 4-bit weights."""
        gates = Gates()
        bounds = {name: gates.shipped(name, floor) for name in LOSSES}
        return next((name for name, bound in bounds.items() if passes(deviation, bound)), None)

    def _of_other_count(self, ours: Doubles, floor: float) -> EmbeddingsReport:
        """Judges a file with more or fewer rows than inputs: each row is compared with the nearest input."""
        values = self.theirs.values
        nearest = (at_length_one(values) @ at_length_one(ours).T).argmax(axis=1)
        deviation = compare(at_length_one(ours[nearest]), at_length_one(values))
        counts = f"{len(values):,} rows for {len(ours):,} inputs"
        if self._precision(deviation, floor) is None:
            raise InvalidInput(f"{self.file} has {counts}; name the rows' inputs with `names`")
        absent = sorted(set(range(len(ours))) - set(nearest.tolist()))
        missing = f"no row for {self._name(absent[0])}" if absent else "rows more than once"
        self.named.append(f"{counts}: {missing}")
        return self._of_lengths(ours[nearest], values, deviation, floor)

    def _in_order(self, values: Doubles, ours: Doubles) -> tuple[list[int], list[int]]:
        """Returns the rows to compare, and the input of each. Adds the cause if that was not the order of the file."""
        count = len(values)
        plain = list(range(count))
        if count < 2 or count > MOST_ORDERED:
            return plain, plain
        for by in (1, -1, 2, -2):
            later, earlier = plain[abs(by) :], plain[: -abs(by)]
            selected, order = (later, earlier) if by > 0 else (earlier, later)
            plain_noise = _noise(ours[selected], values[selected])
            if len(selected) > 1 and _noise(ours[order], values[selected]) * CERTAIN < plain_noise:
                self.named.append(f"rows are {abs(by)} {'later' if by > 0 else 'earlier'} than their inputs")
                return selected, order
        nearest = (at_length_one(values) @ at_length_one(ours).T).argmax(axis=1).tolist()
        if sorted(nearest) != plain or nearest == plain:
            return plain, plain
        if _noise(ours[nearest], values) * GAIN > _noise(ours, values):
            return plain, plain
        self.named.append(f"rows in another order: {self._order(nearest)}")
        return plain, nearest

    def _order(self, nearest: list[int]) -> str:
        names = [self._name(index) for index in range(len(nearest))]
        orders: dict[str, Callable[[int], object]] = {
            "reversed": lambda index: -index,
            "numbers in names sorted by value": lambda index: [
                (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", names[index])
            ],
            "names sorted without regard to capitals": lambda index: names[index].casefold(),
        }
        for text, key in orders.items():
            if sorted(range(len(nearest)), key=key) == nearest:  # type: ignore[arg-type]
                return text
        first = next(row for row, index in enumerate(nearest) if row != index)
        return f"row {first + 1} is of {names[nearest[first]]}"

    def _name(self, index: int) -> str:
        item = self.inputs.items[index]
        return Path(item).name if self.inputs.tower == "image" else repr(item[:40])

    def _of_all_rows(self, values: Doubles, ours: Doubles) -> Doubles:
        """Tries the mistakes of an app's arithmetic on all embeddings together."""
        columns = ours / np.linalg.norm(ours, axis=0)
        for text, changed in (
            ("normalised over the rows instead of each row", columns),
            ("the mean of all rows subtracted", ours - ours.mean(axis=0)),
            ("the mean of all rows subtracted after normalising", (unit := at_length_one(ours)) - unit.mean(axis=0)),
        ):
            if len(ours) > 1 and _noise(changed, values) * CERTAIN < _noise(ours, values):
                self.named.append(text)
                return changed
        return ours

    def _explained(
        self, rows: list[int], ours: Doubles, values: Doubles, floor: float
    ) -> tuple[Doubles, Doubles, Deviation]:
        """Searches the recipe that explains the deviation, on the worst inputs; returns the embeddings with it."""
        apart = np.linalg.norm(at_length_one(ours) - at_length_one(values), axis=1)
        worst = np.argsort(-apart, kind="stable")[:TRIED]
        some = [rows[index] for index in worst]
        expected = at_length_one(values[worst])
        recipe = self._searched(some, expected, ours[worst], floor)
        if recipe:
            self.named += [f"{stage}: {cause}" for stage, cause in recipe.items()]
            confirmed = np.unique([*worst, *range(min(len(rows), CONFIRMED))])
            ours = self.inputs.embedded([rows[index] for index in confirmed], recipe)
            values = values[confirmed]
        return ours, values, compare(at_length_one(ours), at_length_one(values))

    def _searched(self, rows: list[int], expected: Doubles, ours: Doubles, floor: float) -> dict[str, str]:
        """Returns the causes that explain the deviation best: each halves what the others leave."""
        best: dict[str, str] = {}
        least = start = _noise(ours, expected)
        remaining, exact = compare(expected, at_length_one(ours)), len(rows) * (2 * Gates().exact(floor).value) ** 2
        beam = [best]
        for depth in range(DEPTH):
            trials = self._tried_with(rows, expected, ours, beam, first=depth == 0)
            trials.sort(key=lambda trial: trial[0])
            if not trials:
                break
            noise, recipe, deviation = trials[0]
            if noise * GAIN <= least and noise * GAIN ** len(recipe) <= start:
                best, least, remaining = recipe, noise, deviation
            elif depth > 0 or self._precision(remaining, floor) is not None:
                break  # what is left is rounding, or unknown
            if least <= exact:
                break
            within = self._precision(remaining, floor) is not None
            beam = [best] if best and (within or depth) else [recipe for _, recipe, _ in trials[:BEAM]]
        return best

    def _tried_with(
        self, rows: list[int], expected: Doubles, ours: Doubles, beam: Sequence[dict[str, str]], first: bool
    ) -> list[tuple[float, dict[str, str], Deviation]]:
        """Adds each cause of another stage to each recipe; returns what remains with those that change an input."""
        plain = self.inputs.made(rows, {})
        trials = []
        stages = [(stage, cause) for stage, some in self.inputs.stages.items() for cause in some]
        longer = ({**recipe, stage: cause} for recipe in beam for stage, cause in stages if stage not in recipe)
        different = {tuple(sorted(recipe.items())): recipe for recipe in longer}
        for index, recipe in enumerate(different.values()):
            self.progress(f"cause {index} of {len(different)}")
            try:
                made = self.inputs.made(rows, recipe)
            except (InvalidInput, OSError):  # such as a JPEG of more than 65,500 columns
                continue
            visible = made.shape != plain.shape or bool((made != plain).any())
            answers = causes.embed_input(self.inputs.model, self.inputs.tower, made) if visible else ours
            deviation = compare(expected, at_length_one(answers))
            if visible and math.isfinite(deviation.relative):
                trials.append((_noise(answers, expected), recipe, deviation))
            if first:
                ((stage, cause),) = recipe.items()
                cosine, snr = deviation.cosine, deviation.snr_db
                self.tried.append(TriedCause(stage=stage, cause=cause, visible=visible, cosine=cosine, snr_db=snr))
        return trials

    def _of_lengths(
        self, ours: Doubles, values: Doubles, after: Deviation, floor: float, before: Deviation | None = None
    ) -> EmbeddingsReport:
        precision = self._precision(after, floor)
        lengths = np.linalg.norm(values, axis=1)
        ratios = lengths / np.linalg.norm(ours, axis=1)
        middle = float(np.median(ratios))
        kind: Literal["as the checkpoint's", "1", "others"] = "others"
        if (abs(ratios - 1) <= SCALE - 1).all():
            kind = "as the checkpoint's"
        if (abs(lengths - 1) <= UNIT).all() and (kind == "others" or abs(lengths - 1).max() < abs(ratios - 1).max()):
            kind = "1"
        if kind == "others" and precision is not None:
            even = ratios.max() <= SCALE * middle and ratios.min() >= middle / SCALE
            others = "lengths that are neither the checkpoint's nor 1"
            self.named.append(f"embeddings multiplied by {middle:.4g}" if even else others)
        if precision is None and not self.named:
            visible = [cause for cause in self.tried if cause.visible]
            nearest = max(visible, key=lambda cause: cause.cosine, default=None)
            tail = "" if nearest is None else f"; the nearest is {nearest.cause} (cosine {nearest.cosine:.4f})"
            text = f"differs from the checkpoint's ({_figures(after)}), and no usual cause explains it{tail}."
            return self._concluded("differs", text, None, (before or after, after), floor)
        if self.named:
            unknown = "with that it still differs, for a cause that is not known"
            rest = unknown if precision is None else f"with that it is the same, {LOSSES[precision]}"
            reasons = "; ".join(self.named)
            whole = f"differs from the checkpoint's ({_figures(before or after)}): {reasons}"
            text = f"{whole}; {rest} ({_figures(after)})."
            return self._concluded("differs", text, precision, (before or after, after), floor, kind)
        assert precision is not None
        unit = ", each scaled to length 1" if kind == "1" else ""
        text = f"is the same as the checkpoint's, {LOSSES[precision]}{unit} ({_figures(after)})."
        return self._concluded("same", text, precision, (before or after, after), floor, kind)

    def _concluded(
        self,
        verdict: Literal["same", "differs"],
        text: str,
        precision: Precision | None,
        deviations: tuple[Deviation, Deviation] | None,
        floor: float,
        lengths: Literal["as the checkpoint's", "1", "others"] = "others",
    ) -> EmbeddingsReport:
        return EmbeddingsReport(
            embeddings=str(self.file),
            variant=self.inputs.model.variant.name,
            tower=self.inputs.tower,
            rows=len(self.theirs.values),
            verdict=verdict,
            sentence=f"{self.file.name} {text}",
            causes=tuple(self.named),
            precision=precision,
            lengths=lengths,
            bound=Gates().exact(floor).value,
            deviation=deviations[0] if deviations else None,
            remaining=deviations[1] if deviations else None,
            tried=tuple(self.tried),
        )


def _broken(values: Doubles) -> str | None:
    """Returns the defect of rows that are no embeddings. None if they have none."""
    finite, zero = np.isfinite(values).all(axis=1), (values == 0).all(axis=1)
    if not finite.all():
        return f"differs: row {int(np.argmin(finite)) + 1} has a NaN or an infinite value"
    if zero.any():
        return f"differs: row {int(np.argmax(zero)) + 1} has only zeros"
    if len(values) > 1 and (values == values[0]).all():
        return "differs: all rows are equal, as if the app embedded one input again and again"
    return None


def _noise(expected: Array, actual: Array) -> float:
    """Returns the power of the deviation between directions [N, D]."""
    return float(((at_length_one(expected) - at_length_one(actual)) ** 2).sum())


def _figures(deviation: Deviation) -> str:
    snr = "" if deviation.snr_db is None else f", SNR {deviation.snr_db:.1f} dB"
    return f"worst cosine {deviation.cosine:.6f}{snr}"
