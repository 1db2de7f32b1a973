"""Quantized towers for XNNPACK: int8 that is int8, sizes, and stages that name what broke."""

from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny import tiny_variant
from torch import nn

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import ImageTower, make_tower
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.folding import PASSES
from mobileclip_deploy.network.folding.batch_norms import FoldAttentionNorm
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.executorch.authoring import authored
from mobileclip_deploy.targets.executorch.backends import FreeShape
from mobileclip_deploy.targets.executorch.quantization import quantize
from mobileclip_deploy.targets.executorch.stages import Stages
from mobileclip_deploy.targets.quiet import quiet
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import layers

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")


@pytest.fixture(scope="module")
def folded() -> tuple[mcd.MobileCLIP, Reference]:
    """The built-in network, folded, and what it answers."""
    model = mcd.load_model()
    mcd.reparameterize(model)
    return model, compute_reference(model, sample_inputs(model))


def test_what_stays_float32_of_an_image_tower_is_what_the_page_says(folded: tuple[mcd.MobileCLIP, Reference]) -> None:
    """By the storage, which `test_storage` holds the file to."""
    module = make_tower(folded[0], "image")
    storage = storage_of(get_target("executorch"), "image", module, "w8a8")
    eight = {layer.name for layer in layers(module) if storage[layer.parameter].kind == "integers"}
    floats = {layer.name for layer in layers(module)} - eight
    assert {layer.name for layer in layers(module) if layer.is_depthwise} < floats
    assert all(
        name.startswith("stem.") or ".downsample." in name or name.endswith(("conv", "se.fc1")) for name in floats
    )
    assert {"projection", "stages.0.blocks.0.ffn.fc1", "stages.3.blocks.0.token_mixer.qkv", "expand.se.fc2"} < eight


@pytest.mark.parametrize("completely", [True, False])
def test_a_tower_that_keeps_a_batch_norm_cannot_pass_as_quantized(completely: bool) -> None:
    """torchao's defect: `prepare_pt2e` fuses a convolution with a BatchNorm although others use the convolution too.

    That is so where the norm before attention is left: the positional convolution also feeds the residual.
    """
    torch.manual_seed(0)
    model = build_model(tiny_variant("tiny_mci"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("layer_scale"):
                nn.init.constant_(parameter, 0.3)
    for one in PASSES:
        if completely or not isinstance(one, FoldAttentionNorm):
            one.apply(model)
    tower, inputs = ImageTower(model).eval(), torch.rand(4, 3, 64, 64)
    seen = Stages("image", tower, inputs, cosine=0.9)
    expected = nullcontext() if completely else pytest.raises(ExportError, match="image tower failed at stage prepared")
    with expected, quiet():
        quantize(authored(tower), "w8a8", inputs, seen, {}, FreeShape())


def test_a_stage_that_changes_the_tower_is_named() -> None:
    torch.manual_seed(0)
    module, other = nn.Linear(4, 8), nn.Linear(4, 8)
    seen = Stages("image", module, torch.eye(4), cosine=0.98)
    seen.same("authored", module)
    with pytest.raises(ExportError, match="image tower failed at stage prepared: relative"):
        seen.same("prepared", other)
    with pytest.raises(ExportError, match="image tower failed at stage converted: cosine"):
        seen.near("converted", other)
    assert [(check.step, check.status) for check in seen.checks] == [
        ("authored", "passed"),
        ("prepared", "failed"),
        ("converted", "failed"),
    ]


class Ones:
    """A file that answers the same whatever it is asked."""

    engine = "ones"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        return np.ones((len(inputs), 8), np.float32)


@pytest.mark.parametrize(
    ("outputs", "cosine", "said"), [(8, 0.98, ""), (8, None, ""), (5, None, ": embeddings of shapes")]
)
def test_a_file_that_computes_something_else_than_the_last_stage_is_named(
    outputs: int, cosine: float | None, said: str
) -> None:
    torch.manual_seed(0)
    seen = Stages("image", nn.Linear(4, outputs), torch.eye(4), cosine)
    with pytest.raises(ExportError, match=f"failed at stage lowered{said}"):
        seen.lowered(Ones)
    (check,) = seen.checks
    assert (check.step, check.status) == ("lowered", "failed")
    assert said or check.engine == "ones"


def test_checking_a_stage_leaves_no_trace_in_it() -> None:
    norm = nn.BatchNorm1d(4)  # in training mode: running statistics change with every call
    seen = Stages("image", norm.eval(), torch.eye(4), 0.98)
    norm.train()
    norm.momentum = 0.5
    before = norm.running_mean.clone()
    with pytest.raises(ValueError, match="more than 1 value"):
        seen.same("prepared", norm, observes=True)
    assert torch.equal(norm.running_mean, before)
