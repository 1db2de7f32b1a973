"""Distances between embeddings: closed forms, and figures that no gate passes for whatever is not a number."""

import math

import numpy as np
import pytest
import torch
from command_line import strict_json
from tiny import tiny_variant

from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.parity import Deviation, Gates, compare
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.gates import passes

REF = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])


def passes_any_gate(deviation: Deviation, gates: Gates | None = None) -> bool:
    bounds = [gates or Gates()] if gates else [Gates(), Gates(relative=1e30, cosine=0.0)]
    return any(passes(deviation, bound.shipped(precision)) for bound in bounds for precision in ("fp32", "fp16"))


def test_equal_embeddings_deviate_by_nothing_and_scaling_moves_the_relative_deviation_alone() -> None:
    same, scaled = compare(REF, REF), compare(REF, 1.1 * REF)
    assert (same.relative, same.snr_db, same.inputs) == (0, None, 3)
    assert scaled.relative == pytest.approx(0.1)
    assert scaled.cosine == pytest.approx(1)
    assert same.cosine == pytest.approx(1, abs=1e-12)


def test_the_worst_input_counts() -> None:
    out = REF.copy()
    out[1] = [2.0, 0.0]  # a right angle: cosine 0, distance sqrt(2) of the length
    found = compare(REF, out)
    assert found.cosine == pytest.approx(0)
    assert found.relative == pytest.approx(math.sqrt(2))


def test_signal_is_measured_from_the_mean_in_float64() -> None:
    noise = np.array([[0.0, 0.1], [0.0, -0.1], [0.0, 0.1]])
    near, far = compare(REF, REF + noise), compare(REF + 1000, REF + 1000 + noise)
    assert near.snr_db == pytest.approx(far.snr_db)
    signal, power = ((REF - REF.mean(axis=0)) ** 2).sum(), (noise**2).sum()
    assert near.snr_db == pytest.approx(10 * math.log10(signal / power))
    ref = np.full((1, 2), 1.0)
    assert compare(ref, ref * (1 + 1e-12)).relative == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [(0, 0), (2, 1)])
def test_one_value_that_is_no_number_passes_no_gate(value: float, where: tuple[int, int]) -> None:
    out = REF.copy()
    out[where] = value
    assert not passes_any_gate(compare(REF, out))


@pytest.mark.parametrize(("where", "value"), [((0, 0), np.nan), (1, 0)], ids=["no number", "zeros"])
def test_a_reference_of_no_numbers_or_of_zeros_passes_no_gate(where: tuple[int, int] | int, value: float) -> None:
    ref = REF.copy()
    ref[where] = value
    assert not passes_any_gate(compare(ref, REF))
    assert not passes_any_gate(compare(ref, ref))


def test_an_embedding_of_zeros_passes_no_gate_by_default() -> None:
    out = REF.copy()
    out[1] = 0
    assert compare(REF, out).cosine == -1
    assert not passes_any_gate(compare(REF, out), Gates())


@pytest.mark.parametrize(
    ("ref", "out"),
    [(REF, REF[:2]), (REF, REF[:, :1]), (REF[0], REF[0]), (REF[:0], REF[:0]), (REF, REF[None])],
    ids=["fewer inputs", "narrower", "no batch", "no inputs", "one dimension more"],
)
def test_shapes_that_do_not_match_are_refused(ref: np.ndarray, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(ref, out)


def test_a_deviation_without_bound_is_still_json_and_reads_back() -> None:
    found = compare(REF, REF * np.nan)
    text = found.model_dump_json()
    assert strict_json(text)["relative"] == "Infinity"
    assert Deviation.model_validate_json(text) == found


def test_reference_answers_are_float64_rounded_and_the_floor_is_what_float32_is_off() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_variant("tiny_patch")).eval()
    pixels, ids = np.random.default_rng(0).random((2, 3, 64, 64), np.float32), np.array([[90, 5, 91, 0, 0, 0, 0, 0]])
    found = compute_reference(model, Inputs(("a", "b"), ("c",), pixels, ids))
    with torch.no_grad():
        single = model.text(torch.from_numpy(ids)).numpy()
        exact = model.double().text(torch.from_numpy(ids)).numpy()  # type: ignore[misc]
    np.testing.assert_array_equal(found.of("text"), exact.astype(np.float32))
    assert found.floor["text"] == pytest.approx(compare(exact, single).relative)
