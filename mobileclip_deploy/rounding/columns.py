"""GPTQ (Frantar et al., arXiv 2210.17323): rounds weights column by column; the later columns compensate each error.

The error to minimise is E H E^T. E is the error of a weight [R, n], and H [n, n] are the second moments of its inputs.
The paper moves the remaining columns by (w_q - rounded) / [H^-1]_qq * [H^-1]_q,: (its equation 2), and needs the
inverses of the remaining parts of H. One triangular factor of H itself gives the same result without any inverse (Chen
et al., arXiv 2507.18553: GPTQ is Babai's nearest plane). Let H = S^T S with S lower. Column q is rounded from w_q + sum
over p < q of S_qp / S_qq (w_p - rounded_p). Columns are ordered by their own second moment, the largest first
(`act-order` in the paper's code).
"""

import torch
from torch import Tensor

from mobileclip_deploy.targets.grids.lattice import Lattice

# Share of the mean second moment that is added to each: the paper's own.
DAMPING = 0.01
# Number of tries for a Cholesky factor in float64; each failure raises the damping tenfold.
RAISED = 6
# Columns that get the errors of all earlier ones in one product: the same result, with far less memory traffic.
LAZY = 128


def damped(hessian: Tensor) -> Tensor | None:
    """Returns the lower factors S [G, n, n] of damped second moments S^T S [G, n, n], in float64.

    An input that was always zero gets a moment of its own, and so does not affect others. None if no damping gives a
    factor, or if a moment is not finite.
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
    """Returns the weight on its lattice. None if the second moments have no factor.

    Args:
        weight: [G, R, n] float32, the groups of a convolution, each with R outputs of n inputs.
        hessian: [G, n, n], of each group's inputs.
        lattice: the values that the weights can take.
    """
    rows, columns = weight.shape[1:]
    order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)  # [G, n]
    moved = hessian.gather(1, order[:, :, None].expand(-1, -1, columns))
    moved = moved.gather(2, order[:, None, :].expand(-1, columns, -1))
    factor = damped(moved)
    if factor is None:
        return None
    shares = (factor / factor.diagonal(dim1=1, dim2=2)[:, :, None]).float()  # the shares of an error for later columns
    wide = order[:, None, :].expand(-1, rows, -1)  # [G, R, n]
    ordered, ordered_lattice = weight.gather(2, wide).transpose(1, 2).contiguous(), lattice.ordered(wide)  # [G, n, R]
    result, errors = torch.empty_like(ordered), torch.empty_like(ordered)
    for start in range(0, columns, LAZY):
        stop = min(start + LAZY, columns)
        block = torch.baddbmm(ordered[:, start:stop], shares[:, start:stop, :start], errors[:, :start])
        for offset, column in enumerate(range(start, stop)):
            result[:, column] = ordered_lattice.nearest(column, block[:, offset])
            errors[:, column] = ordered[:, column] - result[:, column]
            block[:, offset + 1 :].baddbmm_(shares[:, column + 1 : stop, column, None], errors[:, column, None])
    return torch.empty_like(weight).scatter_(2, wide, result.transpose(1, 2))
