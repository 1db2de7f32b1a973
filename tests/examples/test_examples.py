"""The scripts in examples/ do what they say, called as a user would call them, on the built-in network."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from exports import Exports, rehash

ROOT = Path(__file__).parents[2]
HELD_OUT = ROOT / "models" / "nano" / "evaluation" / "images"
PICTURES = {"pizza": "1f355", "rocket": "1f680", "cat face": "1f431"}


def example(name: str) -> Callable[..., Any]:
    """`main` of a script."""
    main = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]
    assert callable(main)
    return main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders of one image each."""
    for label, code in PICTURES.items():
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        shutil.copy(HELD_OUT / f"{code}.png", folder)
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_checkpoint_is_exported_and_every_check_printed(
    exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example("export_and_verify")(str(exports.checkpoint), str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert (tmp_path / "nano-onnx-fp16" / "manifest.json").is_file()
    assert lines[-1] == f"{tmp_path / 'nano-onnx-fp16'}: passed"
    assert {tuple(line.split()[1:3]) for line in lines[:-1]} >= {("image", "shipped"), ("text", "shipped")}


def test_a_folder_is_classified(
    exports: Exports, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for label in PICTURES:
        (source,) = (photos / label).iterdir()
        shutil.copy(source, flat / f"{label}.png")
    example("classify_folder")(str(exports.bundle("onnx", "fp16").path), str(flat), ",".join(PICTURES))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(name, label) for name, label, _ in rows] == sorted((f"{label}.png", label) for label in PICTURES)


def test_photos_are_found_by_words(exports: Exports, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("search_photos")(str(exports.bundle("onnx", "fp16").path), str(photos), "rocket", "2")
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [len(row) for row in rows] == [2, 2]
    assert Path(rows[0][1]).parent.name == "rocket"
    assert float(rows[0][0]) > float(rows[1][0])


def test_the_gate_passes_what_is_small_and_as_good(
    exports: Exports, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = exports.bundle("onnx", "fp16").path
    common = [str(bundle), "--checkpoint", str(exports.checkpoint), "--dataset", str(photos)]
    assert example("gate_in_ci")([*common, "--budget-mb", "20", "--class", "pizza"]) == 0
    assert "no class lost" in capsys.readouterr().out
    assert example("gate_in_ci")([*common, "--budget-mb", "5"]) == 1
    assert "budget 5" in capsys.readouterr().out


def test_the_gate_stops_a_bundle_that_lost_a_class(
    exports: Exports, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = exports.copy("onnx", "fp16", tmp_path)
    negate(copy / "onnx" / "text_model_fp16.onnx")
    rehash(copy)
    common = [str(copy), "--checkpoint", str(exports.checkpoint), "--dataset", str(photos), "--budget-mb", "20"]
    assert example("gate_in_ci")([*common, "--class", "pizza"]) == 1
    assert capsys.readouterr().out == "pizza: top-1 0%, the checkpoint 100%\n"


def negate(path: Path) -> None:
    """Let a model answer with the opposite of its embedding: the nearest class is now the farthest."""
    model = onnx.load(path)
    result = model.graph.output[0].name
    (producer,) = (node for node in model.graph.node if result in node.output)
    producer.output[list(producer.output).index(result)] = "before"
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], [result]))
    onnx.save(model, path)
