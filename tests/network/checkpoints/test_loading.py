"""Loading: the variant and layout are told, weights of any float type load, and what does not fit is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import checkpoint, same_network
from torch import Tensor

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints import folded, writing
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.folding import fold, is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP

Weights = dict[str, Tensor]
IMAGES = torch.linspace(0, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
IDS = torch.tensor([[90, 5, 6, 91, 0, 0, 0, 0], [90, 91, 0, 0, 0, 0, 0, 0]])


def write(path: Path, data: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(data, path)
    else:
        torch.save(data, path)
    return path


def embed(model: MobileCLIP) -> Tensor:
    with torch.no_grad():
        return torch.cat((model.encode_image(IMAGES), model.encode_text(IDS)))


def refusal(path: Path, variant: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, variant)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin"])
def test_variant_and_layout_are_told_from_the_keys(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"weights{suffix}", checkpoint("tiny_mci", "apple"))
    model = load(path)
    assert model.variant.name == "tiny_mci"
    assert model.towers == ("image", "text")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.provenance.layout == "apple"
    assert model.provenance.sha256 == file_sha256(path)
    assert model.provenance.notes == ()
    assert model.provenance.embedding_space == f"tiny_mci-{str(model.provenance.weights)[:16]}"
    assert model.logit_scale.item() == pytest.approx(3.912, abs=1e-3)


def weights_of(path: Path) -> str:
    provenance = load(path).provenance
    assert provenance.weights is not None
    return provenance.weights


def test_weights_are_known_again_in_another_kind_of_file(tmp_path: Path) -> None:
    weights = checkpoint("tiny_mci", "apple")
    kept = weights_of(write(tmp_path / "a.pt", weights))
    assert weights_of(write(tmp_path / "a.safetensors", weights)) == kept
    assert weights_of(write(tmp_path / "b.pt", {"state_dict": weights})) == kept
    uncounted = {name: value for name, value in weights.items() if "num_batches" not in name}
    assert weights_of(write(tmp_path / "c.pt", uncounted)) == kept
    name = next(name for name in weights if name.endswith("weight"))
    for number, (key, value) in enumerate({name: weights[name] * (1 + 1e-6), "logit_scale": torch.tensor(4.0)}.items()):
        assert weights_of(write(tmp_path / f"{number}.pt", weights | {key: value})) != kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_float_types_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = checkpoint("tiny_mci", "apple")
    reference = embed(load(write(tmp_path / "a.pt", weights)))
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    model = load(write(tmp_path / "b.safetensors", cast))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    tolerance = {torch.float64: 1e-6, torch.float16: 1e-2, torch.bfloat16: 1e-1}[dtype]
    assert (embed(model) - reference).norm() / reference.norm() < tolerance


def test_counters_may_be_missing(tmp_path: Path) -> None:
    weights = {name: value for name, value in checkpoint("tiny_mci", "apple").items() if "num_batches" not in name}
    assert load(write(tmp_path / "a.pt", weights)).variant.name == "tiny_mci"


def test_a_variant_that_is_unknown_or_another_or_lacks_the_layout_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown variant 'tiny_mcj', did you mean tiny_mci"):
        load(tmp_path / "absent.pt", "tiny_mcj")
    path = write(tmp_path / "a.pt", checkpoint("tiny_mci", "apple"))
    assert refusal(path, "tiny_both") == f"{path} is tiny_mci, not tiny_both; say so with `variant`, or leave it out"
    assert "in apple layout, which tiny_five has no checkpoints in; it fits tiny_mci" in refusal(path, "tiny_five")


PEFT = "base_model.model."
TOOLS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "PEFT": (
        lambda weights: {PEFT + name.replace(".fc1.", ".fc1.base_layer."): value for name, value in weights.items()},
        "it has LoRA factors: merge ",
    ),
    "LoRA beside": (
        lambda weights: weights | {"image_encoder.model.head.lora_A.default.weight": torch.zeros(4, 4)},
        "it has LoRA factors: merge them into the weights before saving (PEFT: `merge_and_unload()`)",
    ),
    "ema-pytorch": (
        lambda weights: {
            f"{where}.{name}": value for where in ("online_model", "ema_model") for name, value in weights.items()
        },
        "it has an averaged network and the trained one: save the state_dict of only one",
    ),
    "a head": (
        lambda weights: weights | {"classifier.weight": torch.zeros(3, 24)},
        "does not have: classifier.weight (a head of your own?); delete them from the state_dict and save it again",
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_known_tool_of_training_wrote_names_the_next_step(tool: str, tmp_path: Path) -> None:
    wrap, advice = TOOLS[tool]
    text = refusal(write(tmp_path / "a.pt", wrap(checkpoint("tiny_mci", "apple"))))
    assert advice in text
    assert len(text) < 400


def without(pattern: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if pattern not in name}


def replaced(key: str, value: Callable[[Tensor], Tensor]) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {key: value(weights[key])}


FC1 = "text_encoder.transformer.1.pre_norm_ffn.1.weight"
DAMAGE: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "missing": (without(".convffn.fc1.weight"), "6 missing: image_encoder.model.network.*.*.convffn.fc1.weight"),
    "unexpected": (
        lambda weights: weights | {"text_encoder.extra.weight": torch.ones(1)},
        "text_encoder.extra.weight",
    ),
    "mis-shaped": (
        replaced(FC1, lambda t: t[:5]),
        "1 of another shape: text_encoder.transformer.*.pre_norm_ffn.*.weight [5, 32], wanted [128, 32]",
    ),
    "transposed": (replaced(FC1, lambda t: t.t().contiguous()), "of another shape"),
    "nan": (replaced(FC1, lambda t: t * float("nan")), f"{FC1} holds NaN or infinite weights"),
    "infinite": (replaced(FC1, lambda t: t / 0), f"{FC1} holds NaN or infinite weights"),
    "too large for float32": (replaced(FC1, lambda t: t.double() * 1e300), "weights too large for float32"),
    "integers": (replaced(FC1, lambda t: t.to(torch.int8)), f"{FC1} holds int8 weights"),
    "complex": (replaced(FC1, lambda t: t.to(torch.complex64)), f"{FC1} holds complex64 weights"),
    "nan statistics": (
        replaced("image_encoder.model.patch_embed.0.rbr_conv.0.bn.running_var", lambda t: t * float("nan")),
        "holds NaN",
    ),
}


@pytest.mark.parametrize(("damage", "expected"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("variant", [None, "tiny_mci"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_weights(
    tmp_path: Path, damage: Callable[[Weights], Weights], expected: str, variant: str | None
) -> None:
    path = write(tmp_path / "a.pt", damage(checkpoint("tiny_mci", "apple")))
    assert expected in refusal(path, variant)


def test_what_is_no_checkpoint_of_ours_is_told_in_a_screen(tmp_path: Path) -> None:
    odd = {f"image_encoder.layer{index}.part.weight": torch.ones(1) for index in range(500)}
    text = refusal(write(tmp_path / "a.pt", odd))
    assert "500 unexpected" in text
    assert "496 more" in text
    weights = checkpoint("tiny_mci", "apple") | {"image_encoder.model.patch_embed.0.reparam_conv.weight": torch.ones(1)}
    assert "already reparameterized" in refusal(write(tmp_path / "a.pt", weights))
    weights = {"encoder.layer.0.weight": torch.ones(2), "encoder.layer.1.weight": torch.ones(2)}
    text = refusal(write(tmp_path / "a.pt", weights))
    assert "not a MobileCLIP checkpoint (it has keys such as encoder.layer.*.weight" in text
    assert "open_clip, transformers or this tool" in text
    weights = checkpoint("tiny_both", "apple") | checkpoint("tiny_both", "open_clip")
    assert "mixes layouts (apple and open_clip)" in refusal(write(tmp_path / "a.pt", weights))


def test_apple_tower_alone(tmp_path: Path) -> None:
    weights = {name: value for name, value in checkpoint("tiny_mci", "apple").items() if name.startswith("image_")}
    model = load(write(tmp_path / "a.pt", weights), "tiny_mci")
    assert model.towers == ("image",)
    assert model.text is None
    assert model.encode_image(IMAGES).shape == (2, 24)
    with pytest.raises(UsageError, match="no text tower"):
        model.encode_text(IDS)


def opened(path: Path) -> tuple[Weights, dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 (not a mapping)


class TestFolded:
    """Our own layout: what was folded and saved loads as it was, and says where it came from."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return write(tmp_path / "tiny_stem.pt", checkpoint("tiny_stem", "open_clip"))

    @pytest.fixture
    def saved(self, source: Path, tmp_path: Path) -> Path:
        model = load(source)
        fold(model)
        folded.save(model, tmp_path / "folded.safetensors")
        return tmp_path / "folded.safetensors"

    def test_a_folded_copy_is_the_same_model_says_so_and_has_the_same_bytes_again(
        self, source: Path, saved: Path, tmp_path: Path
    ) -> None:
        original = load(source)
        fold(original)
        again = load(saved)
        assert is_folded(again)
        assert same_network(again, original)
        assert again.provenance == original.provenance
        assert again.provenance.layout == "open_clip"
        _, metadata = opened(saved)
        assert metadata["variant"] == "tiny_stem"
        assert metadata["source_sha256"] == file_sha256(source)
        assert metadata["folded"] == "true"
        folded.save(original, tmp_path / "again.safetensors")
        assert file_sha256(tmp_path / "again.safetensors") == file_sha256(saved)

    def test_what_is_no_whole_folded_copy_of_the_variant_is_refused(self, saved: Path, tmp_path: Path) -> None:
        assert "is a tiny_stem checkpoint, not tiny_mci" in refusal(saved, "tiny_mci")
        tensors, _ = opened(saved)
        assert "its metadata is missing" in refusal(write(tmp_path / "bare.safetensors", tensors))
        tensors, metadata = opened(saved)
        tensors["image.stem.0.bn.weight"] = torch.ones(8)
        save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
        assert "is not a complete folded tiny_stem: 1 unexpected: image.stem.*.bn.weight" in refusal(
            tmp_path / "x.safetensors"
        )

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("mobileclip_deploy", "{}", "damaged metadata"),
            ("mobileclip_deploy", "not json", "damaged metadata"),
            ("variant", "unknown", "written by another version"),
        ],
    )
    def test_damaged_metadata(self, saved: Path, tmp_path: Path, key: str, value: str, expected: str) -> None:
        tensors, metadata = opened(saved)
        if key == "variant":
            metadata["mobileclip_deploy"] = metadata["mobileclip_deploy"].replace('"tiny_stem"', f'"{value}"')
        else:
            metadata[key] = value
        save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
        assert expected in refusal(tmp_path / "x.safetensors")

    def test_a_licence_is_the_cards_whatever_the_file_says(self, saved: Path, tmp_path: Path) -> None:
        tensors, metadata = opened(saved)
        told = json.loads(metadata["mobileclip_deploy"]) | {"licence": "MIT", "research_only": True}
        metadata["mobileclip_deploy"] = json.dumps(told)
        save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
        assert load(tmp_path / "x.safetensors").provenance == load(saved).provenance

    def test_training_form_a_missing_folder_and_another_suffix_are_refused(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="only folded models"):
            folded.save(load(source), tmp_path / "x.safetensors")
        assert not (tmp_path / "x.safetensors").exists()
        model = load(source)
        fold(model)
        with pytest.raises(InvalidInput, match=r"there is no folder .*absent; make it, or choose"):
            folded.save(model, tmp_path / "absent" / "x.safetensors")
        with pytest.raises(InvalidInput, match=r"as \.safetensors, not x\.pt"):
            folded.save(model, tmp_path / "x.pt")

    def test_failed_save_leaves_nothing(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = load(source)
        fold(model)
        (tmp_path / "out").mkdir()
        monkeypatch.setattr(writing, "save_file", Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(InvalidInput, match="no room is left"):
            folded.save(model, tmp_path / "out" / "x.safetensors")
        assert not list((tmp_path / "out").iterdir())
