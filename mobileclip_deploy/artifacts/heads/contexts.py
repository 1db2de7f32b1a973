"""Contexts: in a causal text tower a prompt has the same embedding at every length that fits it, and short ones are
fast.

The embedding is read at the first end-of-text token, and no token of a causal tower sees later ones. So neither the
padding nor its length changes the result. In a bidirectional tower every token sees the padding.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import TokenizerSpec, Variant

# Start, two tokens, end: a shorter context does not pay for its own shape.
SHORTEST = 4


def parse_contexts(text: str | None) -> tuple[int, ...]:
    """Parses `16,32`, as on the command line; an empty tuple for None.

    Raises:
        UsageError: not whole numbers.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"`contexts` {text}: write lengths in tokens with commas, as in 16,32")
    return tuple(map(int, parts))


def chosen_contexts(variant: Variant, wanted: Sequence[int]) -> tuple[int, ...]:
    """Returns the lengths that a variant's text tower will take, ascending, with its own as the last; empty if none are
    requested.

    Raises:
        UsageError: the tower is bidirectional, or a length is not from 4 to the tower's own.
    """
    if not wanted:
        return ()
    if not variant.text.causal:
        raise UsageError(
            f"the text tower of {variant.name} is bidirectional: padding is part of the model, so a prompt's embedding "
            "depends on the length; leave `contexts` out"
        )
    full = variant.tokens.context_length
    if wrong := [length for length in wanted if not SHORTEST <= length <= full]:
        raise UsageError(f"`contexts` {wrong[0]}: {variant.name} takes lengths from {SHORTEST} to {full} tokens")
    return tuple(sorted({*wanted, full}))


def fitting(ids: npt.NDArray[np.int64], contexts: Sequence[int], tokenizer: TokenizerSpec) -> npt.NDArray[np.int64]:
    """Returns the context for every row of ids [N, L], int64 [N].

    It is the shortest of the ascending contexts that fits the row up to its first end-of-text token, at most L. A row
    without that token takes the longest.
    """
    ends = ids == tokenizer.eot
    minimum = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, ids.shape[1])
    lengths = np.asarray([length for length in contexts if length < ids.shape[1]] + [ids.shape[1]], np.int64)
    contexts_of_rows: npt.NDArray[np.int64] = lengths[np.searchsorted(lengths, minimum)]
    return contexts_of_rows


def ended(ids: npt.NDArray[np.int64], tokens: TokenizerSpec) -> npt.NDArray[np.int64]:
    """Returns ids [N, L] as a tower that pads inside reads them, [N, context length].

    What follows the first end token is padding. A row without one ends after its last token, or in the last position.
    """
    rows = np.full((len(ids), tokens.context_length), tokens.eot, np.int64)
    rows[:, : ids.shape[1]] = ids[:, : tokens.context_length]
    is_end = rows == tokens.eot
    rows[~is_end.any(axis=1), -1] = tokens.eot
    return np.where(is_end.cumsum(axis=1) - is_end > 0, tokens.pad, rows)


class ContextRunner:
    """A text tower of several contexts: ids [N, L] -> [N, D], each row at the shortest context that fits it.

    Args:
        run: the tower at any of its contexts.
        contexts: ascending.
    """

    def __init__(
        self,
        run: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.float32]],
        engine: str,
        contexts: Sequence[int],
        tokenizer: TokenizerSpec,
    ) -> None:
        self.engine = engine
        self._run, self._contexts, self._tokenizer = run, tuple(contexts), tokenizer

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        ids = inputs.astype(np.int64, copy=False)
        lengths = fitting(ids, self._contexts, self._tokenizer)
        embeddings: npt.NDArray[np.float32] | None = None
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            part = self._run(np.ascontiguousarray(ids[rows, :length]))
            if embeddings is None:
                embeddings = np.empty((len(ids), part.shape[1]), np.float32)
            embeddings[rows] = part
        assert embeddings is not None
        return embeddings
