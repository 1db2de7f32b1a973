"""GPTQ (Frantar et al., arXiv 2210.17323): weights are rounded column by column, and what a column is off by is taken
up by those that are still to come.

The error that counts is E H E^T, E being what a weight [R, n] is off by and H [n, n] the second moments of its inputs.
The paper moves the columns that are left by (w_q - rounded) / [H^-1]_qq * [H^-1]_q,: (its equation 2) and needs the
inverses of what is left of H. The same numbers come from one triangular factor of H itself, without any inverse (Chen
et al., arXiv 2507.18553: GPTQ is Babai's nearest plane): with H = S^T S and S lower, column q is rounded from w_q +
sum over p < q of S_qp / S_qq (w_p - rounded_p). Columns go in the order of their own second moment, the largest first
(`act-order` in the paper's code).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mobileclip_deploy.targets.grids.lattice import Lattice

# Share of the mean second moment that is added to each: the paper's own.
DAMPING = 0.01
# Where that is not enough for a Cholesky factor in float64 it is raised tenfold, so many times.
RAISED = 6
# Columns that get what all before them are off by in one product: the same result, far less memory moved.
LAZY = 128


def damped(hessian: Tensor) -> Tensor | None:
    """The lower factors S [G, n, n] of damped second moments S^T S [G, n, n], float64.

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
        raised = moments + torch.diag_embed(dead + damping * mean.expand_as(dead))
        factor, failed = torch.linalg.cholesky_ex(raised.flip(1, 2), upper=True)
        if not bool(failed.any()):
            return factor.flip(1, 2)
        damping *= 10
    return None


def round_columns(weight: Tensor, hessian: Tensor, lattice: Lattice) -> Tensor | None:
    """The weight on its lattice; None where the second moments have no factor.

    Args:
        weight: [G, R, n] float32, the groups of a convolution each with R outputs of n inputs.
        hessian: [G, n, n], of each group's inputs.
        lattice: what the numbers can become.
    """
    rows, columns = weight.shape[1:]
    order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)  # [G, n]
    moved = hessian.gather(1, order[:, :, None].expand(-1, -1, columns))
    moved = moved.gather(2, order[:, None, :].expand(-1, columns, -1))
    factor = damped(moved)
    if factor is None:
        return None
    shares = (factor / factor.diagonal(dim1=1, dim2=2)[:, :, None]).float()  # of an error that a later column takes up
    wide = order[:, None, :].expand(-1, rows, -1)  # [G, R, n]
    given, placed = weight.gather(2, wide).transpose(1, 2).contiguous(), lattice.ordered(wide)  # [G, n, R]
    result, errors = torch.empty_like(given), torch.empty_like(given)
    for start in range(0, columns, LAZY):
        stop = min(start + LAZY, columns)
        block = torch.baddbmm(given[:, start:stop], shares[:, start:stop, :start], errors[:, :start])
        for place, column in enumerate(range(start, stop)):
            result[:, column] = placed.nearest(column, block[:, place])
            errors[:, column] = given[:, column] - result[:, column]
            block[:, place + 1 :].baddbmm_(shares[:, column + 1 : stop, column, None], errors[:, column, None])
    return torch.empty_like(weight).scatter_(2, wide, result.transpose(1, 2))
