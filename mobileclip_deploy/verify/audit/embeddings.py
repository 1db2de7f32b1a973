"""`verify_embeddings`: the search for the mistake that explains an app's embeddings, and the verdict."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel

from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.files.arrays import Array, Doubles
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.embedding import BATCH, embed_exactly, in_batches
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.computing import EXACT
from mobileclip_deploy.parity.gates import SCALE, Gates, passes
from mobileclip_deploy.parity.metrics import Deviation, compare
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.pictures.image_listing import ImageListing
from mobileclip_deploy.pictures.text_files import BadRows, read_lines, read_texts
from mobileclip_deploy.verify.audit.embeddings_file import AppEmbeddings, read_embeddings, rows_of_names
from mobileclip_deploy.verify.audit.mistakes import (
    Recipe,
    image_mistakes,
    network_input,
    opened,
    pixels_of,
    text_input,
    text_mistakes,
)
from mobileclip_deploy.verify.audit.trials import CLEAN, Trial, distances, power, trials

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
photographs, each cause raised the deviation, by 1.6 dB or more (`tests/verify/audit/app_mistakes.py --bundle`)."""
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
    """Inputs of one tower, made with the mistakes of a recipe."""

    model: MobileCLIP
    tower: TowerName
    items: list[str]
    opened: Callable[..., Image.Image] = field(default_factory=lambda: lru_cache(2 * TRIED)(opened))

    def made(self, rows: Sequence[int], recipe: Recipe) -> Array:
        """Returns the network's inputs of these items."""
        items, spec = [self.items[row] for row in rows], self.model.variant.preprocess
        if self.tower == "text":
            return text_input(items, self.model.variant.tokens, recipe)
        images = (self.opened(Path(item), recipe.get("file")) for item in items)
        return np.stack([network_input(pixels_of(image, spec, recipe), spec, recipe) for image in images])

    def of_network(self, made: Array) -> Doubles:
        """Embeds inputs of the network itself, with images already normalised: [N, D]."""
        compute = self.model.encode_image if self.tower == "image" else self.model.encode_text
        return in_batches(compute, made).astype(np.float64)

    def embedded(self, rows: Sequence[int], recipe: Recipe = CLEAN, progress: Progress = silent) -> Doubles:
        """Returns the checkpoint's embeddings of these items, a few at a time."""
        parts = []
        for start in range(0, len(rows), BATCH):
            progress(f"{self.tower} {start} of {len(rows)}")
            parts.append(self.of_network(self.made(rows[start : start + BATCH], recipe)))
        return np.concatenate(parts)

    def floor(self, rows: Sequence[int]) -> float:
        """Returns the noise floor: the relative deviation of float32 from float64 arithmetic, worst of these items."""
        items = [self.items[row] for row in rows[:EXACT]]
        images, texts = ([Path(item) for item in items], ()) if self.tower == "image" else ((), items)
        inputs = sample_inputs(self.model, images, texts)
        return compare(embed_exactly(self.model, self.tower, inputs), self.embedded(rows[:EXACT])).relative

    def name(self, index: int) -> str:
        """Returns an item in words."""
        return Path(self.items[index]).name if self.tower == "image" else repr(self.items[index][:40])


def explained(
    inputs: _Inputs, rows: list[int], start: Trial, floor: float, progress: Progress
) -> tuple[Recipe, list[TriedCause]]:
    """Returns the mistakes that explain the deviation of some rows best, and what each mistake alone leaves. Each of
    the first halves what the others leave.

    Args:
        start: the rows, and the checkpoint's embeddings without a mistake.
        floor: noise floor.
    """
    variant, plain = inputs.model.variant, inputs.made(rows, CLEAN)
    mistakes = list(image_mistakes(variant.preprocess) if inputs.tower == "image" else text_mistakes(variant.tokens))
    exact = len(rows) * (2 * Gates().exact(floor).value) ** 2

    def embed(recipe: Recipe) -> Array | None:
        try:
            made = inputs.made(rows, recipe)
        except (InvalidInput, OSError):  # such as a JPEG of more than 65,500 columns
            return None
        return start.ours if np.array_equal(made, plain) else inputs.of_network(made)

    def within(trial: Trial) -> bool:
        return precision_within(_deviation(trial.rows, trial.ours), floor) is not None

    best, beam, alone = start, [CLEAN], list[TriedCause]()
    for depth in range(DEPTH):
        pairs = ((recipe, each) for recipe in beam for each in mistakes if each.stage not in recipe)
        longer = {frozenset((*recipe.values(), each)): {**recipe, each.stage: each} for recipe, each in pairs}
        every = list(trials({None: start.rows}, longer.values(), embed, progress))
        alone = alone or [_alone(trial, start) for trial in every]
        visible = (trial for trial in every if trial.ours is not start.ours and np.isfinite(trial.ours).all())
        ranked = sorted(visible, key=lambda trial: trial.noise)
        first = ranked[0] if ranked else start
        if first.noise * GAIN <= best.noise and first.noise * GAIN ** len(first.recipe) <= start.noise:
            best = first
        elif not ranked or depth > 0 or within(best):
            break  # what is left is rounding, or unknown
        if best.noise <= exact:
            break
        deeper = best.recipe and (depth or within(best))
        beam = [best.recipe] if deeper else [trial.recipe for trial in ranked[:BEAM]]
    return best.recipe, alone


def _alone(trial: Trial, start: Trial) -> TriedCause:
    (mistake,), left = trial.recipe.values(), _deviation(trial.rows, trial.ours)
    visible = trial.ours is not start.ours
    return TriedCause(stage=mistake.stage, cause=mistake.text, visible=visible, cosine=left.cosine, snr_db=left.snr_db)


def precision_within(deviation: Deviation, floor: float) -> Precision | None:
    """Returns the first precision whose bound holds. None: not even that of 4-bit weights."""
    gates = Gates()
    return next((name for name in LOSSES if passes(deviation, gates.shipped(name, floor))), None)


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
    tried: Sequence[TriedCause] = ()
    named: list[str] = field(default_factory=list)
    floor: float = 0.0

    def report(self) -> EmbeddingsReport:
        """Returns the verdict."""
        values, items, names = self.theirs.values, self.inputs.items, self.theirs.names
        dimension = self.inputs.model.variant.embed_dim
        if (broken := _broken(values)) is not None:
            return self._concluded("differs", f"{broken}.")
        if values.shape[1] != dimension:
            text = f"its rows have {values.shape[1]} values and the checkpoint's {dimension}: another model or output."
            return self._concluded("differs", text)
        rows = list(range(len(items))) if names is None else rows_of_names(names, items, self.place)
        ours = self.inputs.embedded(rows, progress=self.progress)
        self.floor = self.inputs.floor(rows)
        if len(rows) != len(values):
            ours = self._of_other_count(ours)
            deviation = _deviation(ours, values)
            return self._of_lengths(ours, values, deviation, deviation)
        before = after = _deviation(ours, values)
        if precision_within(before, self.floor) != "fp32":
            selected, order = self._in_order(values, ours)
            values, ours, rows = values[selected], ours[order], [rows[index] for index in order]
            changed = self._of_all_rows(values, ours)
            after = _deviation(changed, values)
            precision = precision_within(after, self.floor)
            if changed is ours and (precision is None or (precision != "fp32" and not self.named)):
                changed, values = self._explained(rows, ours, values)
                after = _deviation(changed, values)
            ours = changed
        return self._of_lengths(ours, values, before, after)

    def _of_other_count(self, ours: Doubles) -> Doubles:
        """Judges a file with more or fewer rows than inputs. Returns the embedding of the input nearest to each row."""
        values = self.theirs.values
        nearest = _nearest(values, ours)
        counts = f"{len(values):,} rows for {len(ours):,} inputs"
        if precision_within(_deviation(ours[nearest], values), self.floor) is None:
            raise InvalidInput(f"{self.file} has {counts}; name the rows' inputs with `names`")
        absent = sorted(set(range(len(ours))) - set(nearest))
        missing = f"no row for {self.inputs.name(absent[0])}" if absent else "rows more than once"
        self.named.append(f"{counts}: {missing}")
        return ours[nearest]

    def _in_order(self, values: Doubles, ours: Doubles) -> tuple[list[int], list[int]]:
        """Returns the rows to compare, and the input of each. Adds the cause if that was not the order of the file."""
        count = len(values)
        plain = list(range(count))
        if count < 2 or count > MOST_ORDERED:
            return plain, plain
        for by in (1, -1, 2, -2):
            later, earlier = plain[abs(by) :], plain[: -abs(by)]
            selected, order = (later, earlier) if by > 0 else (earlier, later)
            plain_noise = power(ours[selected], values[selected])
            if len(selected) > 1 and power(ours[order], values[selected]) * CERTAIN < plain_noise:
                self.named.append(f"rows are {abs(by)} {'later' if by > 0 else 'earlier'} than their inputs")
                return selected, order
        nearest = _nearest(values, ours)
        if sorted(nearest) != plain or power(ours[nearest], values) * GAIN >= power(ours, values):
            return plain, plain
        self.named.append(f"rows in another order: {self._order(nearest)}")
        return plain, nearest

    def _order(self, nearest: list[int]) -> str:
        names = [self.inputs.name(index) for index in range(len(nearest))]
        parts = [re.split(r"(\d+)", name) for name in names]  # texts and digits alternate
        orders: dict[str, list[Any]] = {
            "reversed": [-index for index in range(len(names))],
            "numbers in names sorted by value": [[int(x) if x.isdigit() else x for x in each] for each in parts],
            "names sorted without regard to capitals": [name.casefold() for name in names],
        }
        for text, keys in orders.items():
            if sorted(range(len(names)), key=keys.__getitem__) == nearest:
                return text
        first = next(row for row, index in enumerate(nearest) if row != index)
        return f"row {first + 1} is of {names[nearest[first]]}"

    def _of_all_rows(self, values: Doubles, ours: Doubles) -> Doubles:
        """Tries the mistakes of an app's arithmetic on all embeddings together."""
        unit = at_length_one(ours)
        for text, changed in (
            ("normalised over the rows instead of each row", ours / np.linalg.norm(ours, axis=0)),
            ("the mean of all rows subtracted", ours - ours.mean(axis=0)),
            ("the mean of all rows subtracted after normalising", unit - unit.mean(axis=0)),
        ):
            if len(ours) > 1 and power(changed, values) * CERTAIN < power(ours, values):
                self.named.append(text)
                return changed
        return ours

    def _explained(self, rows: list[int], ours: Doubles, values: Doubles) -> tuple[Doubles, Doubles]:
        """Searches the mistakes that explain the deviation, on the worst inputs. Returns the checkpoint's embeddings
        with them, and the app's, of those on which they are confirmed."""
        worst = np.argsort(-distances(ours, values), kind="stable")[:TRIED]
        some = [rows[index] for index in worst]
        start = Trial(None, CLEAN, values[worst], ours[worst])
        recipe, self.tried = explained(self.inputs, some, start, self.floor, self.progress)
        if recipe:
            self.named += [f"{stage}: {mistake.text}" for stage, mistake in recipe.items()]
            confirmed = np.unique([*worst, *range(min(len(rows), CONFIRMED))])
            ours, values = self.inputs.embedded([rows[index] for index in confirmed], recipe), values[confirmed]
        return ours, values

    def _of_lengths(self, ours: Doubles, values: Doubles, before: Deviation, after: Deviation) -> EmbeddingsReport:
        precision = precision_within(after, self.floor)
        lengths = np.linalg.norm(values, axis=1)
        ratios = lengths / np.linalg.norm(ours, axis=1)
        middle = float(np.median(ratios))
        kind = "others"
        if (abs(ratios - 1) <= SCALE - 1).all():
            kind = "as the checkpoint's"
        if (abs(lengths - 1) <= UNIT).all() and (kind == "others" or abs(lengths - 1).max() < abs(ratios - 1).max()):
            kind = "1"
        if kind == "others" and precision is not None:
            even = ratios.max() <= SCALE * middle and ratios.min() >= middle / SCALE
            others = "lengths that are neither the checkpoint's nor 1"
            self.named.append(f"embeddings multiplied by {middle:.4g}" if even else others)
        facts = {"precision": precision, "lengths": kind, "deviation": before, "remaining": after}
        differs = f"differs from the checkpoint's ({_figures(before)})"
        if self.named:
            unknown = "with that it still differs, for a cause that is not known"
            rest = unknown if precision is None else f"with that it is the same, {LOSSES[precision]}"
            text = f"{differs}: {'; '.join(self.named)}; {rest} ({_figures(after)})."
            return self._concluded("differs", text, **facts)
        if precision is None:
            visible = [cause for cause in self.tried if cause.visible]
            nearest = max(visible, key=lambda cause: cause.cosine, default=None)
            tail = "" if nearest is None else f"; the nearest is {nearest.cause} (cosine {nearest.cosine:.4f})"
            text = f"{differs}, and no usual cause explains it{tail}."
            return self._concluded("differs", text, **facts | {"lengths": "others"})
        unit = ", each scaled to length 1" if kind == "1" else ""
        text = f"is the same as the checkpoint's, {LOSSES[precision]}{unit} ({_figures(after)})."
        return self._concluded("same", text, **facts)

    def _concluded(self, verdict: Literal["same", "differs"], text: str, **facts: Any) -> EmbeddingsReport:
        unknown = {"precision": None, "lengths": "others", "deviation": None, "remaining": None}
        return EmbeddingsReport(
            embeddings=str(self.file),
            variant=self.inputs.model.variant.name,
            tower=self.inputs.tower,
            rows=len(self.theirs.values),
            verdict=verdict,
            sentence=f"{self.file.name} {text}",
            causes=tuple(self.named),
            bound=Gates().exact(self.floor).value,
            tried=tuple(self.tried),
            **unknown | facts,
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


def _nearest(values: Doubles, ours: Doubles) -> list[int]:
    """Returns the index of the input whose embedding is nearest to each row."""
    indices: list[int] = (at_length_one(values) @ at_length_one(ours).T).argmax(axis=1).tolist()
    return indices


def _deviation(ours: Array, values: Array) -> Deviation:
    """Returns the deviation of directions."""
    return compare(at_length_one(ours), at_length_one(values))


def _figures(deviation: Deviation) -> str:
    snr = "" if deviation.snr_db is None else f", SNR {deviation.snr_db:.1f} dB"
    return f"worst cosine {deviation.cosine:.6f}{snr}"
