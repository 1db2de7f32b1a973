"""Every command on sound input: results on stdout, notes on stderr, JSON that any parser takes, exit codes."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import PROGRAM, run, strict_json
from exports import Exports, rehash
from litert_files import Files, require_litert
from PIL import Image
from programs import script

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark import doctor
from mobileclip_deploy.network.model.variants import models_dir, variant_names
from mobileclip_deploy.network.samples import image_paths

OWN = "mobileclip-deploy"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images in two classes, with captions."""
    folder = tmp_path_factory.mktemp("dataset")
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(image_paths()[:4]):
        Image.open(path).resize((64, 64)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "text": path.stem, "label": "even" if number % 2 == 0 else "odd"})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "classes.txt").write_text("even\nodd\n", encoding="utf-8")
    description = {"name": "four", "classes": "classes.txt"}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def test_variants_lists_every_card() -> None:
    found = run("variants", "--json")
    assert (found.code, found.stderr) == (0, "")
    assert [card["name"] for card in found.json] == list(variant_names())
    table = run("variants").stdout
    assert [name for name in variant_names() if name not in table] == []


def test_doctor_says_what_is_here_what_runs_core_ml_packages_and_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = run("doctor")
    assert (found.code, found.stderr) == (0, "")
    assert all(name in found.stdout for name in ("torch", "onnxruntime", "coremltools", "Core ML packages are run by"))
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1.0")
    found = run("doctor")
    assert found.code == 3
    assert "missing" in found.stdout
    assert "required package is missing" in found.stderr


def test_doctor_says_which_tools_reach_devices_and_which_backends_need_an_sdk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "adb", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # no runners were fetched
    found = run("doctor").stdout
    assert found.count("missing") == 7  # xcrun, the ready runners, and five backends
    assert "Xcode 16" in found
    assert "Qualcomm" in found


@pytest.mark.parametrize(("version", "proven"), [("9.0", True), ("9.1.dev1", True), ("9.1", False), ("8.3", False)])
def test_doctor_knows_each_coremltools_that_the_tests_passed_with(
    monkeypatch: pytest.MonkeyPatch, version: str, proven: bool
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _: version)
    (found,) = [one for one in doctor.diagnose() if one.name == "coremltools"]
    assert found.remedy == ("" if proven else "another version than the tested one")


def test_what_doctor_says_to_install_brings_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each extra that it names asks for the package, or for one that asks for it."""
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    extras = tomllib.loads((models_dir().parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def brings(extra: str) -> set[str]:
        own = [one for line in extras[extra] if (one := re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line))]
        theirs = [line for one in own if one[1] != OWN for line in importlib.metadata.requires(one[1]) or ()]
        names = {re.match(r"[\w.-]+", line)[0] for line in (*(one[1] for one in own), *theirs)}  # type: ignore[index]
        return names.union(*(brings(more) for one in own if one[1] == OWN for more in one[2].split(",")))

    named = {one.name: re.search(r"deploy\[(.+)\]", one.remedy) for one in doctor.diagnose() if not one.required}
    assert [name for name, extra in named.items() if not extra or name not in brings(extra[1])] == []


def test_inspect_a_checkpoint_in_json_and_for_a_person(exports: Exports) -> None:
    found = run("inspect", exports.checkpoint, "--json")
    assert (found.code, found.stderr) == (0, "")
    seen = found.json
    assert (seen["kind"], seen["variant"], seen["layout"], seen["form"]) == ("checkpoint", "nano", "apple", "training")
    assert seen["bytes"] == exports.checkpoint.stat().st_size
    told = run("inspect", exports.checkpoint).stdout
    assert f"{exports.checkpoint}: nano, image and text towers, in its training form\n" in told
    assert f"export --target all --checkpoint {exports.checkpoint} -o out/" in told


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_inspect_a_bundle_and_its_artifacts(exports: Exports, target: str) -> None:
    bundle = exports.bundle(target, "fp16")
    seen = run("inspect", bundle.path, "--json").json
    assert (seen["kind"], seen["target"], seen["parity"]) == ("bundle", target, "passed")
    for tower, entry in bundle.manifest.towers.items():
        artifact = run("inspect", bundle.artifact(tower), "--json").json
        assert artifact["kind"] == f"{target} artifact"
        assert json.dumps(entry.input.name) in json.dumps(artifact)
        assert artifact["bytes"] == seen["towers"][tower]["bytes"] == entry.bytes
        assert seen["towers"][tower]["operators"] > 0


def test_inspect_tells_a_person_on_one_screen(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = exports.bundle("onnx", "fp16")
    told = run("inspect", bundle.path).stdout
    (line,) = [line for line in told.splitlines() if "for ONNX" in line]
    assert re.search(r"^ +nano for ONNX.*: image and text towers, fp16, [0-9.]+ MB$", line)
    assert re.search(r"image +onnx/vision_model_fp16.onnx, [0-9.]+ MB, \d+ operators\n +fp16: float16 weights", told)
    assert "takes pixel_values: float32 [N, 3, 64, 64], from 0 to 1\n" in told
    assert "gives text_embeds: float32 [N, 128], not normalised\n" in told
    assert "shorter side to 64 (bilinear, antialiased), 64 x 64 from the centre, RGB, divided by 255; mean" in told
    assert re.search(r"proof +passed, \d+ of \d+ checks ran; embeddings deviate by image [0-9.e-]+ \(", told)
    assert f"mobileclip-deploy verify {bundle.path}\n" in told
    assert f"mobileclip-deploy benchmark {bundle.path} --device host --quick\n" in told
    if sys.platform != "darwin":  # whose Core ML is nothing that Linux could time
        assert "benchmark" not in run("inspect", exports.bundle("coreml", "fp16").path).stdout
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("COLUMNS", "80")  # as a log of CI may name it
    lines = run("inspect", bundle.path).stdout.splitlines()
    assert len(lines) < 50
    assert [line for line in lines if len(line) > 80 and " " in line.strip() and str(bundle.path) not in line] == []


@pytest.mark.parametrize("target", ["onnx", "litert"])
def test_inspect_tells_a_person_of_an_artifact(exports: Exports, target: str) -> None:
    path = exports.bundle("onnx", "fp16").artifact("image")
    if target == "litert":
        require_litert()
        path = Files(exports.store.folder / "litert").path("image", "w8a8")
    told = run("inspect", path).stdout
    assert f": {target}, " in told
    assert re.search(r"operators +\d+: \w+ \d+, ", told)
    assert not re.search(r"[{}]", told)


def test_layers_are_compared_of_bundles_for_an_npu_alone(exports: Exports) -> None:
    found = run("compare", exports.bundle("onnx", "fp16").path, "--by-layer")
    assert found.code == 2
    assert "--by-layer works on Qualcomm bundles only" in found.stderr


def test_inspect_lists_the_bundles_of_a_folder_and_refuses_one_without(exports: Exports, tmp_path: Path) -> None:
    found = run("inspect", tmp_path)
    assert (found.code, found.stdout) == (2, "")
    assert "neither a bundle (it has no manifest.json)" in found.stderr
    for precision in ("fp16", "fp32"):
        exports.copy("onnx", precision, tmp_path)
    (tmp_path / "notes").mkdir()
    found = run("inspect", tmp_path, "--json")
    assert (found.code, found.json["schema_version"], found.json["kind"]) == (0, 1, "folder")
    rows = [(one["name"], one["variant"], one["precision"], one["parity"]) for one in found.json["bundles"]]
    wanted = [(f"nano-onnx-{precision}", "nano", precision, "passed") for precision in ("fp16", "fp32")]
    assert rows == wanted
    (tmp_path / "nano-onnx-fp16" / "manifest.json").write_text("{}")
    found = run("inspect", tmp_path)
    assert re.search(r"nano-onnx-fp16 .* cannot be read", found.stdout)
    assert re.search(r"nano-onnx-fp32 +nano +onnx +fp32 +[0-9.]+ +passed", found.stdout)
    assert found.code == 2
    assert "1 of 2 bundles cannot be read" in found.stderr


def test_export_prints_its_bundles_as_json(exports: Exports, tmp_path: Path) -> None:
    arguments = ["--checkpoint", exports.checkpoint, "-o", tmp_path, "--no-verify", "--tower", "image", "--json"]
    found = run("export", "--target", "onnx", "--precision", "fp32", "--precision", "fp32", *arguments)
    assert found.code == 0
    (result,) = found.json  # the same precision twice is one bundle
    assert (result["bundle"], result["passed"], result["parity"]) == (str(tmp_path / "nano-onnx-fp32"), None, [])
    assert result["manifest"] == strict_json(
        (tmp_path / "nano-onnx-fp32" / "manifest.json").read_text(encoding="utf-8")
    )


def test_export_that_fails_its_gate_says_which_exits_with_1_and_is_written_and_marked_when_asked_for(
    exports: Exports, tmp_path: Path
) -> None:
    command = ["export", "--target", "onnx", "--checkpoint", exports.checkpoint, "-o", tmp_path / "out"]
    command += ["--tower", "text", "--precision", "fp32", "--gate", "relative=1e-12"]
    found = run(*command)
    assert found.code == 1
    assert f"not written: {tmp_path / 'out' / 'nano-onnx-fp32'}" in found.stdout
    assert re.search(r"text +shipped +failed +relative <= 1e-12 ", found.stdout)
    assert "nano-onnx-fp32 (20.60 MB) was not written" in found.stderr.splitlines()[-1]
    assert "relative <= 1e-12" in found.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    found = run(*command, "--json")
    (result,) = found.json
    assert (found.code, result["written"], result["passed"]) == (1, False, False)
    assert [check["step"] for check in result["parity"] if check["status"] == "failed"] == ["shipped"]
    assert strict_json(found.stderr.splitlines()[-1])["error"]["kind"] == "gate_failed"
    found = run(*command, "--allow-failing")
    assert found.code == 0
    assert "FAILED" in found.stdout
    assert "nano-onnx-fp32" in found.stderr.splitlines()[-1]
    bundle = mcd.Bundle.open(tmp_path / "out" / "nano-onnx-fp32")
    assert bundle.manifest.options["allow_failing"] == "yes"
    assert [check.step for check in bundle.parity if check.status == "failed"] == ["shipped"]
    assert "**FAILED: text shipped." in (bundle.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert run("inspect", bundle.path, "--json").json["parity"] == "failed"


def test_verify_passes_beside_the_checkpoint_and_writes_junit(exports: Exports, tmp_path: Path) -> None:
    junit = tmp_path / "new" / "report.xml"
    found = run("verify", exports.bundle("onnx", "fp16").path, "--json", "--quiet", "--junit", junit)
    assert found.code == 0
    assert found.json["passed"] is True
    assert found.stderr == f"Passed: all {len(found.json['checks'])} checks.\n"
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert int(suite.get("tests") or 0) == len(found.json["checks"])


def test_verify_without_the_checkpoint_says_not_run_and_exits_with_3(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = exports.copy("onnx", "fp16", tmp_path)
    found = run("verify", path, "--json")
    assert (found.code, found.json["passed"]) == (3, False)
    assert {check["step"] for check in found.json["checks"] if check["status"] == "not run"} == {
        "settings",
        "companions",
        "golden",
        "twin",
        "weights",
        "reproduced",
    }
    assert "NOT RUN: 10 of 23 checks" in found.stderr
    assert "not run" in run("verify", path).stdout
    given = run("verify", path, "--checkpoint", exports.checkpoint, "--json")
    assert (given.code, given.json["passed"]) == (0, True)


def test_verify_that_fails_exits_with_1_and_its_json_stays_json(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp32", tmp_path)
    image, text = path / "onnx" / "vision_model.onnx", path / "onnx" / "text_model.onnx"
    image.write_bytes(text.read_bytes())
    rehash(path)
    found = run("verify", path, "--json")
    assert (found.code, found.json["passed"]) == (1, False)
    told = strict_json(found.stderr.splitlines()[-1])["error"]
    assert (told["kind"], told["exit_code"], told["message"]) == ("gate_failed", 1, "FAILED: 2 of 22 checks.")


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_evaluate_a_bundle_as_the_checkpoint(exports: Exports, dataset: Path, target: str) -> None:
    bundle = run("evaluate", exports.bundle(target, "fp16").path, "--dataset", dataset, "--json").json
    checkpoint = run("evaluate", exports.checkpoint, "--dataset", dataset, "--json").json
    assert bundle["embedding_space"] == checkpoint["embedding_space"]
    assert (bundle["images"], bundle["classes"]) == (4, 2)
    assert checkpoint["images_per_second"] > 0
    assert bundle["figures"].keys() == checkpoint["figures"].keys()
    assert all(
        0 <= interval["low"] <= interval["value"] <= interval["high"] <= 100 for interval in bundle["figures"].values()
    )


def test_evaluate_one_task_alone(exports: Exports, dataset: Path) -> None:
    found = run(
        "evaluate", exports.bundle("onnx", "fp16").path, "--dataset", dataset, "--task", "classification", "--json"
    )
    assert set(found.json["figures"]) == {"top1", "top5"}


def test_classify_gives_each_image_shares_that_sum_to_one(exports: Exports) -> None:
    images = image_paths()[:3]
    found = run(
        "classify", exports.bundle("onnx", "fp16").path, *images, "--labels", "cat, dog ,lake", "--json", "--quiet"
    )
    assert (found.code, found.stderr) == (0, "")
    assert [entry["image"] for entry in found.json] == [str(path) for path in images]
    for entry in found.json:
        shares = list(entry["probabilities"].values())
        assert set(entry["probabilities"]) == {"cat", "dog", "lake"}
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)


def test_classify_answers_alike_from_either_target_and_minds_the_template(exports: Exports) -> None:
    arguments = [image_paths()[1], "--labels", "cat,rocket", "--json"]
    answers = [run("classify", exports.bundle(target, "fp16").path, *arguments).json for target in ("onnx", "coreml")]
    (onnx,), (coreml,) = answers
    assert onnx["probabilities"]["cat"] == pytest.approx(coreml["probabilities"]["cat"], abs=0.02)
    other = run("classify", exports.bundle("onnx", "fp16").path, *arguments, "--template", "a drawing of a {}").json
    assert other[0]["probabilities"] != onnx["probabilities"]


def test_a_reader_that_goes_away_ends_the_program_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PROGRAM, "variants"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
