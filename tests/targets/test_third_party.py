"""A target of somebody else's package: installed from a folder, and known to every command without a line of ours."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Outcome, refusal, run
from exports import Exports, rehash

from mobileclip_deploy.targets import GROUP, targets
from mobileclip_deploy.towers.samples import image_paths

PACKAGE = Path(__file__).parents[2] / "examples" / "third_party_target"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What pip would put on the path: the module, and what says that it has a target."""
    site = tmp_path_factory.mktemp("site-packages")
    shutil.copy(PACKAGE / "npz_target.py", site)
    about = site / "mobileclip_npz-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mobileclip-npz\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\nnpz = npz_target:NpzTarget\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        # The processes that `benchmark` times in find it too.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        targets.cache_clear()
        yield
    targets.cache_clear()


@pytest.fixture(scope="module")
def bundles(installed: None, exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A bundle in float32 and one in float16."""
    out = tmp_path_factory.mktemp("npz")
    words = ["--target", "npz", "--precision", "fp32", "--precision", "fp16", "--checkpoint", exports.checkpoint]
    done(run("export", *words, "-o", out))
    shutil.copy(exports.checkpoint, out)  # where `verify` looks for it
    return [out / "nano-npz-fp32", out / "nano-npz-fp16"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs, each a class of its own."""
    path = tmp_path_factory.mktemp("data") / "samples.csv"
    lines = ["image,label,text", *(f"{file},{file.stem},{file.stem}" for file in image_paths())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.stderr
    return outcome


def test_what_left_the_package_is_named_in_one_line(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.copy("onnx", "fp32", tmp_path)  # as 0.3 wrote one
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"target": "torchscript"}), encoding="utf-8")
    (tmp_path / "nano.ts").write_bytes(b"")
    line = "error: torchscript has left the package; in a clone of its repository, type: pip install examples/"
    for words in (
        ("inspect", tmp_path / "nano.ts"),
        ("lint", tmp_path / "nano.ts"),
        ("inspect", bundle),
        ("verify", bundle),
        ("export", "--target", "TorchScript", "-o", tmp_path),
        ("export", "--layout", "yoloe", "-o", tmp_path),
    ):
        assert refusal(run(*words)) == line + "third_party_target", words


def test_it_is_exported_and_verified(bundles: list[Path]) -> None:
    for bundle in bundles:
        report = done(run("verify", bundle, "--json")).json
        assert {check["step"] for check in report["checks"]} >= {"structure", "folded", "twin", "shipped", "golden"}
        assert report["passed"]


def test_a_fault_in_its_artifact_is_caught(bundles: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundles[0], tmp_path / bundles[0].name))
    with np.load(copy / "nano_image.npz") as archive:
        arrays = dict(archive)
    largest = max((name for name in arrays if name != "about"), key=lambda name: arrays[name].size)
    np.savez(copy / "nano_image.npz", **arrays | {largest: arrays[largest] * np.float32(1.001)})
    rehash(copy)
    found = run("verify", copy, "--checkpoint", bundles[0].parent / "mine.safetensors", "--json")
    assert found.code == 1
    failed = {(check["tower"], check["step"]) for check in found.json["checks"] if check["status"] == "failed"}
    assert ("image", "twin") in failed
    assert {tower for tower, _ in failed} == {"image"}


def test_inspect_tells_bundle_and_artifact(bundles: list[Path]) -> None:
    assert done(run("inspect", bundles[0], "--json")).json["target"] == "npz"
    told = done(run("inspect", bundles[0] / "nano_image.npz", "--json")).json
    assert told["kind"] == "npz artifact"
    assert told["operators"] > 0


def test_its_accuracy_is_measured_and_compared(bundles: list[Path], dataset: Path) -> None:
    assert done(run("evaluate", bundles[0], "--dataset", dataset, "--json")).json["classes"] == len(image_paths())
    rows = done(run("compare", *bundles, "--dataset", dataset, "--json")).json["bundles"]
    assert [(row["target"], row["status"]) for row in rows] == [("npz", "passed")] * 2


def test_the_smallest_is_found(installed: None, exports: Exports, tmp_path: Path) -> None:
    words = ["--target", "npz", "--precision", "smallest", "--checkpoint", exports.checkpoint, "-o", tmp_path]
    done(run("export", *words))
    log = json.loads((tmp_path / "nano-npz-smallest" / "smallest.json").read_text(encoding="utf-8"))
    assert log["trials"][-1]["precisions"] == {"image": "fp16", "text": "fp16"}


def test_it_is_timed_on_the_host(bundles: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "times.json"
    done(run("benchmark", bundles[0], "--device", "host", "--quick", "--json", output))
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    assert {(cell["id"].split(".")[2], cell["status"]) for cell in cells} == {("npz", "done")}
    assert all(cell["golden"]["passed"] and cell["summary"]["samples"] for cell in cells)


def test_doctor_and_the_refusals_know_it(installed: None) -> None:
    assert run("doctor").code == 0
    refused = run("export", "--target", "npzz")
    assert refused.code == 2
    assert "did you mean npz?" in refused.stderr
    assert "npz, all" in refused.stderr
