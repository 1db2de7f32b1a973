"""Core ML below 16 bits: what is stored, how large it is, and what is refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coreml_packages import shared_conversions, weight_file
from writing import chosen, job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.calibration import LIMIT, calibration_inputs, check_calibration
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import ExportError, InvalidInput, UsageError
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.precision import PRECISIONS, parse_precisions
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreml.options import DEPLOYMENT_TARGETS, NEEDED
from mobileclip_deploy.targets.mil import Program, load
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes

AFFINE, BLOCKS, TABLE = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"
SPARSE = "constexpr_lut_to_sparse+constexpr_sparse_to_dense"
# precision, deployment target -> how wide and how narrow weights are stored.
CASES = {
    ("w8", "iOS16"): (AFFINE, AFFINE),
    ("w8", "iOS18"): (BLOCKS, BLOCKS),
    ("w8a8", "iOS17"): (AFFINE, AFFINE),
    ("w6p", "iOS16"): (AFFINE, TABLE),
    ("w6p", "iOS18"): (BLOCKS, TABLE),
    ("w4p", "iOS16"): (AFFINE, TABLE),
    ("w4p", "iOS18"): (BLOCKS, TABLE),
    ("w4", "iOS18"): (BLOCKS, BLOCKS),
    ("w4p-p50", "iOS18"): (BLOCKS, SPARSE),
}


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    network = mcd.load_model()
    fold(network)
    return network


@pytest.fixture(scope="module")
def sharing() -> Iterator[None]:
    """What a tower is converted to before it is compressed takes longest."""
    with shared_conversions():
        yield


def embedding(program: Program) -> str:
    """How the token embedding is stored."""
    (gather,) = (op for op in program.operations if op.type == "gather")
    (table,) = gather.inputs["x"]
    return next(weight.kind for weight in program.weights if weight.name == table.name)


@pytest.mark.slow  # test_conformance.py stores at w8
@pytest.mark.once  # test_weights.py reads those of every grid, and of both towers, back
@pytest.mark.parametrize(("precision", "target"), CASES)
@pytest.mark.usefixtures("sharing")
def test_weights_are_stored_as_the_recipe_says_and_take_the_bytes_it_implies(
    model: mcd.MobileCLIP, precision: str, target: str, tmp_path: Path
) -> None:
    (wide, narrow), coreml = CASES[precision, target], chosen("coreml", deployment_target=target)
    path = tmp_path / "text.mlpackage"
    coreml.write(job_of(model, "text", precision), path)
    program = load(path, evaluate=False)
    kinds = {weight.kind for weight in program.weights} - {"const"}
    assert kinds == {wide, narrow}
    assert all(weight.kind != "const" for weight in program.weights if weight.shape[:1] == (49408,))
    assert embedding(program) == narrow
    size, _ = weight_file(path)
    module = make_tower(model, "text")
    storage = storage_of(coreml, "text", module, precision)
    assert size == pytest.approx(total_bytes(module, storage), rel=0.02)
    assert program.opset == {"iOS16": "CoreML6", "iOS17": "CoreML7", "iOS18": "CoreML8"}[target]


def test_every_precision_below_16_bits_has_the_gate_of_its_kind() -> None:
    bounds = {name: Gates().shipped(name) for name in NEEDED if PRECISIONS[name].kind != "float"}
    assert bounds.pop("w8")[:2] == ("cosine", 0.99)
    assert {bound[:2] for bound in bounds.values()} == {("cosine", 0.98)}


@pytest.mark.parametrize("precision", [name for name in NEEDED if name not in ("fp32", "fp16", "mixed")])
def test_a_deployment_target_that_is_too_old_is_refused_when_given_and_raised_when_not(precision: str) -> None:
    coreml, choice = get_target("coreml"), parse_precisions(f"image=fp16,text={precision}")
    oldest, _ = NEEDED[precision]
    for target in DEPLOYMENT_TARGETS[: DEPLOYMENT_TARGETS.index(oldest)]:
        with pytest.raises(UsageError, match=f"{precision} needs {oldest} .*deployment target is {target}"):
            chosen("coreml", deployment_target=target).require(choice)
    coreml.require(choice)
    assert vars(coreml.settled(choice).options)["deployment_target"] == max("iOS16", oldest)
    advice, given = str(coreml.advice(choice)), chosen("coreml", deployment_target="iOS18").advice(choice)
    assert (f"to {oldest}, which {precision} needs" in advice) == (oldest != "iOS16")
    assert (f"{precision}: 4-bit weights are reported to give wrong results" in advice) == (
        PRECISIONS[precision].bits == 4
    )
    assert (given is None) == (PRECISIONS[precision].bits != 4)


def test_an_unknown_deployment_target_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'iOS19', did you mean iOS18\?; known: iOS15, iOS16, iOS17, iOS18"):
        chosen("coreml", deployment_target="iOS19").require(parse_precisions("w8"))


@pytest.mark.parametrize("name", ["w4pc", "w4-scaled", "w3p", "w2p"])
def test_what_is_known_to_be_defective_is_not_offered(name: str) -> None:
    with pytest.raises(UsageError, match="known: fp32, fp16, w8"):
        parse_precisions(name)


def test_calibration_that_would_not_be_used_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"w8 uses no calibration images \(w8a16 and w8a8 do\)"):
        check_calibration(parse_precisions("w8"), tmp_path)
    with pytest.raises(InvalidInput, match="no image in it"):
        check_calibration(parse_precisions("image=w8a8,text=w8"), tmp_path)
    with pytest.raises(InvalidInput, match="no such folder"):
        check_calibration(parse_precisions("w8a8"), tmp_path / "none")


def test_calibration_prompts_come_from_the_folder_and_images_are_spread_over_it(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(["a cat", "a dog"]), encoding="utf-8")
    assert calibration_inputs(model.variant, "text", tmp_path).shape == (2, 77)
    assert calibration_inputs(model.variant, "text", None).shape[0] > 2
    for index in range(3 * LIMIT):
        (tmp_path / f"{index:04}.png").touch()
    seen: list[Path] = []
    monkeypatch.setattr(
        "mobileclip_deploy.network.model.preprocessing.load_batch", lambda paths, _: seen.extend(paths) or np.zeros(1)
    )
    calibration_inputs(model.variant, "image", tmp_path)
    assert [path.stem for path in seen] == [f"{index:04}" for index in range(0, 3 * LIMIT, 3)]


def test_a_job_without_the_calibration_it_needs_is_refused(model: mcd.MobileCLIP, tmp_path: Path) -> None:
    job = replace(job_of(model, "image", "w8a8"), calibration=None)
    with pytest.raises(ExportError, match="w8a8 needs calibration inputs"):
        get_target("coreml").write(job, tmp_path / "none.mlpackage")
