"""A key that is there twice is refused in every JSON file that the package takes."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmark.documents import job, result
from exports import Exports
from json_files import repeat_key
from safetensors.numpy import save_file

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.layouts import read_layout
from mobileclip_deploy.base.files.json_text import parse_json, parse_model
from mobileclip_deploy.benchmark.documents import read_job, read_result, write_document
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.model.variants import models_dir, read_card
from mobileclip_deploy.targets.mil import load

PACKAGE = Path(mcd.__file__).parent


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_the_repeated_key_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r'^"a" is given twice$'):
        parse_json(text)


def test_every_json_file_of_a_bundle_is_refused(exports: Exports, tmp_path: Path) -> None:
    whole = exports.bundle("onnx", "fp16").path
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*.json"))]
    assert {"manifest.json", "config.json", "preprocessor_config.json", "tokenizer_config.json"} <= set(map(str, names))
    for name in names:
        folder = shutil.copytree(whole, tmp_path / "bundle", dirs_exist_ok=True)
        repeat_key(folder / name)
        with pytest.raises(InvalidInput, match=rf"{re.escape(str(name))}.* is given twice"):
            Bundle.open(folder).check_keys()


def _package(path: Path) -> Path:
    path.mkdir()
    (path / "Manifest.json").write_text('{"rootModelIdentifier": "a", "itemInfoEntries": {}}', encoding="utf-8")
    return path / "Manifest.json"


def _card(path: Path) -> Path:
    return Path(shutil.copy(models_dir() / "nano.json", path))


def _layout(path: Path) -> Path:
    return Path(shutil.copy(next(PACKAGE.rglob("immich.json")), path))


def _document(document: object) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        write_document(path, document)
        return path

    return write


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (_document(job()), read_job),
        (_document(result()), read_result),
        (_card, read_card),
        (_layout, read_layout),
        (_package, lambda path: load(path.parent)),
    ],
    ids=["job", "result", "card", "layout", "Core ML package"],
)
def test_it_is_refused(write: Callable[[Path], Path], read: Callable[[Path], object], tmp_path: Path) -> None:
    path = write(tmp_path / "f.json")
    repeat_key(path)
    with pytest.raises(InvalidInput, match="given twice"):
        read(path)


def test_a_tensor_whose_name_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    save_file({"a": np.zeros(1, np.float32), "b": np.ones(1, np.float32)}, path)
    path.write_bytes(path.read_bytes().replace(b'"b"', b'"a"'))
    with pytest.raises(InvalidInput, match='"a" is given twice'):
        open_tensors(path)


def test_no_other_file_of_the_package_validates_json_by_itself() -> None:
    calls = [path for path in PACKAGE.rglob("*.py") if ".model_validate_json(" in path.read_text(encoding="utf-8")]
    # A vocabulary of millions of items is read in little memory; a piece that is there twice leaves an id out.
    assert sorted(path.name for path in calls) == ["json_text.py", "tokenizer_json.py"]
    assert parse_model.__module__.endswith("files.json_text")


def test_a_harmless_json_file_is_read(tmp_path: Path) -> None:
    assert parse_json(json.dumps({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}))["b"][1] == {"a": 2}
