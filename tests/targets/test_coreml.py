"""Core ML packages: the names, types, shapes and sizes that Apple's app relies on, and reproducible bytes."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from golden_weights import Golden

import mobileclip_deploy as mcd
from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.bundle import artifact_bytes
from mobileclip_deploy.checkpoints import identify
from mobileclip_deploy.checkpoints.loading import assemble
from mobileclip_deploy.folding import fold
from mobileclip_deploy.provenance import Provenance
from mobileclip_deploy.targets import ExportOptions, get_target
from mobileclip_deploy.towers import TOWERS, TowerName, make_tower
from mobileclip_deploy.verification import tower_job

SIZES = {"mobileclip-s0": 256, "mobileclip-s2": 256, "mobileclip-b": 224}
both_towers = pytest.mark.parametrize("tower", TOWERS)


@dataclass(frozen=True)
class Packages:
    """The float16 packages of a golden checkpoint, and how many weights are in each."""

    size: int
    specifications: dict[TowerName, Any]
    parameters: dict[TowerName, int]
    bytes: dict[TowerName, int]


def specification(package: Path) -> Any:
    """The package's model description as Core ML reads it."""
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString((package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())


def read(folder: Path, model: MobileCLIP, size: int) -> Packages:
    target = get_target("coreml")
    paths = {tower: folder / target.artifact_name(model.variant, tower, "fp16") for tower in TOWERS}
    for tower, path in paths.items():
        target.export(tower_job(model, tower, "fp16", ExportOptions()), path)
    weights = {tower: path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin" for tower, path in paths.items()}
    return Packages(
        size,
        {tower: specification(path) for tower, path in paths.items()},
        {tower: sum(value.numel() for value in make_tower(model, tower).parameters()) for tower in TOWERS},
        {tower: path.stat().st_size for tower, path in weights.items()},
    )


@pytest.fixture(scope="module", params=SIZES)
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Converted once each: they take 10 to 30 seconds."""
    golden = Golden(f"{request.param}.apple")
    model = assemble(identify(golden.file(), golden.variant))
    fold(model)
    model.provenance = Provenance(
        variant=golden.variant, layout="apple", sha256="0" * 64, file="golden", licence="Apple's", research_only=True
    )
    return read(tmp_path_factory.mktemp(request.param), model, SIZES[request.param])


def test_the_image_tower_takes_an_rgb_image_of_the_apps_size(packages: Packages) -> None:
    (source,) = packages.specifications["image"].description.input
    image = source.type.imageType
    assert source.name == "image"
    assert (image.width, image.height) == (packages.size, packages.size)
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    assert image.WhichOneof("SizeFlexibility") is None


def test_the_text_tower_takes_int32_ids(packages: Packages) -> None:
    (source,) = packages.specifications["text"].description.input
    array = source.type.multiArrayType
    assert source.name == "text"
    assert list(array.shape) == [1, 77]
    assert array.ArrayDataType.Name(array.dataType) == "INT32"
    assert array.WhichOneof("ShapeFlexibility") is None


@both_towers
def test_the_embedding_is_what_the_app_reads(packages: Packages, tower: TowerName) -> None:
    (result,) = packages.specifications[tower].description.output
    array = result.type.multiArrayType
    assert result.name == "final_emb_1"
    assert list(array.shape) == [1, 512]
    assert array.ArrayDataType.Name(array.dataType) == "FLOAT32"


@both_towers
def test_a_weight_takes_two_bytes(packages: Packages, tower: TowerName) -> None:
    assert packages.bytes[tower] == pytest.approx(2 * packages.parameters[tower], rel=0.01)


@both_towers
def test_it_is_an_ml_program_that_says_by_whom_and_under_which_licence(packages: Packages, tower: TowerName) -> None:
    model = packages.specifications[tower]
    about = model.description.metadata
    assert model.WhichOneof("Type") == "mlProgram"
    assert model.specificationVersion == 7  # iOS 16
    assert "mobileclip-deploy" in about.author
    assert about.license == "Apple's"
    assert about.versionString
    assert tower in about.shortDescription


def test_pixels_are_divided_by_255_inside(exports: Exports) -> None:
    """coremltools puts the scale into the program: bytes times 1/255 are the graph's first step."""
    from mobileclip_deploy.mil import load

    first = next(op for op in load(exports.bundle("coreml", "fp16").artifact("image")).operations if op.type == "mul")
    constants = [value for value in first.inputs.values() if "scale" in repr(value).lower() or "0.0039" in repr(value)]
    assert constants


def test_nano_passes_its_gates_by_the_evaluator(exports: Exports) -> None:
    manifest = exports.bundle("coreml", "fp16").manifest
    assert {(check.step, check.status) for check in manifest.parity} >= {("twin", "passed"), ("shipped", "passed")}
    assert all(check.status == "passed" for check in manifest.parity)


def test_the_manifest_counts_what_is_there(exports: Exports) -> None:
    bundle = exports.bundle("coreml", "fp16")
    for tower, entry in bundle.manifest.towers.items():
        assert entry.file == f"nano_{tower}.mlpackage"
        assert entry.bytes == artifact_bytes(bundle.path / entry.file)


def test_nothing_in_a_bundle_names_this_machine(exports: Exports) -> None:
    path = exports.bundle("coreml", "fp16").path
    words = [str(Path.cwd()), str(exports.folder), mcd.__file__, "site-packages", "/home/", "/tmp/", "conversion_date"]
    words += ["/" + getpass.getuser() + "/"]
    for file in path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert [word for word in words if word.encode() in data] == [], file
