"""The network in training form: what the cards say is what is built, and what differs between layouts differs."""

import pytest
import torch
from tiny import tiny_variant
from torch import nn
from torch.nn import functional

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.architecture.attention import ChannelLayerNorm, QuickGELU, SelfAttention, attend
from mobileclip_deploy.network.model.architecture.mobileone import MobileOneBlock
from mobileclip_deploy.network.model.variants import load_variant, variant_names

IDS = torch.tensor([[90, 5, 6, 91, 0, 0, 0, 0], [90, 91, 0, 0, 0, 0, 0, 0]])


def norms(model: MobileCLIP) -> set[float]:
    """The epsilons of the image tower's LayerNorms."""
    return {module.eps for module in model.image.modules() if isinstance(module, nn.LayerNorm)}


@pytest.mark.parametrize("name", variant_names())
def test_cards_state_the_parameters_that_the_network_has(name: str) -> None:
    card = load_variant(name)
    model = build_model(card.for_layout(next(iter(card.layouts))), "meta")
    assert sum(parameter.numel() for parameter in model.image.parameters()) == card.parameters_image
    texts = 0 if model.text is None else sum(parameter.numel() for parameter in model.text.parameters())
    assert texts == card.parameters_text
    assert (card.text is None) == (texts == 0)


@pytest.mark.once(by=lambda given: load_variant(str(given["name"])).image.kind)
@pytest.mark.parametrize("name", variant_names())
def test_no_strided_1x1_convolution_sees_few_channels(name: str) -> None:
    """Their gradient's memory is written past its end by oneDNN, channels last, where there are fewer than 16."""
    card = load_variant(name)
    model = build_model(card.for_layout(next(iter(card.layouts))), "meta")
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    points = [one for one in convolutions if one.kernel_size == (1, 1) and one.stride != (1, 1)]
    assert all(one.in_channels >= 16 for one in points), points


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (4, 4)])
def test_a_scale_branch_sees_the_pixels_of_a_strided_convolution(size: int, channels: int, groups: int) -> None:
    block = MobileOneBlock(channels, 8, (3, 3), stride=2, groups=groups, activation=False).eval()
    pixels = torch.rand(2, channels, size, size)
    strided = functional.conv2d(pixels, block.scale.conv.weight, stride=2, groups=groups)
    torch.testing.assert_close(block(pixels), block.branches[0](pixels) + block.scale.bn(strided))


class TestB:
    """ViT-B/16 with a convolutional stem: Apple's and timm's definitions differ."""

    def test_apples_stem_is_padded_and_its_epsilons_are_1e_5(self) -> None:
        model = build_model(load_variant("mobileclip_b").for_layout("apple"), "meta")
        assert model.image.stem[0].conv.padding == (1, 1)  # type: ignore[index,union-attr]
        assert [model.image.stem[i].conv.padding for i in (2,)] == [(0, 0)]  # type: ignore[index,union-attr]
        assert model.image.stem[4].padding == (0, 0)  # type: ignore[index,union-attr]
        assert norms(model) == {1e-5}

    @pytest.mark.parametrize("name", ["mobileclip_b", "mobileclip_blt", "mobileclip2_b"])
    def test_timms_is_not_and_they_are_1e_6(self, name: str) -> None:
        model = build_model(load_variant(name).for_layout("open_clip"), "meta")
        assert model.image.stem[0].conv.padding == (0, 0)  # type: ignore[index,union-attr]
        assert norms(model) == {1e-6}

    def test_both_give_one_token_a_patch(self) -> None:
        for layout in ("apple", "open_clip"):
            model = build_model(tiny_variant("tiny_stem").for_layout(layout))
            assert model.image.stem(torch.zeros(1, 3, 64, 64)).shape[2:] == (4, 4)


@pytest.mark.parametrize("name", [n for n in variant_names() if n != "nano"])
def test_causal_towers_are_the_ones_known_to_be(name: str) -> None:
    card = load_variant(name)
    looks_back = card.image.kind == "vit" and not name.startswith("siglip") and not name.endswith("l14")
    causal = looks_back or name.startswith(("clip_", "dfn_", "tinyclip_"))
    assert card.text.causal == causal


def test_a_causal_tower_does_not_look_ahead_and_pools_at_the_first_end_of_text() -> None:
    padded = IDS[:1].clone()
    padded[0, 5] = 7
    causal, open_ = (build_model(tiny_variant(name)) for name in ("tiny_stem", "tiny_five"))
    with torch.no_grad():
        assert torch.equal(causal.encode_text(IDS[:1]), causal.encode_text(padded))
        assert not torch.equal(open_.encode_text(IDS[:1]), open_.encode_text(padded))
    model = build_model(tiny_variant("tiny_stem"))
    twice = torch.tensor([[90, 5, 6, 91, 4, 91, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(twice), model.encode_text(IDS[:1]))


def test_ids_may_be_int32() -> None:
    model = build_model(tiny_variant("tiny_five"))
    with torch.no_grad():
        assert torch.equal(model.encode_text(IDS.int()), model.encode_text(IDS))


def test_attention_is_torchs() -> None:
    ours = SelfAttention(32, 4)
    reference = nn.MultiheadAttention(32, 4, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    x = torch.randn(2, 6, 32)
    torch.testing.assert_close(ours(x), reference(x, x, x, need_weights=False)[0])


def test_attention_has_no_tensor_of_five_dimensions() -> None:
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = function(*args, **(kwargs or {}))
            seen.extend(o.dim() for o in (out if isinstance(out, tuple | list) else [out]) if hasattr(o, "dim"))
            return out

    with Watch(), torch.no_grad():
        attend(torch.randn(1, 5, 96), 4)
    assert max(seen) <= 4


def test_quick_gelu() -> None:
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(QuickGELU()(x), x * torch.sigmoid(1.702 * x))
    used = {type(m) for m in build_model(load_variant("clip_vit_b16"), "meta").modules()}
    assert QuickGELU in used
    assert nn.GELU not in used
    assert QuickGELU not in {type(m) for m in build_model(load_variant("clip_vit_b16_laion"), "meta").modules()}


def test_channel_layer_norm_normalises_channels() -> None:
    x = torch.randn(2, 8, 3, 5)
    expected = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ChannelLayerNorm(8)(x), expected)


@pytest.mark.parametrize("name", ["mobileclip_s3", "mobileclip_s4"])
def test_five_stages_shrink_the_image_64_fold(name: str) -> None:
    card = load_variant(name)
    assert len(card.image.widths) == 5  # type: ignore[union-attr]
    model = build_model(card, "meta")
    features = model.image.stages(model.image.stem(torch.zeros(1, 3, 256, 256, device="meta")))  # type: ignore[operator]
    assert features.shape[2:] == (4, 4)


@pytest.mark.parametrize(("tower", "other"), [("image", "text"), ("text", "image")])
def test_a_model_of_one_tower_says_so(tower: str, other: str) -> None:
    model = build_model(tiny_variant("tiny_five"), towers=(tower,))
    assert model.towers == (tower,)
    assert getattr(model, other) is None
    calls = {"image": lambda: model.encode_image(torch.zeros(1, 3, 64, 64)), "text": lambda: model.encode_text(IDS)}
    calls[tower]()
    with pytest.raises(UsageError, match=f"no {other} tower"):
        calls[other]()
