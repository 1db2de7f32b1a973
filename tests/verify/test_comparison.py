"""Comparing bundles: one table, differences in pairs, spaces never mixed, gates that fail."""

import re
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from command_line import refusal, run
from evaluation.datasets import image
from exports import Exports
from json_files import edited_json
from writing import slow_runtime

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.targets.graph import changed_constant


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images with captions and labels."""
    folder = tmp_path_factory.mktemp("dataset")
    lines = ["image,label,text"] + [f"{path},{path.stem[0]},{path.stem}" for path in image_paths()]
    path = folder / "samples.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def other_space(exports: Exports, into: Path) -> Path:
    """A bundle that says it is of another checkpoint, which is not at hand."""
    path = exports.copy("onnx", "fp16", into)
    file = path / "manifest.json"
    with edited_json(file) as manifest:
        manifest["embedding_space"] = "other-0"
        manifest["checkpoint"] |= {"sha256": "0" * 64, "file": "gone.pt"}
    return path


def test_each_bundle_is_compared_with_its_checkpoint(exports: Exports, dataset: Path) -> None:
    paths = [exports.bundle("onnx", precision).path for precision in ("fp32", "fp16")]
    found = run("compare", *paths, "--dataset", dataset, "--json", "--quiet")
    assert found.code == 4  # of 16 pictures, as `export` and `verify` end
    assert [row["bundle"] for row in found.json["bundles"]] == [path.name for path in paths]
    for row in found.json["bundles"]:
        assert row["baseline"] == "nano checkpoint"
        assert row["bytes"] > 0
        for change in row["differences"].values():
            assert change["low"] <= change["value"] <= change["high"]
    exact, rounded = found.json["bundles"]
    assert exact["relative"] < rounded["relative"]
    assert (exact["status"], rounded["status"]) == ("passed", "undecided")
    assert "top1 drops +0.00" in rounded["reasons"][0]
    assert "in 5 views), undecided: nothing changed, but 16 pictures are too few" in rounded["reasons"][0]


@pytest.mark.slow
def test_bundles_of_different_spaces_are_said_to_be_and_not_compared(
    exports: Exports, dataset: Path, tmp_path: Path
) -> None:
    other = other_space(exports, tmp_path)
    result = mcd.compare([exports.bundle("onnx", "fp16"), other], dataset=dataset)
    assert [row.baseline for row in result.bundles] == ["nano checkpoint", other.name]
    assert result.bundles[1].differences == {}
    assert "2 embedding spaces" in result.notes[0]
    assert "must not be compared" in result.notes[0]


def test_a_gate_that_fails_is_named_and_is_the_exit_code_and_markdown_has_a_row_a_bundle(
    exports: Exports, dataset: Path
) -> None:
    path = exports.bundle("onnx", "fp16").path
    found = run("compare", path, "--dataset", dataset, "--gate", "cosine=0.9999999")
    assert found.code == 1
    assert "failed" in found.stdout
    assert "image shipped: cosine >= 0.9999999" in found.stdout
    found = run("compare", path, "--dataset", dataset, "--markdown")
    rows = [line for line in found.stdout.splitlines() if line.startswith("| nano")]
    assert (found.code, len(rows)) == (4, 1)
    assert "| nano checkpoint | undecided (accuracy: top1 drops" in rows[0]


@pytest.mark.slow
def test_a_slow_runtime_is_asked_the_golden_inputs_and_what_computes_the_same_all_pictures(
    exports: Exports, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exports.bundle("onnx", "fp16").path
    slow_runtime(monkeypatch, "onnx", 3)
    found = mcd.compare(path, dataset=dataset)
    (row,), (note,) = found.bundles, found.notes
    assert re.search(rf"{path.name}: torch .* weights that stand in the file computed all 16 pictures", note)
    assert "ran the golden inputs only" in note
    assert (row.status, row.differences["top1"].value) == ("undecided", 0)


def test_what_cannot_be_compared_is_refused(exports: Exports, tmp_path: Path) -> None:
    path = exports.bundle("onnx", "fp16").path
    assert "each only once" in refusal(run("compare", path, path))
    assert "--images needs a dataset" in refusal(run("compare", path, "--images", tmp_path))
    assert "exclude each other" in run("compare", path, "--json", "--markdown").stderr
    wrong = image(tmp_path / "x.png")
    assert "neither a torch checkpoint nor a safetensors file" in refusal(run("compare", path, "--checkpoint", wrong))


def test_without_a_dataset_a_user_s_bundles_are_compared_by_deviation_alone(exports: Exports) -> None:
    path = exports.bundle("onnx", "fp16").path
    found = run("compare", path)
    assert found.code == 0
    assert "Accuracy was not measured" in found.stderr
    assert "--dataset builtin" in found.stderr
    heading = next(line for line in found.stdout.splitlines() if "bundle" in line)
    assert heading.split() == ["bundle", "MB", "deviation", "SNR", "dB", "gates"]
    result = mcd.compare([path])
    assert (result.dataset, result.bundles[0].figures) == (None, {})


def test_nothing_is_evaluated_on_the_built_in_pictures_unless_they_are_asked_for(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exports.bundle("onnx", "fp16").path
    assert "name yours with --dataset PATH, or the built-in one, emoji, with --dataset builtin" in refusal(
        run("evaluate", path)
    )
    with pytest.raises(UsageError, match="dataset='builtin'"):
        mcd.evaluate(path)
    asked: list[int] = []

    def measure(embedder: object, data: Dataset, *_: object) -> NoReturn:
        asked.append(len(data.images))
        raise NotRun("only asked")

    monkeypatch.setattr("mobileclip_deploy.evaluation.door.measure", measure)
    with pytest.raises(NotRun, match="only asked"):
        mcd.evaluate(path, dataset="builtin")
    assert asked == [1911]


@pytest.mark.parametrize(
    ("dtype", "factor", "same"),
    [("int8", 2, False), ("float32", 1 + 5e-7, True), ("float32", 1 + 3e-6, False), ("float16", 1 + 2**-10, True)],
)
def test_bounds_of_a_constant(dtype: str, factor: float, same: bool) -> None:
    wanted = np.ones((8, 8), dtype)
    written = wanted.copy()
    written[3, 3] = wanted[3, 3] * factor
    assert (changed_constant(written, wanted) is None) is same
    row = wanted.copy()
    row[0] = 2
    assert changed_constant(row, wanted) is not None
