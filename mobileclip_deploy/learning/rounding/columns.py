"""GPTQ (Frantar et al., arXiv 2210.17323): weights are rounded column by column, and what a column is off by is taken
up by those that are still to come.

The error that counts is E H E^T, E being what a weight [R, n] is off by and H [n, n] the second moments of its inputs.
Rounding column q changes the others by -(w_q - rounded) / [H^-1]_qq * [H^-1]_q,: (equation 2 of the paper). All the
inverses that are needed as columns drop out stand in one Cholesky factor of H^-1 (its section 3.3). Columns go in the
order of their own second moment, the largest first (`act-order` in the paper's code).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mobileclip_deploy.learning.rounding.lattice import Lattice

__all__ = ["DAMPING", "damped", "round_columns"]

# Of the mean second moment, added to each: the paper's own.
DAMPING = 0.01
# Where that is not enough for a Cholesky factor in float64 it is raised tenfold, so many times.
RAISED = 6
# Columns whose corrections are summed before all later ones get them: the same result, far less memory moved.
LAZY = 128


def damped(hessian: Tensor) -> Tensor | None:
    """The upper Cholesky factors [G, n, n] of the inverses of damped second moments [G, n, n], float64.

    An input that never was anything but zero gets a moment of its own, and so touches no other. None where there is no
    such factor however large the damping: a moment is not a number.
    """
    moments = hessian.double()
    if not bool(torch.isfinite(moments).all()):
        return None
    diagonal = moments.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    dead = (diagonal == 0).double() * mean
    damping = DAMPING
    for _ in range(RAISED):
        factor, failed = torch.linalg.cholesky_ex(moments + torch.diag_embed(dead + damping * mean.expand_as(dead)))
        if not bool(failed.any()):
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if not bool(failed.any()):
                return upper
        damping *= 10
    return None


def round_columns(weight: Tensor, hessian: Tensor, lattice: Lattice) -> Tensor | None:
    """The weight on its lattice; None where the second moments have no inverse.

    Args:
        weight: [G, R, n] float32, the groups of a convolution each with R outputs of n inputs.
        hessian: [G, n, n], of each group's inputs.
        lattice: what the numbers can become.
    """
    groups, rows, columns = weight.shape
    order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)  # [G, n]
    moved = hessian.gather(1, order[:, :, None].expand(-1, -1, columns))
    moved = moved.gather(2, order[:, None, :].expand(-1, columns, -1))
    inverse = damped(moved)
    if inverse is None:
        return None
    inverse = inverse.float()
    wide = order[:, None, :].expand(-1, rows, -1)  # [G, R, n]
    left, placed = weight.gather(2, wide), lattice.ordered(wide)
    result = torch.empty_like(left)
    for start in range(0, columns, LAZY):
        stop = min(start + LAZY, columns)
        errors = torch.empty(groups, rows, stop - start)
        for column in range(start, stop):
            value = left[:, :, column]
            rounded = placed.nearest(column, value)
            result[:, :, column] = rounded
            error = (value - rounded) / inverse[:, column, column, None]
            left[:, :, column + 1 : stop] -= error[:, :, None] * inverse[:, column, None, column + 1 : stop]
            errors[:, :, column - start] = error
        left[:, :, stop:] -= errors @ inverse[:, start:stop, stop:]
    return torch.empty_like(result).scatter_(2, wide, result)
