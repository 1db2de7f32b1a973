"""Each fold takes its modules and nothing else, leaves what is named, and keeps the output."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from folding_support import deviation, trained
from torch import nn

from mobileclip_deploy.network.folding.batch_norms import FoldAttentionNorm, FoldConvBN
from mobileclip_deploy.network.folding.branches import FoldLargeKernel, FoldMobileOne, FoldRepCPE, FoldRepMixer
from mobileclip_deploy.network.folding.pooling import FoldPooledQuery
from mobileclip_deploy.network.model.architecture.attention import AttentionBlock, AttentionPool, TransformerBlock
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN, LargeKernelConv, MobileOneBlock
from mobileclip_deploy.network.model.architecture.repmixer import ConvFFN, RepCPE, RepMixer
from mobileclip_deploy.network.model.architecture.vit import convolutional_stem


class Case(NamedTuple):
    """A module of float64 in eval mode, a fold of it, and the shape that it takes.

    `left`: what is a parameter afterwards, where the fold leaves one convolution. `count`: modules that are folded.
    """

    make: Callable[[], nn.Module]
    fold: Any
    shape: tuple[int, ...]
    left: tuple[str, ...] = ()
    count: int = 1


ONE = ("conv.weight", "conv.bias")
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


def mixer(kernel: tuple[int, int]) -> Callable[[], nn.Module]:
    """A RepMixer whose MobileOne block is folded already, as it is when its own turn comes."""

    def make() -> nn.Module:
        block = trained(RepMixer(8, kernel))
        FoldMobileOne().apply(block)
        return block

    return make


CASES = {
    **{
        f"MobileOne, {name}": Case(lambda own=own: MobileOneBlock(**own), FoldMobileOne, (2, own["cin"], 9, 13), ONE)  # type: ignore[misc]
        for name, own in BLOCKS.items()
    },
    **{
        f"large kernel, stride {stride}, squeeze {squeeze}": Case(
            lambda stride=stride, squeeze=squeeze: LargeKernelConv(8, 16, stride=stride, squeeze=squeeze),  # type: ignore[misc]
            FoldLargeKernel,
            (2, 8, 12, 12),
            ONE,
        )
        for stride in (1, 2)
        for squeeze in (None, 4)
    },
    "RepMixer, image": Case(mixer((3, 3)), FoldRepMixer, (2, 8, 7, 14), ONE),
    "RepMixer, text": Case(mixer((1, 11)), FoldRepMixer, (2, 8, 7, 14), ONE),
    "position encoding": Case(lambda: RepCPE(8), FoldRepCPE, (2, 8, 9, 9), ONE),
    "feed-forward": Case(lambda: ConvFFN(8, 16, (7, 7)), FoldConvBN, (2, 8, 9, 9)),
    "stem as timm's": Case(lambda: convolutional_stem(32, 0), FoldConvBN, (2, 3, 32, 32), count=2),
    "stem as Apple's": Case(lambda: convolutional_stem(32, 1), FoldConvBN, (2, 3, 32, 32), count=2),
    "any geometry": Case(lambda: nn.Sequential(ConvBN(8, 12, (3, 5), 2, groups=4)), FoldConvBN, (2, 8, 11, 11)),
    "BatchNorm before attention": Case(
        lambda: AttentionBlock(16, 2.0, "batch_norm", head_dim=8), FoldAttentionNorm, (2, 16, 5, 5)
    ),
    "pooled query": Case(lambda: AttentionPool(16, 2, 2.0, 1e-5, "gelu"), FoldPooledQuery, (2, 5, 16)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_is_kept_and_nothing_is_left_to_fold(case: Case) -> None:
    block = trained(case.make()) if case.fold is not FoldRepMixer else case.make()
    before = {name for name, _ in block.named_parameters()}
    x = torch.randn(*case.shape, dtype=torch.float64)
    answer = block(x)
    assert case.fold().apply(block) == case.count
    assert deviation(block, answer, x) < 1e-12
    left = [name for name, _ in block.named_parameters() if not name.startswith("se.")]
    assert {*left} != before
    assert not case.left or left == [*case.left]
    assert case.fold().apply(block) == 0
    assert case.fold is FoldAttentionNorm or not any(isinstance(one, nn.BatchNorm2d) for one in block.modules())


@pytest.mark.parametrize(
    ("fold", "module"),
    [
        (FoldAttentionNorm, lambda: AttentionBlock(16, 2.0, "layer_norm", head_dim=8)),
        (FoldConvBN, lambda: nn.Sequential(nn.Conv2d(3, 4, 3))),
        (FoldPooledQuery, lambda: TransformerBlock(16, 2, 2.0, 1e-5, "gelu")),
    ],
)
def test_what_is_none_of_its_modules_is_left_alone(fold: Any, module: Callable[[], nn.Module]) -> None:
    assert fold().apply(trained(module())) == 0
