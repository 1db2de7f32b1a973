"""PE-Core at full depth with filled weights answers as open_clip's code does, and each of its parts matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from golden_checkpoints import fill, golden_images, relative_errors
from safetensors.torch import save_file
from timm.layers import create_rope_embed
from torch import Tensor
from unfilled import Unfilled

from mobileclip_deploy.checkpoints.keymap import pairs_apart
from mobileclip_deploy.checkpoints.loading import Origin, load
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.architecture.attention import rotary_turns
from mobileclip_deploy.model.tokenizer import encode
from mobileclip_deploy.towers import samples

MODELS = {"PE-Core-T-16-384": "pe_core_t16", "PE-Core-S-16-384": "pe_core_s16"}
both = pytest.mark.parametrize("pair", MODELS, indirect=True)
smallest = pytest.mark.parametrize("pair", ["PE-Core-T-16-384"], indirect=True)
SEED = 7
PROMPTS = ["a photo of a dog", "un café, s'il vous plaît", "", "a very long prompt " * 40]
IMAGES = samples.image_paths()[:2]
BOUND = 1e-5


@dataclass
class Pair:
    """One filled checkpoint, opened by open_clip and here."""

    theirs: Any
    ours: MobileCLIP
    name: str

    def images(self) -> tuple[Tensor, Tensor]:
        """The answers of both to the golden images."""
        pixels = golden_images(SEED, 384)
        with torch.no_grad():
            return self.ours.encode_image(pixels), self.theirs.encode_image(pixels)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    name = request.param
    with Unfilled():
        theirs = open_clip.create_model(name, pretrained=None).eval()
    weights = {key: fill(SEED, key, tuple(value.shape)) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights)
    path: Path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(weights, path)
    ours = load(path, origin=Origin(sha256="0" * 64))
    path.unlink()
    assert ours.variant.name == MODELS[name]
    return Pair(theirs, ours, name)


@pytest.mark.whole
@both
def test_the_same_embeddings_of_images(pair: Pair) -> None:
    ours, theirs = pair.images()
    assert relative_errors(ours, theirs) <= BOUND
    assert relative_errors(ours[:1], theirs[1:2]) > 1e-2  # not all the same


@pytest.mark.whole
@both
@torch.no_grad()
def test_the_same_ids_and_embeddings_of_prompts(pair: Pair) -> None:
    ids = open_clip.get_tokenizer(pair.name)(PROMPTS)
    own = torch.from_numpy(encode(PROMPTS, pair.ours.variant.tokens))
    assert own.shape == (len(PROMPTS), 32)
    assert torch.equal(own, ids)
    assert relative_errors(pair.ours.encode_text(own), pair.theirs.encode_text(ids)) <= BOUND


def _of_base(base: float) -> tuple[Tensor, Tensor]:
    """T/16's cosines and sines with another base than 10,000."""
    bands = 1.0 / base ** (torch.arange(16) / 16)
    places = torch.arange(24) + 1.0
    angles = torch.cat((places.repeat(24)[:, None] * bands, places.repeat_interleave(24)[:, None] * bands), dim=-1)
    angles = torch.cat((torch.zeros(1, 64), angles.repeat(1, 2)))
    return angles.cos(), angles.sin()


FAULTS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "another base": lambda cosines, sines: _of_base(100.0),
    "nothing turned": lambda cosines, sines: (torch.ones_like(cosines), torch.zeros_like(sines)),
    "turned the other way": lambda cosines, sines: (cosines, -sines),
    "rows for columns": lambda cosines, sines: tuple(  # type: ignore[return-value]
        table.reshape(-1, 2, 2, 16).flip(2).reshape(table.shape) for table in (cosines, sines)
    ),
    "places counted from 0": lambda cosines, sines: (_earlier(cosines), _earlier(sines)),
    "the class token turned": lambda cosines, sines: (cosines.roll(1, 0), sines.roll(1, 0)),
}


def _earlier(table: Tensor) -> Tensor:
    """The table of a grid whose places begin at 0: each patch has its upper left neighbour's."""
    grid = table[1:].reshape(24, 24, -1)
    return torch.cat((table[:1], grid.roll((1, 1), (0, 1)).reshape(table[1:].shape)))


@pytest.mark.whole
@smallest
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_rotary_positions_is_seen(pair: Pair, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image: Any = pair.ours.image
    cosines, sines = FAULTS[fault](image.cosines, image.sines)
    monkeypatch.setitem(image._buffers, "cosines", cosines)
    monkeypatch.setitem(image._buffers, "sines", sines)
    assert relative_errors(*pair.images()) > 100 * BOUND


@pytest.mark.whole
@smallest
def test_the_class_token_instead_of_the_pool_is_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    image: Any = pair.ours.image
    monkeypatch.setitem(image._modules, "pool", None)
    assert relative_errors(*pair.images()) > 100 * BOUND


@pytest.mark.whole
@torch.no_grad()
def test_the_image_tower_of_b16_at_224_answers_as_open_clip_s(tmp_path: Path) -> None:
    """The image tower alone: with its text tower of 354 million parameters the file would have 1.8 GB."""
    with Unfilled():
        theirs: Any = open_clip.create_model("PE-Core-B-16", pretrained=None).visual.eval()
    weights = {f"visual.{key}": fill(SEED, key, tuple(value.shape)) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict({key.removeprefix("visual."): value for key, value in weights.items()})
    save_file(weights, tmp_path / "pe.safetensors")
    ours = load(tmp_path / "pe.safetensors", origin=Origin(sha256="0" * 64))
    assert ours.variant.name == "pe_core_b16"
    pixels = golden_images(SEED, 224)
    assert relative_errors(ours.encode_image(pixels), theirs(pixels)) <= BOUND


def test_turns_are_timm_s_with_the_pairs_apart() -> None:
    rope = create_rope_embed(
        dim=192, num_heads=3, feat_shape=(24, 24), in_pixels=False, grid_offset=1.0, ref_feat_shape=(24, 24),
        grid_indexing="xy",
    )  # fmt: skip
    sines, cosines = rope.get_embed().chunk(2, -1)
    ours = rotary_turns(24, 24, 64, skipped=1)
    for own, theirs in zip(ours, (cosines, sines), strict=True):
        assert torch.equal(own[1:], torch.cat((theirs[:, ::2], theirs[:, 1::2]), dim=-1))
    assert torch.equal(ours[0][0], torch.ones(64))


def test_the_fault_of_another_base_is_one_of_the_base_alone() -> None:
    for own, made in zip(rotary_turns(24, 24, 64, skipped=1), _of_base(10000.0), strict=True):
        assert torch.allclose(own, made, atol=1e-5)


def test_turns_are_scaled_to_the_grid_that_was_trained() -> None:
    small, large = (rotary_turns(side, 24, 64, skipped=1)[1] for side in (12, 24))
    assert small.shape == (145, 64)
    assert torch.equal(small[0], torch.zeros(64))
    assert torch.equal(small[1:].reshape(12, 12, 64)[5, 3], large[1:].reshape(24, 24, 64)[11, 7])


@pytest.mark.parametrize("shape", [(24,), (24, 5)])
def test_pairs_move_apart_and_back(shape: tuple[int, ...]) -> None:
    there = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    move = pairs_apart(heads=2)
    ours = move.ours(there)
    assert torch.equal(move.theirs(ours), there)
    rows = ours.reshape(24, -1)[:, 0] / (shape[1] if len(shape) > 1 else 1)
    assert rows.tolist() == [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, *range(16, 24)]
