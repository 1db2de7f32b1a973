"""An embedder that needs no network: an image's embedding is its mean colour, a text's the colour it names."""

import dataclasses
from collections.abc import Callable

import numpy as np

from mobileclip_deploy.network.model.scores import Scores
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TokenizerSpec, load_variant
from mobileclip_deploy.pictures.embedder import Embedder

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class Counted:
    """Counts what it is asked for, and may stop as a killed process would."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], limit: int | None = None) -> None:
        self.inputs, self._function, self._limit = 0, function, limit

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        if self._limit is not None and self.inputs + len(inputs) > self._limit:
            raise KeyboardInterrupt
        self.inputs += len(inputs)
        return self._function(inputs)


def by_colour(limit: int | None = None, **changes: object) -> Embedder:
    """The embedder; `images` and `texts` count their inputs."""
    variant = load_variant("nano")
    words = {name: set(encode([name])[0].tolist()) - {0, 49406, 49407} for name in COLOURS}

    def texts(ids: np.ndarray) -> np.ndarray:
        rows = [
            sum((np.asarray(COLOURS[name]) for name, own in words.items() if own & set(row.tolist())), np.full(3, 1e-3))
            for row in ids
        ]
        return np.stack(rows).astype(np.float32)

    embedder = Embedder(
        name="colours",
        variant=variant.name,
        engine="numpy",
        embedding_space="colours-0",
        images=Counted(lambda pixels: pixels.mean(axis=(2, 3)).astype(np.float32), limit),
        texts=Counted(texts),
        artifact=lambda tower: "0",
        preprocess=variant.preprocess,
        tokenizer=TokenizerSpec(),
        template="a {} thing",
        scores=Scores(100.0),
    )
    return dataclasses.replace(embedder, **changes)  # type: ignore[arg-type]
