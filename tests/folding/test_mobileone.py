"""MobileOne blocks fold into one convolution, whichever branches they have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from folding_support import deviation, trained

from mobileclip_deploy.folding.branches import FoldMobileOne
from mobileclip_deploy.model.architecture.mobileone import MobileOneBlock

BLOCKS: dict[str, dict[str, Any]] = {
    "all branches": {"cin": 8, "cout": 8, "kernel": (3, 3)},
    "strided, no skip": {"cin": 8, "cout": 8, "kernel": (3, 3), "stride": 2},
    "widening": {"cin": 4, "cout": 12, "kernel": (3, 3)},
    "depthwise": {"cin": 8, "cout": 8, "kernel": (3, 3), "groups": 8},
    "grouped": {"cin": 8, "cout": 8, "kernel": (3, 3), "groups": 2},
    "pointwise": {"cin": 8, "cout": 8, "kernel": (1, 1)},
    "text mixer": {"cin": 8, "cout": 8, "kernel": (1, 11), "groups": 8, "activation": False},
    "skip alone": {"cin": 8, "cout": 8, "kernel": (3, 3), "groups": 8, "branches": 0, "scale_branch": False},
    "three branches": {"cin": 8, "cout": 8, "kernel": (3, 3), "branches": 3},
    "no scale branch": {"cin": 3, "cout": 8, "kernel": (3, 3), "scale_branch": False},
    "squeeze-excite": {"cin": 8, "cout": 8, "kernel": (3, 3), "squeeze": 2},
}


@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=BLOCKS)
def test_output_is_kept_and_one_convolution_is_left(arguments: dict[str, Any]) -> None:
    block = trained(MobileOneBlock(**arguments))
    x = torch.randn(2, arguments["cin"], 9, 13, dtype=torch.float64)
    before = block(x)
    assert FoldMobileOne().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in block.modules())
    assert [name for name, _ in block.named_parameters() if not name.startswith("se.")] == ["conv.weight", "conv.bias"]


def test_a_second_fold_finds_nothing() -> None:
    block = trained(MobileOneBlock(8, 8, (3, 3)))
    FoldMobileOne().apply(block)
    assert FoldMobileOne().apply(block) == 0
