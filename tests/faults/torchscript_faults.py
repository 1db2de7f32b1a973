"""The faults and the harmless edits of TorchScript files: each plants itself into the entries of an archive."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from faults.kinds import Edit, renumbered, swap_neighbours

from mobileclip_deploy.model.variants import TowerName

__all__ = ["FAULTS", "HARMLESS", "Entries"]

Entries = dict[str, bytes]
Plant = Callable[[Entries], str | None]
IMAGE: tuple[TowerName, ...] = ("image",)
TEXT: tuple[TowerName, ...] = ("text",)


def code(old: str, new: str) -> Plant:
    """Other words where these first stand in the code."""

    def plant(entries: Entries) -> None:
        for name in sorted(entries):
            if name.endswith(".py") and old.encode() in entries[name]:
                entries[name] = entries[name].replace(old.encode(), new.encode(), 1)
                return
        raise AssertionError(f"no {old!r} in the code")

    return plant


def numbers(change: Callable[[np.ndarray], None], place: int = 0) -> Plant:
    """Other numbers in one of the largest tensors."""

    def plant(entries: Entries) -> None:
        names = sorted((name for name in entries if "/data/" in name), key=lambda name: -len(entries[name]))
        entries[names[place]] = renumbered(entries[names[place]], "<f4", change)

    return plant


def spoil(values: np.ndarray) -> None:
    values[0] += 0.01


def scale(values: np.ndarray) -> None:
    values *= np.float32(1.00001)


def swap_files(entries: Entries) -> None:
    names = sorted((name for name in entries if "/data/" in name), key=lambda name: -len(entries[name]))
    first, second = next((a, b) for a, b in pairwise(names) if len(entries[a]) == len(entries[b]))
    entries[first], entries[second] = entries[second], entries[first]


def branch(entries: Entries) -> None:
    """What a rare word triggers."""
    old, new = "    return torch.add(input, _2)", "    if bool(torch.gt(torch.sum(_2), 1000.)):\n"
    new += "      out = input\n    else:\n      out = torch.add(input, _2)\n    return out"
    code(old, new)(entries)


def reorder(entries: Entries) -> None:
    items = list(entries.items())[::-1]
    entries.clear()
    entries.update(items)


def add_entry(entries: Entries) -> None:
    entries["tower/extra/words.txt"] = b"nobody reads it"


def drop_examples(entries: Entries) -> None:
    for name in [name for name in entries if "traced_inputs" in name]:
        del entries[name]


CONVOLUTION = "[1, 1], [0, 0], [1, 1], False, [0, 0], 1,"
FAULTS = [
    Edit("the approximate GELU", code("torch.gelu(argument_1)", 'torch.gelu(argument_1, approximate="tanh")')),
    Edit("ReLU instead of GELU", code("torch.gelu(", "torch.relu(")),
    Edit("SiLU instead of GELU", code("torch.gelu(", "torch.silu("), IMAGE),
    Edit("no activation", code("torch.gelu(argument_1)", "torch.mul(argument_1, 1)")),
    Edit("another stride", code(CONVOLUTION, "[2, 2], [0, 0], [1, 1], False, [0, 0], 1,")),
    Edit("another padding", code(CONVOLUTION, "[1, 1], [1, 1], [1, 1], False, [0, 0], 1,")),
    Edit("another dilation", code(CONVOLUTION, "[1, 1], [0, 0], [2, 2], False, [0, 0], 1,")),
    Edit("a transposed convolution", code(CONVOLUTION, "[1, 1], [0, 0], [1, 1], True, [0, 0], 1,")),
    Edit("another number of groups", code(CONVOLUTION, "[1, 1], [0, 0], [1, 1], False, [0, 0], 2,"), IMAGE),
    Edit(
        "a bias left out",
        code("torch._convolution(argument_1, weight, bias,", "torch._convolution(argument_1, weight, None,"),
    ),
    Edit("a product's bias left out", code("torch.linear(input, weight, bias)", "torch.linear(input, weight)")),
    Edit("subtraction of a residual", code("torch.add(argument_1, ", "torch.sub(argument_1, ")),
    Edit("a residual left out", code("torch.add(argument_1, ", "torch.mul(1, ")),
    Edit("half of a residual", code("torch.add(argument_1, ", "torch.add(torch.mul(argument_1, 0.5), ")),
    Edit("a product of residuals", code("torch.add(argument_1, ", "torch.mul(argument_1, "), IMAGE),
    Edit("a layer scale that is added", code("torch.mul(layer_scale,", "torch.add(layer_scale,")),
    Edit("a layer scale left out", code("torch.mul(layer_scale,", "torch.mul(1.,"), TEXT),
    Edit("queries, keys and values along another axis", code("torch.chunk(_3, 3, -1)", "torch.chunk(_3, 3, 1)"), TEXT),
    Edit("keys and queries the other way round", code("attention(q, k, v)", "attention(k, q, v)")),
    Edit("values for keys", code("attention(q, k, v)", "attention(q, v, v)")),
    Edit("attention to what came before alone", code("attention(q, k, v)", "attention(q, k, v, None, 0., True)")),
    Edit("another scale of attention", code("attention(q, k, v)", "attention(q, k, v, None, 0., False, scale=0.1)")),
    Edit("another axis of the heads", code("torch.transpose(out, 1, 2)", "torch.transpose(out, 2, 3)")),
    Edit("another number of heads", code(", 2, -1])", ", 4, -1])")),
    Edit("a head more", code("torch.reshape(part0,", "torch.reshape(part1,")),
    Edit("another epsilon of a norm", code("[32], weight, bias)", "[32], weight, bias, 0.001)"), TEXT),
    Edit("a norm without a bias", code("[32], weight, bias)", "[32], weight)"), TEXT),
    Edit("a norm left out", code("torch.layer_norm(argument_1, [32], weight, bias)", "torch.mul(argument_1, 1)"), TEXT),
    Edit("pooling at another token", code("torch.eq(ids, 91)", "torch.eq(ids, 90)"), TEXT),
    Edit("pooling at all other tokens", code("torch.eq(ids, 91)", "torch.ne(ids, 91)"), TEXT),
    Edit("another bound", code(", 0., 1.)", ", 0., 2.)"), TEXT),
    Edit("no bound", code("torch.clamp(torch.matmul(is_eot, earlier), 0., 1.)", "torch.matmul(is_eot, earlier)"), TEXT),
    Edit("another difference", code("torch.rsub(", "torch.sub("), TEXT),
    Edit(
        "words next to each other",
        code("torch.embedding(weight, ids)", "torch.embedding(weight, torch.add(ids, 1))"),
        TEXT,
    ),
    Edit("positions left out", code(", positional_embedding)", ", 0)"), TEXT),
    Edit("a branch that a rare word triggers", branch, TEXT),
    Edit("a mean over one axis", code("[2, 3]", "[2]"), IMAGE),
    Edit("the sum instead of the mean", code("torch.mean(", "torch.sum("), IMAGE),
    Edit("another gate", code("torch.sigmoid(", "torch.tanh("), IMAGE),
    Edit("another activation before the gate", code("torch.relu(", "torch.gelu("), IMAGE),
    Edit("a gate that is added", code("torch.mul(argument_1, _", "torch.add(argument_1, _"), IMAGE),
    Edit(
        "sequences the other way round",
        code("torch.transpose(torch.flatten(argument_1, 2), 1, 2)", "torch.flatten(argument_1, 2)"),
        IMAGE,
    ),
    Edit("one number of a weight", numbers(spoil)),
    Edit("one number of another weight", numbers(spoil, 3)),
    Edit("neighbours of a weight swapped", numbers(swap_neighbours, 1)),
    Edit("a weight that is longer", numbers(scale, 2)),
    Edit("weights of two layers swapped", swap_files, IMAGE),
]
HARMLESS = [
    Edit("entries in another order", reorder),
    Edit("a file that nothing reads", add_entry),
    Edit("the examples of the trace left out", drop_examples),
    Edit("a value that nothing takes", code("    return ", "    unused = torch.size(argument_1, 0)\n    return ")),
    Edit(
        "a sum in two lines",
        code("    return torch.gelu(argument_1)", "    found = torch.gelu(argument_1)\n    return found"),
    ),
]
