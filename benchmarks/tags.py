"""Labels taught by a few pictures: accuracy, false tags and calibration on nano's held-out pictures.

    OMP_NUM_THREADS=1 python benchmarks/tags.py [--draws 10]

Examples, background and tested pictures are different pictures. The background's classes are neither labels nor classes
of the tested pictures without a label. Writes benchmarks/results/tags.json.
"""

import argparse
import itertools
import json
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from measuring import Figures, markdown

import mobileclip_deploy as mcd
from mobileclip_deploy.base.intervals import mean_interval
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.network.model.scores import unrounded_softmax
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.pictures.embedding import at_length_one, embed_texts
from mobileclip_deploy.pictures.pictures import embed_dataset_images
from mobileclip_deploy.spaces.tags.door import NAMES_STEP
from mobileclip_deploy.spaces.tags.fitting import FittedLabels, fit, present
from mobileclip_deploy.spaces.tags.rows import LabelSamples

KEPT = Figures("tags")
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Kind = Literal["groups", "background", "names", "neither"]
BACKGROUND = 256
BINS = 15
AIM = 0.05


@dataclass(frozen=True)
class Space:
    """Embeddings of nano: pictures, with a class and a group each, and the texts of both."""

    pictures: Doubles
    classes: Doubles
    groups: Doubles
    captions: Doubles
    names: Doubles
    class_of: Indices
    group_of: Indices
    scale: float


def embedded() -> Space:
    """The 1,911 pictures in the space of the built-in network."""
    data, embedder = builtin_dataset(), model_embedder(mcd.load_model("nano"))
    lines = (models_dir() / "nano" / "evaluation" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line)["group"] for line in lines]
    names = sorted({*groups} - {"components"})  # five pictures
    prompts = [[f"an emoji of {name}" for name in some] for some in (data.classes, names, data.captions)]
    classes, of_groups, of_names, captions = (
        at_length_one(embed_texts(embedder, some)) for some in (*prompts, list(data.captions))
    )
    return Space(
        at_length_one(embed_dataset_images(embedder, list(data.images), list(data.rows))[0]),
        classes,
        of_groups,
        captions,
        of_names,
        np.array(data.labels),
        np.array([names.index(group) if group in names else -1 for group in groups]),
        embedder.scores.scale,
    )


@dataclass(frozen=True)
class Draw:
    """A fit, and the pictures that it never saw: those of its labels, and those of no label."""

    fitted: FittedLabels
    texts: Doubles
    tested: Doubles
    labels: Indices
    without: Doubles
    scale: float
    others: dict[str, Doubles]
    against_names: FittedLabels | None

    @property
    def odds(self) -> tuple[Doubles, Doubles]:
        """Odds of the tested pictures, and of those without a label."""
        return self.fitted.rows.odds(self.tested), self.fitted.rows.odds(self.without)

    def right(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Whether the first label is right: of the texts alone, and as learned."""
        plain = (self.tested @ self.texts.T).argmax(axis=1) == self.labels
        return plain, self.odds[0].argmax(axis=1) == self.labels

    def false_at_80(self) -> dict[str, float]:
        """Share of pictures without a label that pass the threshold which 80% of the tested pictures pass.

        "less ...": the largest cosine less that of other texts, as log of the sum of powers at the model's scale. No
        linear row says that. "against names": a linear "none of these", trained on background and names; an example
        less its label's text plus a name's text is as if of a picture.
        """
        cosines = [pictures @ self.texts.T for pictures in (self.tested, self.without)]
        scores = {
            "probability": [unrounded_softmax(self.scale * some) for some in cosines],
            "cosine": cosines,
            "learned": list(self.odds),
        }
        for name, texts in self.others.items():
            scores[f"less {name}"] = [
                some - np.log(np.exp(self.scale * (pictures @ texts.T - 1)).sum(axis=1, keepdims=True)) / self.scale
                for some, pictures in zip(cosines, (self.tested, self.without), strict=True)
            ]
        if self.against_names is not None:
            scores["against names"] = [self.against_names.rows.odds(some) for some in (self.tested, self.without)]
        return {
            name: float((without.max(axis=1) >= np.quantile(tested.max(axis=1), 0.2)).mean())
            for name, (tested, without) in scores.items()
        }


def draw(space: Space, chance: np.random.Generator, labels: Indices, pictures: int, kind: Kind = "background") -> Draw:
    """Learns the labels from some pictures each."""
    groups = kind == "groups"
    truth = space.group_of if groups else space.class_of
    texts = (space.groups if groups else space.classes)[labels]
    places = {int(label): index for index, label in enumerate(labels)}
    examples: list[int] = []
    for label in labels:
        own = chance.permutation(np.flatnonzero(truth == label))
        examples += own[: min(pictures, len(own) // 2)].tolist()
    tested = np.setdiff1d(np.flatnonzero(np.isin(truth, labels)), examples)
    background, without = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if not groups:
        others = chance.permutation(np.setdiff1d(np.unique(truth), labels))
        halves = others[: len(others) // 2], others[len(others) // 2 :]
        background = chance.permutation(np.flatnonzero(np.isin(truth, halves[0])))[:BACKGROUND]
        without = np.flatnonzero(np.isin(truth, halves[1]))
    own_labels = np.array([places[int(label)] for label in truth[examples]])
    own = space.pictures[examples]
    samples = LabelSamples(texts, own, own_labels, space.pictures[background], space.scale, len(labels))
    names = space.names[::NAMES_STEP]
    negatives: dict[str, Doubles] = {}
    against_names = None
    if kind == "background":
        negatives = {"other classes": np.delete(space.classes, labels, axis=0), "names": names}
        rows = np.arange(len(names)) % len(own)
        moved = names + own[rows] - texts[own_labels[rows]]
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        against_names = fit(replace(samples, background=np.concatenate([samples.background, moved])), AIM)
    else:
        samples = replace(samples, background=samples.background[:0], names=None if kind == "neither" else names)
    return Draw(
        fit(samples, AIM),
        texts,
        space.pictures[tested],
        np.array([places[int(label)] for label in truth[tested]]),
        space.pictures[without],
        space.scale,
        negatives,
        against_names,
    )


def calibration_error(draws: list[Draw]) -> dict[str, float]:
    """Expected calibration error of the first label: of pictures with a label, given that they have one; and of all,
    where pictures without a label weigh as much as the others."""
    having: list[npt.NDArray[np.float64]] = []
    every: list[npt.NDArray[np.float64]] = []
    for one in draws:
        for odds, labels in zip(one.odds, (one.labels, None), strict=True):
            chances = unrounded_softmax(np.c_[odds, np.zeros(len(odds))])[:, :-1]
            right = np.zeros(len(odds)) if labels is None else odds.argmax(axis=1) == labels
            weight = np.full(len(odds), 1 / max(1, len(odds)))
            every.append(np.stack([chances.max(axis=1), right, weight]))
            if labels is not None:
                having.append(np.stack([unrounded_softmax(odds).max(axis=1), right, weight]))
    found = {"with a label": _error(np.concatenate(having, axis=1))}
    if any(len(one.without) for one in draws):
        found["all"] = _error(np.concatenate(every, axis=1))
    return found


def _error(rows: Doubles) -> float:
    chance, right, weight = rows
    bins = np.minimum((BINS * chance).astype(int), BINS - 1)
    return float(sum(abs((weight * (chance - right))[bins == index].sum()) for index in range(BINS)) / weight.sum())


def interval(values: list[float]) -> list[float]:
    """Mean and 95% interval over the draws, in percent."""
    found = mean_interval(np.array(values))
    return [round(float(value), 2) for value in (found.value, found.low, found.high)]


def described(name: str, draws: list[Draw]) -> dict[str, Any]:
    """Figures of one kind of label set, over all draws."""
    pairs = [one.right() for one in draws]
    worst = min(
        (learned.mean() - plain.mean() + 1.96 * (learned * 1.0 - plain).std() / len(plain) ** 0.5)
        for plain, learned in pairs
    )
    row: dict[str, Any] = {
        "labels": name,
        "draws": len(draws),
        "methods": sorted({one.fitted.method.name for one in draws}),
        "texts": interval([float(plain.mean()) for plain, _ in pairs]),
        "learned": interval([float(learned.mean()) for _, learned in pairs]),
        "worst upper bound of the gain": round(float(worst), 4),
        "calibration error": {key: round(value, 4) for key, value in calibration_error(draws).items()},
        "true tags": interval([_tags(one)[0] for one in draws]),
    }
    if all(len(one.without) for one in draws):
        row["false tags"] = interval([_tags(one)[1] for one in draws])
        rows = [one.false_at_80() for one in draws]
        row["worst false tags"] = round(100 * max(_tags(one)[1] for one in draws), 1)
        row["false tags at 80% true"] = {key: interval([some[key] for some in rows]) for key in rows[0]}
    return row


def _tags(one: Draw) -> tuple[float, float]:
    """Shares of the tested pictures that get their label, and of those without a label that get one."""
    tested, without = (present(odds, np.log(one.fitted.ratios)) for odds in one.odds)
    return float(tested[np.arange(len(tested)), one.labels].mean()), float(without.any(axis=1).mean()) if len(
        without
    ) else 0.0


def many(space: Space) -> dict[str, Any]:
    """CPU seconds to learn 938 labels from 1,000 pictures."""
    labels = np.r_[np.arange(938), np.arange(62)]
    none, names = np.zeros((0, space.pictures.shape[1])), space.names[::NAMES_STEP]
    pictures = space.pictures[np.r_[:938, 938:1000]]
    samples = LabelSamples(space.captions[:938], pictures, labels, none, space.scale, 938, names)
    began = time.process_time()
    method = fit(samples, AIM).method.name
    return {"labels": 938, "pictures": 1000, "cpu_seconds": round(time.process_time() - began, 1), "method": method}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=10)
    draws, space, chance = parser.parse_args().draws, embedded(), np.random.default_rng(0)
    count, rows = len(space.classes), []
    for pictures in (4, 8, 16):
        some = [draw(space, chance, np.arange(len(space.groups)), pictures, "groups") for _ in range(draws)]
        rows.append(described(f"nine groups, {pictures} pictures each", some))
    for size, times in ((10, 2 * draws), (24, draws)):
        some = [draw(space, chance, chance.permutation(count)[:size], 8) for _ in range(times)]
        rows.append(described(f"{size} of 99 classes, 8 pictures each", some))
    kinds: tuple[tuple[Kind, str], ...] = (("names", "names, no background"), ("neither", "no names, no background"))
    for size, (kind, named) in itertools.product((3, 10), kinds):
        chance = np.random.default_rng(size)
        some = [draw(space, chance, chance.permutation(count)[:size], 8, kind) for _ in range(2 * draws)]
        rows.append(described(f"{size} of 99 classes, 8 pictures each, {named}", some))
    KEPT.write_rows(rows, many=many(space))
    heads = ("labels", ">texts", ">learned", ">calibration error", ">false tags at 80% true")
    table = [
        [
            row["labels"],
            *("{:.1f} ({:.1f}-{:.1f})".format(*row[key]) for key in ("texts", "learned")),
            str(row["calibration error"]),
            str({key: value[0] for key, value in row.get("false tags at 80% true", {}).items()}),
        ]
        for row in rows
    ]
    print("\n".join(markdown(heads, table)))


if __name__ == "__main__":
    main()
