"""Which nodes stay in float where activations are int8: as few as the measured embeddings need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mobileclip_deploy.targets.ranges import Range

__all__ = ["SHARES", "WANTED", "choose"]

# Worst cosine on the calibration inputs: half of what the gate of w8a8 (0.98) allows, for inputs not seen here.
WANTED = 0.99
# Shares of the nodes that are tried in float, in this order; more than half would not be an int8 artifact.
SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)


def choose(
    nodes: Sequence[str], around: Sequence[Sequence[Range]], measure: Callable[[frozenset[str]], float]
) -> frozenset[str]:
    """The nodes to be left in float: none where that holds `WANTED`, else the most sensitive ones, share by share.

    Args:
        nodes: all that could run in int8.
        around: for each the ranges of the values before and behind it; the one that rounding hurts most tells how
            sensitive the node is.
        measure: nodes left in float -> worst cosine of the embeddings on the calibration inputs.

    Returns:
        The first share that holds; where none does, the one with the best cosine, on which the gate decides.
    """
    worst = {node: min(found.snr_db for found in ranges) for node, ranges in zip(nodes, around, strict=True)}
    order = sorted(nodes, key=lambda node: (worst[node], node))
    tried: list[tuple[float, frozenset[str]]] = []
    for share in SHARES:
        left = frozenset(order[: math.ceil(share * len(order))])
        tried.append((measure(left), left))
        if tried[-1][0] >= WANTED:
            return left
    return max(tried, key=lambda item: -1.0 if math.isnan(item[0]) else item[0])[1]
