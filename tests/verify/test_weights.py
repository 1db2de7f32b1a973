"""Weights read back from a file against the checkpoint's: what no output shows is found, and the layer is named."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from exports import Exports
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.grids.decode import StoredWeight, as_float
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.verify.chain import verify_subject
from mobileclip_deploy.verify.checks.folded import check_folded
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.checks.tower import check_tower
from mobileclip_deploy.verify.checks.twin import check_twin
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.instruments.matching import Matched
from mobileclip_deploy.verify.subject import Subject, TowerProof

LAYER = "encoder.blocks.1.attention.proj.weight"
PRECISIONS = ["fp32", "fp16", "w8", "w4"]


@pytest.fixture(scope="module")
def model(exports: Exports) -> mcd.MobileCLIP:
    model = mcd.load_model(None, exports.checkpoint)
    mcd.reparameterize(model)
    return model


@pytest.fixture(scope="module")
def reference(exports: Exports) -> Reference:
    few = Reference.read(exports.bundle("onnx", "fp32").golden)
    return compute_reference(mcd.load_model(None, exports.checkpoint), few.inputs)


@pytest.fixture(scope="module", params=PRECISIONS)
def whole(request: pytest.FixtureRequest, exports: Exports, model: mcd.MobileCLIP, reference: Reference) -> Subject:
    """The text tower of a healthy bundle: its check of weights has passed."""
    bundle = exports.unverified("onnx", request.param, "both")
    only = Bundle(bundle.path, bundle.manifest.model_copy(update={"towers": {"text": bundle.manifest.towers["text"]}}))
    found = subject(only, model, reference, Path("nowhere"))
    (check,) = check_weights(found.towers["text"])
    assert check.status == "passed", check.detail
    return found


def checked(whole: Subject, change: Callable[[StoredWeight], StoredWeight] | None, layer: str = LAYER) -> Check:
    """The check of weights where the file's weight of one layer is another; None takes it out of the file."""
    own = get_target("onnx")
    name = next(match.stored.name for match in (whole.towers["text"].matched or ()) if match.layer == layer)
    stored = own.open(whole.bundle.artifact("text")).weights
    changed = [change(weight) if change else None for weight in stored if weight.name == name]
    others = [weight for weight in stored if weight.name != name]
    return judged(whole, [*others, *(weight for weight in changed if weight is not None)])


def judged(whole: Subject, stored: Sequence[StoredWeight]) -> Check:
    """The check of weights where these stand in the file."""
    own = replace(whole)
    with mock.patch.dict(vars(own.towers["text"].artifact), weights=tuple(stored)):
        (check,) = check_weights(own.towers["text"])
    return check


def edited(edit: Callable[[Any], None]) -> Callable[[StoredWeight], StoredWeight]:
    def change(weight: StoredWeight) -> StoredWeight:
        values = weight.values.copy()
        edit(values)
        return replace(weight, values=values)

    return change


def scaled(factor: float) -> Callable[[Any], None]:
    def edit(values: Any) -> None:
        values[3] *= factor

    return edit


def swapped(values: Any) -> None:
    values[[0, 1]] = values[[1, 0]]


def one_number(values: Any) -> None:
    values[2, 5] += np.abs(values).max() / 5


def not_a_number(values: Any) -> None:
    values[0, 0] = np.nan


EDITS: dict[str, Callable[[Any], None]] = {
    "a channel times 1.03": scaled(1.03),
    "a channel times 1.5": scaled(1.5),
    "a channel of zeros": scaled(0.0),
    "a channel's sign": scaled(-1.0),
    "two channels swapped": swapped,
    "one number": one_number,
    "not a number": not_a_number,
}


@pytest.mark.parametrize("name", EDITS)
def test_a_changed_weight_fails_and_its_layer_is_named(whole: Subject, name: str) -> None:
    check = checked(whole, edited(EDITS[name]))
    assert check.status == "failed"
    assert LAYER in str(check.detail)


def test_two_words_that_no_prompt_holds_are_missed_by_nobody(whole: Subject) -> None:
    def edit(table: Any) -> None:
        rows = [row for row in (40_000, 41_000) if row not in whole.evidence.reference.inputs.ids]
        table[rows] = table[rows[::-1]]

    words = "encoder.token_embedding.weight"
    trained = np.abs(whole.towers["text"].module.get_parameter(words).detach().numpy()[[40_000, 41_000]]).max()
    assert trained > 0
    check = checked(whole, edited(edit), words)
    assert (check.status, words in str(check.detail)) == ("failed", True)


def test_a_layer_on_a_coarser_grid_or_not_in_the_file_fails(whole: Subject) -> None:
    check = checked(whole, lambda weight: replace(weight, bits=2, kind="integers"))
    assert "is stored as integers of 2 bits, expected" in str(check.detail)
    check = checked(whole, None)
    assert (check.status, check.detail) == ("failed", f"{LAYER} is missing from the file")


def test_a_layer_on_a_grid_that_another_version_chose_is_judged_on_that_grid(
    whole: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = whole.towers["text"].grids | {LAYER: Grid(2, "integers")}
    monkeypatch.setattr(TowerProof, "grids", here)
    assert checked(whole, lambda weight: weight).status == "failed"
    manifest = whole.bundle.manifest
    written = manifest.model_copy(update={"environment": manifest.environment | {"mobileclip-deploy": "0.3.0"}})
    older = replace(whole, bundle=Bundle(whole.bundle.path, written))
    older.towers["text"].matched = whole.towers["text"].matched
    check = checked(older, lambda weight: weight)
    assert check.status == "passed", check.detail
    assert "1 quantized as mobileclip-deploy 0.3.0 did, unlike this version" in str(check.detail)
    check = checked(older, edited(one_number))
    assert (check.status, LAYER in str(check.detail)) == ("failed", True)


def test_names_and_order_say_nothing(whole: Subject) -> None:
    stored = get_target("onnx").open(whole.bundle.artifact("text")).weights
    assert stored is not None
    check = judged(whole, [replace(weight, name=f"w{index}") for index, weight in enumerate(reversed(stored))])
    assert check.status == "passed", check.detail


def test_the_graph_answers_as_torch_with_the_stored_weights(whole: Subject) -> None:
    (check,) = check_graph(whole.towers["text"])
    assert check.status == "passed"
    if whole.bundle.manifest.towers["text"].precision == "fp32":
        assert check.deviation is None  # `shipped` is that check: here its settings alone are compared
        return
    assert check.deviation.relative < (1e-4 if "fp16" in whole.bundle.path.name else 5e-6)


def test_a_fault_of_six_parts_in_a_million_is_beyond_nanos_floor(reference: Reference) -> None:
    """The floor is the processor's: text 8.9e-7 on an AMD EPYC, 1.13e-6 on an Intel Xeon with AMX."""
    for tower, floor in reference.floor.items():
        assert floor < 1.2e-6, tower
        assert Gates().exact(floor).value < 6e-6


@pytest.mark.parametrize(("half", "off", "right"), [(False, 0.9e-6, True), (False, 2e-6, False), (True, 2e-6, True)])
def test_bounds_of_a_weight(half: bool, off: float, right: bool) -> None:
    numbers = np.full((2, 4), 0.5, np.float32)
    numbers[0, 0] = 1
    match = Matched("a", numbers, as_float("a", numbers + np.float32(off)), "plain")
    assert (match.wrong(Grid(32), half) is None) is right
    beyond = Matched("a", numbers, as_float("a", numbers * np.float32(1 + 3 * 2**-10 + 2**-14)), "plain")
    assert beyond.wrong(Grid(32), True) is not None


def test_a_file_is_loaded_once_for_its_twin_and_its_answers_and_is_let_go_after(
    exports: Exports, model: mcd.MobileCLIP, reference: Reference
) -> None:
    own = subject(exports.bundle("onnx", "fp32"), model, reference, Path("nowhere"))
    artifact = own.towers["text"].artifact
    asked = []

    def runner(load: Callable[[], Any] = artifact.runner) -> Any:
        loaded = load()

        def answer(inputs: Any) -> Any:
            asked.append(len(inputs))
            return loaded(inputs)

        answer.engine = loaded.engine  # type: ignore[attr-defined]
        return answer

    with mock.patch.object(artifact, "runner", runner), mock.patch.object(artifact, "runners", return_value=[runner]):
        text = own.towers["text"]
        checks = [*check_folded(text), *check_tower(text), *check_twin(text), *check_shipped(text)]
    found = {check.step: check for check in checks}
    assert found["twin"].figures == found["shipped"].figures
    assert {check.status for check in checks} == {"passed"}
    assert asked == [len(reference.inputs.ids)]
    assert text._runner is None


def test_what_is_as_large_as_a_file_is_kept_of_no_tower_whose_checks_are_done(
    exports: Exports, model: mcd.MobileCLIP, reference: Reference, tmp_path: Path
) -> None:
    own = subject(exports.unverified("onnx", "w8", "both"), model, reference, tmp_path)
    report = verify_subject(own)
    assert not report.failed
    assert {check.step for check in report.checks} >= {"weights", "graph", "shipped"}
    assert [(tower.matched, tower._runner) for tower in own.towers.values()] == [(None, None)] * 2
    assert not any("weights" in vars(tower.artifact) for tower in own.towers.values())
