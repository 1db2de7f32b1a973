"""What "nothing found" costs and saves on nano's held-out pictures, and what else was tried.

    python benchmarks/relevance.py [--rounds 4]

Half of the 1,911 captions and pictures are learned from, the other half is asked: captions whose picture is in the
library, captions whose picture is left out, and nonsense (letters, and words drawn at random). Every round divides
anew. Writes benchmarks/results/relevance.json and the tables of docs/figures/search.md.
"""

import argparse
import random
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from measuring import Figures, markdown

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.pictures.embedding import at_length_one, embed_texts
from mobileclip_deploy.pictures.pictures import embed_dataset_images
from mobileclip_deploy.spaces.relevance_fit import (
    Observed,
    RelevanceSamples,
    area,
    expected_cosines,
    fit,
    logistic,
    observed,
    ridge,
)
from mobileclip_deploy.spaces.relevance_set import words_at_random

KEPT = Figures("relevance", "figures/search.md")
SPLITS = {0.5: (100, 400, 900), 0.16: (100, 400, 1600)}
"""Share of the captions that are learned from, and sizes of the libraries that the others are asked in."""
Doubles = npt.NDArray[np.float64]


def letters(count: int) -> list[str]:
    """Words of random letters."""
    chance = random.Random(5)

    def word() -> str:
        return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 9)))

    return [" ".join(word() for _ in range(chance.randint(1, 2))) for _ in range(count)]


def embeddings() -> dict[str, Doubles]:
    """Embeddings of length 1: captions, their pictures, both kinds of nonsense, the calibration pictures."""
    data, embedder = builtin_dataset(), model_embedder(mcd.load_model("nano"))
    files = image_files(models_dir() / "nano" / "calibration" / "images")
    some: dict[str, Any] = {
        "texts": embed_texts(embedder, list(data.captions)),
        "pictures": embed_dataset_images(embedder, list(data.images), list(data.rows))[0],
        "words": embed_texts(embedder, words_at_random(data.captions)),
        "letters": embed_texts(embedder, letters(500)),
        "background": embed_dataset_images(embedder, files, [str(file) for file in files])[0],
    }
    return {name: at_length_one(values) for name, values in some.items()}


def halves(all_of: dict[str, Doubles], share: float, seed: int) -> tuple[RelevanceSamples, RelevanceSamples]:
    """What is learned from and what is asked: other captions, pictures and nonsense; letters are asked only."""
    chance = np.random.default_rng(seed)
    order, words = chance.permutation(len(all_of["texts"])), chance.permutation(len(all_of["words"]))
    count = int(share * len(order))
    own, other = np.sort(order[:count]), np.sort(order[count:])
    learned = RelevanceSamples(
        all_of["texts"][own], all_of["pictures"][own], all_of["words"][words[:250]], all_of["background"]
    )
    nonsense = np.concatenate([all_of["words"][words[250:]], all_of["letters"]])
    return learned, RelevanceSamples(all_of["texts"][other], all_of["pictures"][other], nonsense, all_of["background"])


def ours(learned: RelevanceSamples) -> Callable[[RelevanceSamples, Observed], Doubles]:
    """What `export` learns: how far above its threshold each best cosine is."""
    fitted = fit(learned)
    return lambda asked, found: (
        found.best + fitted.lifted(asked.queries, asked.spreads)[found.query] - fitted.threshold(found.size)
    )


def standardised(_: RelevanceSamples) -> Callable[[RelevanceSamples, Observed], Doubles]:
    """The best cosine less the mean of the query's scores over the background, over their spread."""

    def scores(asked: RelevanceSamples, found: Observed) -> Doubles:
        over = asked.queries @ asked.background.T
        return np.asarray((found.best - over.mean(1)[found.query]) / over.std(1)[found.query])

    return scores


def quantile(_: RelevanceSamples) -> Callable[[RelevanceSamples, Observed], Doubles]:
    """The best cosine less the largest of the query's scores over the background."""
    return lambda asked, found: found.best - (asked.queries @ asked.background.T).max(1)[found.query]


def regression(learned: RelevanceSamples) -> Callable[[RelevanceSamples, Observed], Doubles]:
    """The best cosine beside the one that the query's embedding lets expect, without the spread."""
    seen = observed(learned, sizes_of(learned))
    features = np.stack([seen.best, expected_cosines(learned)[seen.query]], axis=1)
    weights = logistic(features, seen.kind == 0, balanced(seen))
    slope, _ = ridge(learned.texts, np.asarray((learned.texts * learned.pictures).sum(1)))
    return lambda asked, found: weights[0] * found.best + weights[1] * (asked.queries @ slope)[found.query]


def nearest_captions(learned: RelevanceSamples) -> Callable[[RelevanceSamples, Observed], Doubles]:
    """The same by a kernel over the learned captions (radial, width 5) in place of a line: it stores all of them."""
    own = (learned.texts * learned.pictures).sum(1)

    def kernel(a: Doubles, b: Doubles, y: Doubles) -> Doubles:
        weights = np.linalg.solve(np.exp(5 * (a @ a.T - 1)) + np.eye(len(a)), y - y.mean())
        return np.asarray(np.exp(5 * (b @ a.T - 1)) @ weights + y.mean())

    held = kernel(learned.texts, learned.queries, own)
    fold = np.arange(len(own)) % 5
    for number in range(5):
        kept = fold != number
        held[np.flatnonzero(~kept)] = kernel(learned.texts[kept], learned.texts[~kept], own[kept])
    seen = observed(learned, sizes_of(learned))
    weights = logistic(np.stack([seen.best, held[seen.query]], axis=1), seen.kind == 0, balanced(seen))
    return lambda asked, found: (
        weights[0] * found.best + weights[1] * kernel(learned.texts, asked.queries, own)[found.query]
    )


def sizes_of(samples: RelevanceSamples) -> list[int]:
    """As `fit` has them."""
    return [len(samples.texts) // part for part in (8, 4, 2)]


def balanced(found: Observed) -> Doubles:
    """Half of the weight to queries whose picture is there, a quarter to each other kind."""
    weights = np.zeros(len(found.best))
    for kind, share in ((0, 2), (1, 1), (2, 1)):
        weights[found.kind == kind] = share / max(1, int((found.kind == kind).sum()))
    return weights / weights.sum()


WAYS: dict[str, Callable[[RelevanceSamples], Callable[[RelevanceSamples, Observed], Doubles]]] = {
    "the bare cosine": lambda _: lambda asked, found: found.best,
    "cosine less mean, over spread": standardised,
    "cosine less the background's largest": quantile,
    "cosine and expected cosine (a line)": regression,
    "cosine and expected cosine (a kernel over the captions)": nearest_captions,
    "**cosine, expected cosine (a line) and spread: what `export` learns**": ours,
}


def measured(rounds: int) -> list[dict[str, Any]]:
    """A row per share, way and size: 1 - AUC against each kind of query without a picture; of ours what the threshold
    does too."""
    everything, rows = embeddings(), []
    for share, sizes in SPLITS.items():
        parts = [halves(everything, share, seed) for seed in range(rounds)]
        asked = [observed(other, sizes, seed=11) for _, other in parts]
        for name, way in WAYS.items():
            scores = [way(learned)(other, found) for (learned, other), found in zip(parts, asked, strict=True)]
            for size in sizes:
                figures = [figured(*one, size) for one in zip(parts, asked, scores, strict=True)]
                mean = {key: round(float(np.mean([one[key] for one in figures])), 4) for key in figures[0]}
                rows.append({"learned": len(parts[0][0].texts), "way": name, "size": size, **mean})
    return rows


def figured(
    part: tuple[RelevanceSamples, RelevanceSamples], found: Observed, score: Doubles, size: int
) -> dict[str, float]:
    """Figures of one division at one size."""
    words = len(part[1].texts) + 250
    here = found.size == size
    inside = score[here & (found.kind == 0)]
    kinds = {
        "left out": here & (found.kind == 1),
        "words": here & (found.kind == 2) & (found.query < words),
        "letters": here & (found.kind == 2) & (found.query >= words),
    }
    told = {name: 1 - area(inside, score[kind]) for name, kind in kinds.items()}
    told |= {f"alarms {name}": float((score[kind] >= 0).mean()) for name, kind in kinds.items()}
    return told | {"missed": float((inside < 0).mean())}


def table(rows: list[dict[str, Any]]) -> str:
    """1 - AUC of each way, and its ratio to the bare cosine's."""
    kinds = ("left out", "words", "letters")
    told = []
    bare = {(row["learned"], row["size"]): row for row in rows if row["way"] == "the bare cosine"}
    for row in rows:
        base = bare[row["learned"], row["size"]]
        cells = [
            f"{row[kind]:.3f}" if row is base else f"{row[kind]:.3f} (x {row[kind] / base[kind]:.2f})" for kind in kinds
        ]
        told.append([str(row["learned"]), row["way"], f"{row['size']:,}", *cells])
    return "\n".join(markdown((">captions learned from", "score", ">library", *(f">{kind}" for kind in kinds)), told))


def threshold_table(rows: list[dict[str, Any]]) -> str:
    """What the threshold of `export` does."""
    kinds = ("alarms left out", "alarms words", "alarms letters", "missed")
    heads = (">captions learned from", ">library", ">left out, answered", ">words", ">letters")
    ours = (row for row in rows if row["way"].startswith("**"))
    told = ([str(row["learned"]), f"{row['size']:,}", *(f"{100 * row[kind]:.0f}%" for kind in kinds)] for row in ours)
    return "\n".join(markdown((*heads, ">picture there, missed"), told))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help="divisions of the captions")
    rows = measured(parser.parse_args().rounds)
    KEPT.write(rows)
    KEPT.show(table(rows), "<!-- relevance -->", "<!-- end of relevance -->")
    KEPT.show(threshold_table(rows), "<!-- threshold -->", "<!-- end of threshold -->")


if __name__ == "__main__":
    main()
