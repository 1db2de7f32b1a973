"""Key maps: the names and shapes of a checkpoint layout for each key of this package's network."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Layout of a tensor in their files: `theirs` maps our tensor to theirs, `ours` the other way."""

    theirs: Callable[[Tensor], Tensor]
    ours: Callable[[Tensor], Tensor]


same = Shape(lambda t: t, lambda t: t)
transposed = Shape(lambda t: t.t().contiguous(), lambda t: t.t().contiguous())


def flatten_leading(ones: int) -> Shape:
    """Returns the conversion for tensors with `ones` leading dimensions of size 1 in their files, and none in ours."""
    return Shape(lambda t: t.reshape((1,) * ones + tuple(t.shape)), lambda t: t.reshape(t.shape[ones:]))


def pairs_apart(heads: int) -> Shape:
    """Returns the conversion for stacked queries, keys and values [3C, ...] with rotary pairs. In their files the two
    rows of a pair are neighbours within a head's queries and keys. In ours they are half a head apart. Attention is the
    same: queries and keys move alike."""

    def moved(t: Tensor, split: tuple[int, int]) -> Tensor:
        turned, values = t.split((t.shape[0] // 3 * 2, t.shape[0] // 3))
        return torch.cat((turned.reshape(2 * heads, *split, -1).transpose(1, 2).reshape(turned.shape), values))

    return Shape(lambda t: moved(t, (2, t.shape[0] // heads // 6)), lambda t: moved(t, (t.shape[0] // heads // 6, 2)))


@dataclass(frozen=True)
class KeyRule:
    """A rule that rewrites the part of one of our keys that matches `ours` (a regular expression) into `theirs`.

    `theirs` is a template of `re.sub` or a function of the match. Rules that begin with `^` are tried until one
    matches. All other rules apply, in order.
    """

    ours: str
    theirs: str | Callable[[re.Match[str]], str]
    shape: Shape = same


class KeyMap:
    """An ordered table of rules from our state-dict keys to a layout's."""

    def __init__(self, rules: Iterable[KeyRule]) -> None:
        compiled = [(re.compile(rule.ours), rule) for rule in rules]
        # Anchored rules place a tensor, and one of them must match; fragments rename parts within.
        self._anchored = [(pattern, rule) for pattern, rule in compiled if rule.ours.startswith("^")]
        self._fragments = [(pattern, rule) for pattern, rule in compiled if not rule.ours.startswith("^")]

    def theirs(self, key: str) -> tuple[str, Shape]:
        """Returns their key for one of ours, and the shape of the tensor there.

        Raises:
            KeyError: no anchored rule matches the key.
        """
        for pattern, rule in self._anchored:
            name, hits = pattern.subn(rule.theirs, key, count=1)
            if hits:
                break
        else:
            raise KeyError(key)
        for pattern, fragment in self._fragments:
            name = pattern.sub(fragment.theirs, name)
        return name, rule.shape
