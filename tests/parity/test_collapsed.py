"""Deviations are judged against the differences between inputs, where there are any."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import checkpoint, write_cards

import mobileclip_deploy as mcd
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model import variants
from mobileclip_deploy.parity import Check, Gates, compare
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.parity.reference import Reference

RANDOM = np.random.default_rng(0)
COMMON, OWN, NOISE = RANDOM.standard_normal((1, 64)), *RANDOM.standard_normal((2, 16, 64))


def collapsed(differing: float, inputs: int = 16) -> np.ndarray:
    """Embeddings that differ by a share of their length."""
    return COMMON + differing * OWN[:inputs]


@pytest.mark.parametrize("precision", ["fp16", "w8", "w4"])
def test_rounding_above_the_differences_between_inputs_fails_however_near_the_cosine(precision: str) -> None:
    ref = collapsed(1e-3)
    found = compare(ref, ref + 2e-3 * NOISE)
    assert found.cosine > 0.99999
    assert found.snr_db == pytest.approx(-6, abs=1)
    assert found.spread == pytest.approx(1e-3, rel=0.2)
    assert not passes(found, Gates().shipped(precision))
    assert passes(found, Gates(snr=-10).shipped(precision))
    text = Check.measured("shipped", "image", found, Gates().shipped(precision), "x").describe()
    assert "SNR >= 10 dB" in text
    assert "SNR -6" in text


def test_what_differs_ten_times_as_much_passes() -> None:
    ref = collapsed(1e-3)
    assert passes(compare(ref, ref + 1e-4 * NOISE), Gates().shipped("fp16"))


@pytest.mark.parametrize("ref", [collapsed(1, inputs=1), np.repeat(collapsed(1, inputs=1), 16, axis=0)])
def test_one_picture_and_equal_pictures_are_not_judged_by_their_differences(ref: np.ndarray) -> None:
    found = compare(ref, ref + 1e-3 * NOISE[: len(ref)])
    assert (found.snr_db, found.decibels) == (None, "not judged")
    assert passes(found, Gates().shipped("fp16"))
    assert not passes(compare(ref, ref + NOISE[: len(ref)]), Gates().shipped("fp16"))


def reference(embeddings: np.ndarray, ids: np.ndarray) -> Reference:
    prompts = tuple(map(str, range(len(ids))))
    inputs = Inputs((), prompts, np.zeros((0, 3, 1, 1), np.float32), ids)
    return Reference(inputs, {"text": embeddings.astype(np.float32)}, folded=True)


def test_a_checkpoint_that_answers_different_inputs_alike_is_named() -> None:
    ids = np.arange(16)[:, None]
    said = reference(collapsed(1e-3), ids).collapsed("text")
    assert (
        "text tower of the checkpoint itself has collapsed: its embeddings of 16 different texts differ by 0.001"
        in said
    )
    assert reference(collapsed(0), ids).collapsed("text") is not None
    assert reference(collapsed(0.1), ids).collapsed("text") is None
    assert reference(collapsed(0), 0 * ids).collapsed("text") is None


@pytest.mark.slow
def test_a_collapsed_network_fails_at_half_precision_and_its_float32_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = variants._cards() | write_cards(tmp_path)
    monkeypatch.setattr(variants, "_cards", lambda: cards)
    image = {key: value for key, value in checkpoint("tiny_five", "open_clip").items() if key.startswith("visual.")}
    save_file(image, tmp_path / "mine.safetensors")
    model = mcd.load_model("tiny_five", tmp_path / "mine.safetensors", preprocess="card")
    with torch.no_grad():  # 1e-4 of an embedding is the picture's, and less than float16 can tell; the rest is common
        model.image.projection.weight.mul_(1e-6)
        model.image.projection.bias.fill_(2**-13)
    bundle = mcd.export(model, "onnx", "fp16", tmp_path, tower="image", allow_failing=True)
    states = {check.step: check.status for check in bundle.parity}
    assert (states["twin"], states["shipped"]) == ("passed", "failed")
    compared = mcd.compare([bundle])
    assert compared.bundles[0].status == "failed"
    assert [note for note in compared.notes if "image tower of the checkpoint itself has collapsed" in note]
