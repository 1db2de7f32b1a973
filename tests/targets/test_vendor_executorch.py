"""Passes that are left out where they find nothing: the bytes are those that all passes give."""

import contextlib
import gc
import subprocess
import sys
import weakref
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")

from mobileclip_deploy.targets.vendor_internals.executorch import import_exir, released_weights, without_idle_passes


class Busy(nn.Module):
    """Something for half of the passes: batch norms behind a convolution and alone, ReLU, six parts put together."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.fused, self.alone = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        found = torch.relu(self.fused(self.convolution(pixels)))
        return self.alone(torch.softmax(torch.cat([found] * 6, 2), 3))


def lowered(how: AbstractContextManager[None], network: nn.Module | None = None) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    torch.manual_seed(0)
    with torch.no_grad(), how:
        program = torch.export.export((network or Busy()).eval(), (torch.ones(1, 3, 8, 8),), strict=False)
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)


@pytest.mark.slow  # of the pinned version, whose symbols test_vendor_internals.py holds
def test_the_bytes_are_those_that_all_passes_give() -> None:
    """nano's and S0's own bytes were compared when the passes were left out."""
    assert lowered(without_idle_passes()) == lowered(contextlib.nullcontext())


def test_what_is_replaced_is_put_back() -> None:
    from executorch.backends.xnnpack import _passes

    before = _passes.DecomposeBatchNorm.call
    with pytest.raises(ValueError, match="broken"), without_idle_passes():
        assert _passes.DecomposeBatchNorm.call is not before
        raise ValueError("broken")
    assert _passes.DecomposeBatchNorm.call is before


@pytest.mark.slow
def test_weights_go_after_they_are_lowered() -> None:
    kept = []
    for how in (contextlib.nullcontext(), released_weights()):
        network = Busy()
        weight = weakref.ref(network.convolution.weight)
        with how:
            lowered(contextlib.nullcontext(), network)
            del network
        gc.collect()
        kept.append(weight() is not None)
    assert kept == [True, False]  # the first: of executorch 1.5; without it `released_weights` may go


def test_executorchs_table_of_operations_is_read_as_it_reads_it() -> None:
    import_exir()
    from executorch.exir.dialects.edge import _ops

    read = _ops._edge_dialect_info
    assert read
    assert read == _ops._load_edge_dialect_info()


@pytest.mark.slow
def test_executorchs_own_parser_is_not_asked() -> None:
    refused = "from ruamel.yaml import YAML; YAML.load = None; "
    ours = "from mobileclip_deploy.targets.vendor_internals.executorch import import_exir; import_exir(); "
    for before, code in ((ours, 0), ("", 1)):
        program = f"{refused}{before}import executorch.exir"
        assert subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode == code
