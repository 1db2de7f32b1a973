"""PE-Core, SigLIP2 and OpenVision at full depth with filled weights answer as open_clip's code does, and each of their
parts matters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from checkpoints.test_openvision import ODD
from golden_checkpoints import fill, golden_images, relative_errors
from open_clip.model import CLIP, CustomTextCLIP
from pieces import texts, tokenizer_json, vocab_txt
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from unfilled import Unfilled

from mobileclip_deploy.network.checkpoints.fitting import fitting
from mobileclip_deploy.network.checkpoints.loading import Origin, load
from mobileclip_deploy.network.checkpoints.open_clip import canonical_names
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.sentencepiece import reach, without
from mobileclip_deploy.network.model.tokenizer import encode

pytestmark = pytest.mark.whole  # test_against_open_clip.py

SEED, BOUND, FLOOR = 7, 1e-5, 1e-13
NAMES = {
    "pe_core_t16": "PE-Core-T-16-384",
    "pe_core_s16": "PE-Core-S-16-384",
    "pe_core_b16": "PE-Core-B-16",
    "siglip2_b32_256": "ViT-B-32-SigLIP2-256",
    "siglip2_b16_256": "ViT-B-16-SigLIP2-256",
}
PE_CORE, SIGLIP2 = ("pe_core_t16", "pe_core_s16"), ("siglip2_b32_256", "siglip2_b16_256")
OPENVISION = {"openvision_t16": (192, 3), "openvision_s16": (384, 6)}
VOCABULARY = 900
SCORES = {"logit_bias": -11.5, "logit_scale": 4.72}  # exp(4.72) is 112: more than CLIP's bound of 100
PROMPTS = [
    *texts("de", 6),
    *texts("ja", 3),
    "a photo of a dog",
    "un café, s'il vous plaît",
    *ODD,
]


@dataclass
class Pair:
    """One filled checkpoint, opened by open_clip, which is asked once, and here. Answers: ours first."""

    theirs: Any
    ours: MobileCLIP

    @cached_property
    def pixels(self) -> Tensor:
        """The golden images."""
        return golden_images(SEED, self.ours.variant.preprocess.size)

    @cached_property
    def ids(self) -> Tensor:
        return torch.from_numpy(encode(PROMPTS, self.ours.variant.tokens))

    @cached_property
    def their_images(self) -> Tensor:
        return self.theirs.encode_image(self.pixels)

    @cached_property
    def their_texts(self) -> Tensor:
        return self.theirs.encode_text(self.ids)

    @torch.no_grad()
    def images(self, ours: MobileCLIP | None = None) -> tuple[Tensor, Tensor]:
        """`ours`: a damaged copy, if not the network as it is."""
        return (ours or self.ours).encode_image(self.pixels), self.their_images

    @torch.no_grad()
    def texts(self, ours: MobileCLIP | None = None) -> tuple[Tensor, Tensor]:
        return (ours or self.ours).encode_text(self.ids), self.their_texts


def openvision(width: int, heads: int) -> Any:
    """open_clip's network of openvision-vit-*-patch16-224 (UCSC-VLAA/OpenVision, model_configs)."""
    eps = {"norm_kwargs": {"eps": 1e-6}}
    image: dict[str, Any] = {"image_size": 224, "layers": 12, "width": width, "patch_size": 16, "head_width": 64}
    image |= {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True} | eps
    text: dict[str, Any] = {"context_length": 80, "vocab_size": 32000, "width": width, "heads": heads, "layers": 12}
    text |= {"pool_type": "last", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}} | eps
    return CLIP(embed_dim=width, vision_cfg=image, text_cfg=text)


def network(variant: str) -> Any:
    """open_clip's. The vocabulary alone is small where it belongs to the checkpoint."""
    if variant in OPENVISION:
        return openvision(*OPENVISION[variant])
    if variant not in SIGLIP2:
        return open_clip.create_model(NAMES[variant])
    settings = copy.deepcopy(open_clip.get_model_config(NAMES[variant]))
    settings["text_cfg"]["vocab_size"] = VOCABULARY
    settings.pop("custom_text")
    return CustomTextCLIP(**settings)


def opened(variant: str, folder: Path, start: str = "") -> Pair:
    """A pair of the variant's tensors whose names begin with `start`, with their vocabulary beside them."""
    with Unfilled():
        theirs = network(variant).eval()
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items() if key.startswith(start)}
    weights = {key: fill(SEED, key, shape) for key, shape in shapes.items()}
    if variant in SIGLIP2:
        weights |= {key: torch.full(shapes[key], value) for key, value in SCORES.items()}
        (folder / "tokenizer.json").write_text(tokenizer_json(VOCABULARY), encoding="utf-8")
    if variant in OPENVISION:
        (folder / "vocab.txt").write_text(vocab_txt(), encoding="utf-8")
    theirs.load_state_dict(weights, strict=not start)
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path)
    ours = load(path, origin=Origin(sha256="0" * 64))
    path.unlink()
    assert ours.variant.name == variant
    return Pair(theirs, ours)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return opened(request.param, tmp_path_factory.mktemp("weights"))


def of(*variants: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", variants, indirect=True)


@pytest.mark.parametrize("variant", ["pe_core_s16", "siglip2_b16_256", "openvision_s16"])
def test_other_widths_have_the_same_names_and_shapes(variant: str) -> None:
    """Networks of the kinds that are filled below."""
    with Unfilled():
        theirs = network(variant).state_dict()
    shapes = {ours: tuple(theirs[name].shape) for ours, name in canonical_names(theirs).items()}
    assert variant in [one.variant.name for one in fitting("open_clip", shapes)]


@of("pe_core_t16", "siglip2_b32_256", "openvision_t16")
def test_the_same_embeddings(pair: Pair) -> None:
    ours, theirs = pair.images()
    assert relative_errors(ours, theirs) <= BOUND
    assert relative_errors(ours[:1], theirs[1:2]) > 1e-2  # not all the same
    assert relative_errors(*pair.texts()) <= BOUND


@of("openvision_t16")
def test_the_same_numbers_in_float64(pair: Pair) -> None:
    doubled = Pair(copy.deepcopy(pair.theirs).double(), copy.deepcopy(pair.ours).double())
    doubled.pixels, doubled.ids = pair.pixels[:1].double(), pair.ids[::4]
    assert relative_errors(*doubled.images()) <= FLOOR
    assert relative_errors(*doubled.texts()) <= FLOOR


@of("siglip2_b32_256")
def test_the_same_sigmoid_scores(pair: Pair) -> None:
    with torch.no_grad():
        images, words = (F.normalize(found, dim=1).double() for found in (pair.their_images, pair.their_texts))
        cosines = images @ words.T
        wanted = torch.sigmoid(pair.theirs.logit_scale.exp() * cosines + pair.theirs.logit_bias)
    assert np.allclose(pair.ours.scores.of(cosines.numpy()), wanted.numpy(), rtol=1e-6, atol=0)


def test_the_image_tower_of_pe_core_b16_at_224_answers_as_open_clip_s(tmp_path: Path) -> None:
    """The image tower alone: with its text tower of 354 million parameters the file would have 1.8 GB."""
    assert relative_errors(*opened("pe_core_b16", tmp_path, "visual.").images()) <= BOUND


Plant = Callable[[Any], object]


def shifted(name: str, axis: int = 0) -> Plant:
    """Each entry of a tensor gets its neighbour's place."""

    def plant(model: Any) -> None:
        tensor = attrgetter(name)(model)
        tensor.data = tensor.data.roll(1, axis)

    return plant


def replaced(name: str, value: object) -> Plant:
    owner, _, leaf = name.rpartition(".")
    return lambda model: setattr(attrgetter(owner)(model), leaf, value)


def exact_gelu(model: Any) -> None:
    for block in model.text.blocks:
        block.act = torch.nn.GELU()


def keys_for_values(model: Any) -> None:
    for own in (model.image.pool.key_value.weight, model.image.pool.key_value.bias):
        own.data = own.data.roll(own.shape[0] // 2, 0)


def turned(change: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> Plant:
    """Another table of rotary cosines and sines."""

    def plant(model: Any) -> None:
        model.image.cosines, model.image.sines = change(model.image.cosines, model.image.sines)

    return plant


def with_base(base: float) -> tuple[Tensor, Tensor]:
    """T/16's cosines and sines with another base than 10,000."""
    bands = 1.0 / base ** (torch.arange(16) / 16)
    places = torch.arange(24) + 1.0
    angles = torch.cat((places.repeat(24)[:, None] * bands, places.repeat_interleave(24)[:, None] * bands), dim=-1)
    angles = torch.cat((torch.zeros(1, 64), angles.repeat(1, 2)))
    return angles.cos(), angles.sin()


def earlier(table: Tensor) -> Tensor:
    """The table of a grid whose places begin at 0: each patch has its upper left neighbour's."""
    grid = table[1:].reshape(24, 24, -1)
    return torch.cat((table[:1], grid.roll((1, 1), (0, 1)).reshape(table[1:].shape)))


# Each begins with the tower that it damages.
FAULTS: dict[str, dict[str, Plant]] = {
    "pe_core_t16": {
        "image: another base": turned(lambda cosines, sines: with_base(100.0)),
        "image: nothing turned": turned(lambda cosines, sines: (torch.ones_like(cosines), torch.zeros_like(sines))),
        "image: turned the other way": turned(lambda cosines, sines: (cosines, -sines)),
        "image: rows for columns": turned(
            lambda *tables: tuple(table.reshape(-1, 2, 2, 16).flip(2).reshape(table.shape) for table in tables)
        ),
        "image: places counted from 0": turned(lambda *tables: tuple(map(earlier, tables))),
        "image: the class token turned": turned(lambda *tables: tuple(table.roll(1, 0) for table in tables)),
        "image: the class token instead of the pool": replaced("image.pool", None),
    },
    "siglip2_b32_256": {
        "text: positions shifted by one": shifted("text.positional_embedding"),
        "text: pooled at the largest id instead of at the last place": replaced("text.pooling", "end_of_text"),
        "text: another form of GELU": exact_gelu,
        "text: the projection's bias dropped": lambda model: model.text.projection.bias.data.zero_(),
        "text: a vocabulary shifted by one": shifted("text.token_embedding.weight"),
        "image: the first patch instead of the pooled token": replaced("image.pool", None),
        "image: another pooled query": shifted("image.pool.latent", -1),
        "image: keys and values of the pool swapped": keys_for_values,
        "image: places shifted by one": shifted("image.positional_embedding"),
    },
    "openvision_t16": {
        "image: the class token counted in the mean": replaced("image.skipped", 0),
        "text: positions shifted by one": shifted("text.positional_embedding"),
        "text: another form of GELU": exact_gelu,
    },
}


@of(*FAULTS)
def test_every_fault_in_a_tower_is_seen(pair: Pair) -> None:
    variant, seen = pair.ours.variant.name, dict[str, float]()
    for fault, plant in FAULTS[variant].items():
        damaged = copy.deepcopy(pair.ours)
        plant(damaged)
        seen[fault] = relative_errors(*(pair.texts if fault.startswith("text") else pair.images)(damaged))
    least = (100 if variant in PE_CORE else 10) * BOUND
    assert {fault: error for fault, error in seen.items() if not error > least} == {}


@of("siglip2_b32_256")
def test_padding_on_the_other_side_is_seen(pair: Pair) -> None:
    moved = torch.stack([torch.cat((row[row == 0], row[row != 0])) for row in pair.ids])
    with torch.no_grad():
        assert relative_errors(pair.ours.encode_text(moved), pair.their_texts) > 1e-2


@of("siglip2_b32_256")
def test_a_cut_vocabulary_gives_the_same_embeddings(pair: Pair) -> None:
    full = pair.ours.variant.tokens
    seen = texts("de", 100)
    rows = reach(full, set(encode(seen, full).ravel().tolist()))
    cut = without(full, rows)
    assert pair.ours.text is not None
    small = copy.deepcopy(pair.ours.text)
    small.token_embedding.weight = torch.nn.Parameter(small.token_embedding.weight[list(rows)])
    with torch.no_grad():
        found = small(torch.from_numpy(encode(seen[:4], cut)))
        assert torch.equal(found, pair.ours.encode_text(torch.from_numpy(encode(seen[:4], full))))
