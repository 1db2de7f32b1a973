"""Core ML below 16 bits: what is stored, how large it is, what it computes, what is refused, and that bytes repeat."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coreml_packages import shared_conversions, weight_file
from writing import chosen, job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.calibration import (
    LIMIT,
    calibration_digest,
    calibration_inputs,
    check_calibration,
)
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.errors import ExportError, InvalidInput, UsageError
from mobileclip_deploy.export.contents import recorded_options
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import ExportRequest
from mobileclip_deploy.export.smallest.candidates import four_bit_layers
from mobileclip_deploy.export.smallest.sensitivity import measure_layers, mixes
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.precision import PRECISIONS, parse_precisions
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import Gates, compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreml import compression
from mobileclip_deploy.targets.coreml.options import DEPLOYMENT_TARGETS, NEEDED
from mobileclip_deploy.targets.coreml.runner import feeds
from mobileclip_deploy.targets.mil import Program, load
from mobileclip_deploy.targets.ranges import BINS
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes

pytestmark = pytest.mark.whole  # test_conformance.py stores at w8

AFFINE, BLOCKS, TABLE = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"
SPARSE = "constexpr_lut_to_sparse+constexpr_sparse_to_dense"
# precision, deployment target -> how wide and how narrow weights are stored, and the cosine nano keeps on samples.
CASES = {
    ("w8", "iOS16"): (AFFINE, AFFINE, 0.99),
    ("w8", "iOS18"): (BLOCKS, BLOCKS, 0.99),
    ("w8a8", "iOS17"): (AFFINE, AFFINE, 0.9),
    ("w6p", "iOS16"): (AFFINE, TABLE, 0.97),
    ("w6p", "iOS18"): (BLOCKS, TABLE, 0.98),
    ("w4p", "iOS16"): (AFFINE, TABLE, 0.8),
    ("w4p", "iOS18"): (BLOCKS, TABLE, 0.8),
    ("w4", "iOS18"): (BLOCKS, BLOCKS, 0.8),
    ("w4p-p50", "iOS18"): (BLOCKS, SPARSE, 0.5),
}
Write = Callable[[TowerName, str, str], Path]


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    network = mcd.load_model()
    fold(network)
    return network


@pytest.fixture(scope="module")
def reference(model: mcd.MobileCLIP) -> Reference:
    return Reference.compute(model, sample_inputs(model))


@pytest.fixture(scope="module")
def write(model: mcd.MobileCLIP, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes each package once. What a tower is converted to before it is compressed is shared: it takes longest."""
    folder = tmp_path_factory.mktemp("packages")

    def written(tower: TowerName, precision: str, target: str) -> Path:
        path = folder / f"{tower}-{precision}-{target}.mlpackage"
        if not path.exists():
            chosen("coreml", deployment_target=target).write(job_of(model, tower, precision), path)
        return path

    with shared_conversions():
        yield written


def embedding(program: Program) -> str:
    """How the token embedding is stored."""
    (gather,) = (op for op in program.operations if op.type == "gather")
    (table,) = gather.inputs["x"]
    return next(weight.kind for weight in program.weights if weight.name == table.name)


@pytest.mark.once  # test_weights.py reads those of every grid, and of both towers, back
@pytest.mark.parametrize(("precision", "target"), CASES)
def test_weights_are_stored_as_the_recipe_says_and_take_the_bytes_it_implies(
    write: Write, model: mcd.MobileCLIP, precision: str, target: str
) -> None:
    tower: TowerName = "text"
    path, (wide, narrow, _) = write(tower, precision, target), CASES[precision, target]
    program = load(path, evaluate=False)
    kinds = {weight.kind for weight in program.weights} - {"const"}
    assert kinds == {wide, narrow}
    assert all(weight.kind != "const" for weight in program.weights if weight.shape[:1] == (49408,))
    assert embedding(program) == narrow
    size, _ = weight_file(path)
    module = make_tower(model, tower)
    storage = storage_of(chosen("coreml", deployment_target=target), tower, module, precision)
    assert size == pytest.approx(total_bytes(module, storage), rel=0.02)
    assert program.opset == {"iOS16": "CoreML6", "iOS17": "CoreML7", "iOS18": "CoreML8"}[target]


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.whole
def test_input_output_and_text_of_a_compressed_package_are_those_of_any_other(write: Write, tower: TowerName) -> None:
    coreml = get_target("coreml")
    assert coreml.open(write(tower, "w4p-p50", "iOS18")).ports == coreml.open(write(tower, "fp16", "iOS18")).ports
    metadata = load(write(tower, "w4p-p50", "iOS18"), evaluate=False).metadata
    assert metadata["short_description"].endswith("tower, w4p-p50: embedding of dimension 128")
    assert not any("date" in key for key in metadata)


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


@pytest.mark.whole
def test_ranges_are_those_of_all_samples_not_of_the_last(write: Write, reference: Reference) -> None:
    program, pixels = load(write("image", "fp16", "iOS17")), reference.inputs.pixels[:3]
    together = compression.measure_ranges(program, pixels)
    apart = [compression.measure_ranges(program, one[None]) for one in pixels]
    for name, found in together.items():
        low, high = (extreme(one[name][end] for one in apart) for extreme, end in ((min, "rmin"), (max, "rmax")))
        bin_width = 2 * (high - low) / BINS
        assert low - bin_width <= found["rmin"] <= found["rmax"] <= high + bin_width, name
    assert any(found["rmax"] > 1.1 * apart[-1][name]["rmax"] for name, found in together.items())


def test_the_rarest_values_are_cut_off(write: Write, reference: Reference) -> None:
    program, pixels = load(write("image", "fp16", "iOS17")), reference.inputs.pixels[:3]
    ranges = compression.measure_ranges(program, pixels)
    outside = total = 0
    for one in feeds(program, pixels):
        for step in program.trace(one):
            for name, value in step.values.items():
                if name in ranges:
                    outside += int(((value < ranges[name]["rmin"]) | (value > ranges[name]["rmax"])).sum())
                    total += value.size
    assert 0 < outside / total < 2e-4


@pytest.mark.whole
def test_calibration_images_decide_the_bytes_and_are_named_in_the_options(
    write: Write, model: mcd.MobileCLIP, tmp_path: Path
) -> None:
    images = tmp_path / "like-mine"
    images.mkdir()
    for path in image_paths()[:2]:
        shutil.copy(path, images)
    coreml = chosen("coreml", deployment_target="iOS17")
    coreml.write(job_of(model, "image", "w8a8", calibration=images), tmp_path / "own.mlpackage")
    assert artifact_sha256(tmp_path / "own.mlpackage") != artifact_sha256(write("image", "w8a8", "iOS17"))
    plan = BundlePlan(tmp_path, coreml, {"image": "w8a8"}, ExportRequest((), calibration=images))
    recorded = recorded_options(plan)
    assert recorded.pop("calibration_sha256") == calibration_digest(images)
    assert recorded == {"deployment_target": "iOS17", "calibration": "like-mine"}
    shutil.copy(image_paths()[3], images)
    assert recorded_options(plan)["calibration_sha256"] != calibration_digest(image_paths()[0].parent)


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
    with pytest.raises(AttributeError):
        calibration_inputs(model.variant, "image", tmp_path)
    assert [path.stem for path in seen] == [f"{index:04}" for index in range(0, 3 * LIMIT, 3)]


def test_a_job_without_the_calibration_it_needs_is_refused(write: Write, model: mcd.MobileCLIP, tmp_path: Path) -> None:
    job = replace(job_of(model, "image", "w8a8"), calibration=None)
    with pytest.raises(ExportError, match="w8a8 needs calibration inputs"):
        get_target("coreml").write(job, tmp_path / "none.mlpackage")


@pytest.mark.whole
def test_a_mix_stores_the_named_layers_at_4_bits_and_the_others_at_8(
    model: mcd.MobileCLIP, reference: Reference, write: Write, tmp_path: Path
) -> None:
    """Two of the 28 layers of nano's image tower at 8 bits are enough for its gate."""
    coreml = get_target("coreml")
    with pytest.raises(UsageError, match="no precision mixed"):
        coreml.require({"image": "mixed"})
    tower = make_tower(model, "image")
    layers = measure_layers(tower, reference.inputs.pixels, four_bit_layers(coreml, "image", tower))
    four_bit = mixes(layers)[1]
    coreml = chosen("coreml", deployment_target="iOS18")
    coreml.require({"image": "mixed"}, mixed=True)
    path = tmp_path / "mixed.mlpackage"
    coreml.write(job_of(model, "image", "mixed", four_bit=four_bit), path)
    saved = weight_file(write("image", "w8", "iOS18"))[0] - weight_file(path)[0]
    chosen_weights = sum(layer.weights for layer in layers if layer.name in four_bit)
    assert 0 < len(layers) - len(four_bit) < 4
    assert 0.35 * chosen_weights < saved < 0.5 * chosen_weights  # half a byte a weight, less the scales of the blocks
    cosine = compare(reference.of("image"), coreml.open(path).runner()(reference.inputs.pixels)).cosine
    assert cosine >= Gates().shipped("mixed")[1]
