"""Gates: each can be replaced by name, nothing else is accepted, and what is not a number does not pass."""

import pytest

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.parity import Bound, Deviation, Gates, parse_gates
from mobileclip_deploy.parity.gates import exported_gates, passes


def deviation(relative: float, cosine: float, scale: float = 1.0) -> Deviation:
    return Deviation(relative=relative, cosine=cosine, snr_db=0.0, scale=scale, inputs=1)


def test_the_bounds_are_those_of_the_design() -> None:
    gates = Gates()
    assert gates.task == 0.5
    assert gates.shipped("fp32") == Bound("relative", 1e-4)
    assert gates.shipped("fp16", 5e-7) == Bound("cosine", 0.999, 10)


@pytest.mark.parametrize(("floor", "bound"), [(None, 1e-5), (1e-7, 2e-6), (4e-7, 2e-6), (1e-6, 5e-6), (1.5e-4, 7.5e-4)])
def test_float32_is_judged_by_the_networks_own_noise_floor(floor: float | None, bound: float) -> None:
    found = Gates().exact(floor)
    assert found == ("relative", pytest.approx(bound), None)
    if floor is not None:
        assert Gates().shipped("fp32", floor) == found
    assert Gates(semantic=3e-4).exact(floor) == Bound("relative", 3e-4)
    assert Gates(relative=0.5).shipped("fp32", floor) == Bound("relative", 0.5)


@pytest.mark.parametrize(
    ("scale", "passed"), [(1.0, True), (1.2, True), (0.85, True), (1.3, False), (100, False), (0.01, False)]
)
def test_a_cosine_is_held_together_with_the_lengths(scale: float, passed: bool) -> None:
    assert passes(deviation(0, 1, scale), Bound("cosine", 0.99)) is passed


def test_every_precision_has_a_gate_as_written_files_need() -> None:
    assert {Gates().shipped(name)[0] for name in PRECISIONS} <= {"relative", "cosine"}
    cosines = {name: precision.gate for name, precision in PRECISIONS.items() if precision.metric == "cosine"}
    assert [cosines.pop(name) for name in ("fp16", "w8", "w8a16")] == [0.999, 0.99, 0.99]
    assert set(cosines.values()) == {0.98}
    for scale, passed in ((0.79, False), (0.8, True), (1.25, True), (1.26, False)):
        found = Deviation(relative=0, cosine=1, snr_db=0.0, scale=scale, inputs=1)
        assert passes(found, Bound("cosine", 0.98)) is passed


def test_a_bound_is_met_by_its_own_value_and_missed_beyond() -> None:
    assert passes(deviation(1e-4, 0), Bound("relative", 1e-4))
    assert not passes(deviation(1.0001e-4, 1), Bound("relative", 1e-4))
    assert passes(deviation(9, 0.999), Bound("cosine", 0.999))
    assert not passes(deviation(0, 0.9989), Bound("cosine", 0.999))


@pytest.mark.parametrize("metric", ["relative", "cosine"])
def test_nan_passes_no_bound(metric: str) -> None:
    nan = float("nan")
    assert not passes(deviation(nan, nan), Bound(metric, -1e9 if metric == "cosine" else 1e9))


def test_named_bounds_replace_the_defaults_and_the_last_of_one_name_counts() -> None:
    gates = parse_gates(["semantic=3e-4", "cosine=0.98", "task=2"])
    assert gates == Gates(semantic=3e-4, cosine=0.98, task=2)
    assert gates.shipped("fp16") == Bound("cosine", 0.98, 10)
    assert gates.shipped("fp32") == Bound("relative", 1e-4)
    assert parse_gates(["cosine=0.1", "cosine=0.2"]).cosine == 0.2


@pytest.mark.parametrize(
    "text", ["", "cosine", "cosine=", "cosine=near", "cosine=nan", "relative=inf", "task=-inf", "speed=1", "=1"]
)
def test_a_malformed_gate_is_refused_with_the_names_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="semantic, relative, cosine, snr, task"):
        parse_gates([text])


@pytest.mark.parametrize("text", ["cosine=-1", "cosine=-0.1", "cosine=1.1", "relative=-1", "semantic=-1e-3", "task=-1"])
def test_a_bound_that_holds_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"`gates` {text}: takes a number from 0"):
        parse_gates([text])
    with pytest.raises(InvalidInput, match="the manifest's option gates cannot be used"):
        exported_gates({"gates": text})


def test_a_classifier_has_gates_of_its_own() -> None:
    gates = Gates()
    assert gates.exact(1e-7, probabilities=True) == Bound("probabilities", 0.001)
    wanted = {"fp32": 0.001, "fp16": 0.02, "w8": 0.1, "w8a8": 0.2, "w6p": 0.2, "w4p": 0.2, "w4": 0.2}
    assert {name: gates.shipped(name, probabilities=True).value for name in wanted} == wanted
