"""GPTQ against the equations of its paper, and what it is for: an error that inputs do not see costs nothing."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mobileclip_deploy.rounding.columns import DAMPING, damped, round_columns
from mobileclip_deploy.rounding.moments import Moments
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, integers_of, tables_of
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.grids.lattice import IntegerLattice, Lattice, lattice_of
from mobileclip_deploy.targets.grids.palette import palette, weighted_table

Doubles = npt.NDArray[np.float64]


def layer(rows: int = 12, columns: int = 160, groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [G, R, n], and second moments [G, n, n] of inputs that depend on each other."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(groups, rows, columns, generator=generator)
    inputs = torch.randn(groups, 3 * columns, columns, generator=generator)
    inputs = inputs @ torch.randn(groups, columns, columns, generator=generator) + inputs
    return weight, inputs.transpose(1, 2) @ inputs


def free(weight: torch.Tensor, high: int = 7) -> IntegerLattice:
    """One scale per output, and nothing pinned: what the paper has."""
    scales = weight.abs().amax(dim=2, keepdim=True) / high
    return IntegerLattice(scales.expand_as(weight), torch.zeros_like(weight), -high, high)


def published(weight: Doubles, hessian: Doubles, scales: Doubles, high: int) -> Doubles:
    """Rows [R, n] by equations 2 and 3 of arXiv 2210.17323, as they stand there: the remaining columns take up the
    error, and the inverse loses the row and column of the one that was rounded by a step of Gaussian elimination."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    left, inverse = weight[:, order].copy(), hessian[np.ix_(order, order)]
    inverse = np.linalg.inv(inverse + DAMPING * np.diag(hessian).mean() * np.eye(len(hessian)))
    rounded = np.zeros_like(left)
    for q in range(left.shape[1]):
        rounded[:, q] = np.clip(np.round(left[:, q] / scales), -high, high) * scales
        step = (left[:, q] - rounded[:, q]) / inverse[q, q]
        left[:, q:] -= np.outer(step, inverse[q, q:])
        inverse = inverse - np.outer(inverse[:, q], inverse[q, :]) / inverse[q, q]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result


def test_a_layer_is_rounded_as_the_papers_equations_round_it() -> None:
    weight, hessian = layer()  # more columns than are summed at once
    found = round_columns(weight, hessian, free(weight))
    scales = (weight[0].abs().amax(dim=1) / 7).double().numpy()
    wanted = published(weight[0].double().numpy(), hessian[0].double().numpy(), scales, 7)
    integers_found = (found[0] / (weight[0].abs().amax(dim=1, keepdim=True) / 7)).round().numpy()
    # In float32 a number that stands next to the middle of two may go to the other one: none does here.
    assert np.array_equal(integers_found, np.round(wanted / scales[:, None]))
    assert not np.array_equal(integers_found, np.round(weight[0].numpy() / scales[:, None]))


def test_a_layer_is_rounded_as_apples_implementation_rounds_it() -> None:
    from coremltools.optimize.torch.layerwise_compression.algorithms import GPTQ, ModuleGPTQConfig

    torch.manual_seed(0)
    linear, inputs = torch.nn.Linear(160, 12, bias=False), torch.randn(480, 160) @ torch.randn(160, 160)
    weight = linear.weight.detach().clone()
    options = {"weight_dtype": "uint4", "granularity": "per_channel", "use_activation_order_heuristic": True}
    theirs = GPTQ(linear, ModuleGPTQConfig.from_dict(options))
    with torch.no_grad():
        theirs.add_batch(inputs, linear(inputs))
        theirs.compress()
    scales = theirs._quantizer.scale  # [12, 1]
    lattice = IntegerLattice(scales.expand(1, 12, 160), torch.zeros(1, 12, 160), -8, 7)
    found = round_columns(weight[None], (inputs.T @ inputs)[None], lattice)
    assert torch.equal((found[0] / scales).round(), (linear.weight.detach() / scales).round())
    assert not torch.equal((found[0] / scales).round(), (weight / scales).round().clamp(-8, 7))


def test_groups_are_rounded_as_layers_of_their_own() -> None:
    weight, hessian = layer(rows=3, columns=49, groups=4)
    together = round_columns(weight, hessian, free(weight))
    for number in range(4):
        part = slice(number, number + 1)
        alone = round_columns(weight[part], hessian[part], free(weight[part]))
        assert alone is not None
        assert torch.equal(together[part], alone)


def test_independent_inputs_leave_every_number_at_its_nearest() -> None:
    weight, _ = layer()
    lattice = free(weight)
    found = round_columns(weight, torch.diag_embed(torch.rand(1, 160) + 0.1), lattice)
    assert found is not None
    assert torch.allclose(found, (weight / lattice.scales).round() * lattice.scales)


def test_an_error_costs_less_than_that_of_the_nearest() -> None:
    weight, hessian = layer()
    moments = Moments(hessian, torch.zeros(1, 160), torch.ones(1))
    lattice = free(weight)
    found = round_columns(weight, hessian, lattice)
    nearest = (weight / lattice.scales).round() * lattice.scales
    assert moments.cost(weight - found) < 0.5 * moments.cost(weight - nearest)


def test_inputs_that_are_always_zero_and_moments_without_an_inverse_do_no_harm() -> None:
    weight, hessian = layer()
    hessian[:, :40] = hessian[:, :, :40] = 0  # never seen
    hessian[:, 50] = hessian[:, 51]  # and two that are always the same
    hessian[:, :, 50] = hessian[:, :, 51]
    lattice = free(weight)
    found = round_columns(weight, hessian, lattice)
    assert bool(torch.isfinite(found).all())
    assert torch.allclose(found[:, :, :40], ((weight / lattice.scales).round() * lattice.scales)[:, :, :40])


def test_moments_that_are_no_numbers_are_said_to_be_none() -> None:
    weight, hessian = layer()
    hessian[0, 3, 3] = torch.nan
    assert damped(hessian) is None
    assert round_columns(weight, hessian, free(weight)) is None


GRIDS = {
    "int8": (integers(8, scale_bytes=4), (24, 64, 1, 1)),
    "int8 depthwise": (integers(8, scale_bytes=4), (64, 1, 7, 7)),
    "int4 blocks": (integers(4, block=32, scale_bytes=4), (24, 80)),
    "int4 with a longer end": (Grid(4, "integers", block=16, low=-8, high=7, scale_bytes=2), (24, 80)),
    "int4 of scales above 0": (Grid(4, "integers", block=16, low=-8, high=7, scale_bytes=2, positive=True), (24, 80)),
    "a table": (Grid(4, "table"), (24, 64)),
    "tables of groups": (Grid(4, "table", group=8), (24, 64)),
}


def learned(name: str) -> tuple[torch.Tensor, Lattice]:
    """A weight that was rounded on a grid, and its lattice."""
    grid, shape = GRIDS[name]
    groups = shape[0] if shape[1] == 1 else 1
    weight, hessian = layer(shape[0] // groups, int(np.prod(shape[1:])), groups)
    lattice = lattice_of(grid, weight.reshape(shape), hessian.diagonal(dim1=1, dim2=2))
    found = round_columns(weight, hessian, lattice)
    return found.reshape(shape), lattice


@pytest.mark.parametrize("name", ["int8", "int8 depthwise"])
def test_the_scale_of_an_output_is_found_again(name: str) -> None:
    weight = learned(name)[0].numpy()
    integers_found, scales = int8_channels(weight, 0)
    assert np.abs(integers_found * scales - weight).max() < 1e-6 * np.abs(weight).max()


def test_the_scale_of_a_block_is_found_again() -> None:
    weight = learned("int4 blocks")[0]
    blocks = torch.nn.functional.pad(weight, (0, 16)).reshape(24, 3, 32)  # the last block is shorter
    scales = blocks.abs().amax(dim=2, keepdim=True) / 7
    assert torch.allclose((blocks / scales).round() * scales, blocks, rtol=1e-6)


def test_the_scale_that_is_searched_for_is_found_again() -> None:
    weight = learned("int4 with a longer end")[0].numpy()
    integers_found, scales = int4_blocks(weight, 16)
    assert np.array_equal((integers_found * scales[..., None]).reshape(24, 80), weight)
    assert (integers_found.min(), integers_found.max()) == (-8, 7)


@pytest.mark.parametrize("name", ["int4 of scales above 0", "tables of groups"])
def test_core_ai_finds_the_learned_numbers_again(name: str) -> None:
    weight, grid = learned(name)[0], GRIDS[name][0]
    if grid.kind == "table":
        indices, tables = tables_of(weight, grid)
        entries = tables.reshape(-1, 16).float().repeat_interleave(8, dim=0)
        assert torch.equal(entries.gather(1, indices.long()), weight)
        return
    integers_found, scales = integers_of(weight, grid)
    assert torch.equal(integers_found * scales.float().repeat_interleave(16, dim=1), weight)
    assert bool((scales > 0).all())
    assert (int(integers_found.min()), int(integers_found.max())) == (-8, 7)


@pytest.mark.parametrize("name", ["a table", "tables of groups"])
def test_a_table_is_found_again(name: str) -> None:
    weight, lattice = learned(name)
    parts = weight.split(GRIDS[name][0].group or 24)
    assert len(parts) == len(lattice.entries)
    for part, entries in zip(parts, lattice.entries, strict=True):
        table, indices = palette(part.half().numpy(), 4)
        assert np.array_equal(table[indices].reshape(part.shape), part.numpy())
        assert set(part.flatten().tolist()) <= set(entries.tolist())


def test_numbers_that_cost_more_get_the_entries() -> None:
    values = np.concatenate([np.linspace(-1, 0, 500), np.linspace(0, 1, 500)]).astype(np.float32)
    weights = np.where(values > 0, 1.0, 1e-3).astype(np.float32)
    assert (weighted_table(values, weights, 4) > 0).sum() > 10
    assert np.allclose(weighted_table(values, np.ones_like(values), 2), [-0.75, -0.25, 0.25, 0.75], atol=2e-3)
