"""clients/vectors: what every client has to answer alike is what the toolkit answers."""

import base64
import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from client_vectors import FOLDER, WRITERS
from lock_vectors import COMMIT
from manifest_vectors import read_by_python
from picture_vectors import noise, rgb_of
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from tokenizer_vectors import FILE, text_of_vectors

from mobileclip_deploy.artifacts.bundle.published import fetch_bundle
from mobileclip_deploy.artifacts.heads.label_prompts import check_label_prompts
from mobileclip_deploy.artifacts.heads.labels import given_labels
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.searching import search_index


@pytest.mark.parametrize("name", WRITERS)
def test_the_vectors_are_what_their_script_writes(name: str) -> None:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(WRITERS[name]())), "type: python tests/client_vectors.py"


def test_the_texts_are_open_clips() -> None:
    assert FILE.read_text(encoding="utf-8") == text_of_vectors(), "type: python tests/tokenizer_vectors.py"


def test_ycbcr_of_jpegs_is_what_libjpeg_makes_of_it() -> None:
    content = io.BytesIO()
    pixels = noise(3 * 64 * 64, 7).reshape(64, 64, 3)
    Image.frombytes("YCbCr", (64, 64), pixels.tobytes()).save(content, "JPEG", quality=100, subsampling=0)
    stored = Image.open(content)
    stored.draft("YCbCr", (64, 64))
    told = {"layout": "ycbcr", "width": 64, "height": 64, "matrix": "bt601", "range": "full"}
    found = rgb_of(np.frombuffer(stored.tobytes(), np.uint8), told)
    assert np.array_equal(found, np.asarray(Image.open(content)))


def test_manifests_that_clients_refuse_for_their_form_python_refuses_too() -> None:
    cases = json.loads((FOLDER / "manifests.json").read_text(encoding="utf-8"))["cases"]
    read = {(case["what"], case["code"]) for case in cases if readable(case["manifest"])}
    assert {(case["what"], None) for case in cases if case["code"] is None} <= read
    # What a client does not make, and Python does, or what Python says when it opens the files.
    twice = {what for what, _ in read if " twice" in what}
    assert {what for what, code in read if code} - twice <= {
        "no schema",
        "a target that nobody knows",
        "a text tower without a tokenizer",
        "one file of both towers",
        "pixels from -1 to 1",
        "pixels of another size",
        "pixels in another order",
        "texts of another length than the tokenizer's",
        "the file '%2e%2e/secret.onnx'",
        "the file 'onnx/%2E%2E/%2E%2E/x'",
        "logit_scale 1e999",
        "the shape [0, 3, 64, 64, 1]",
        "the shape []",
    }


def readable(text: str) -> bool:
    try:
        read_by_python(text)
    except ValidationError:
        return False
    return True


HOSTILE, REFUSALS = (
    json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ("hostile", "refusals")
)


def test_damaged_indices_and_tensors_are_refused_by_python_too(tmp_path: Path) -> None:
    file = tmp_path / "library.mcdx"
    for case in HOSTILE["indices"]:
        file.write_bytes(base64.b64decode(case["index"]))
        with pytest.raises(InvalidInput):
            Index(file).check()
            pytest.fail(case["what"])
    for case in HOSTILE["unsearchable"]:
        file.write_bytes(base64.b64decode(case["index"]))
        with pytest.raises(InvalidInput):
            Index(file).search(np.eye(8, dtype=np.float32)[0], 2)
            pytest.fail(case["what"])
    for case in HOSTILE["tensors"]:
        file.write_bytes(base64.b64decode(case["file"]))
        with pytest.raises(SafetensorError), safe_open(file, "np"):
            pytest.fail(case["what"])
    for case in HOSTILE["holds"]:
        file.write_bytes(base64.b64decode(case["index"]))
        index = Index(file)
        index.check()
        held = list(zip(case["rows"], case["ids"], case["stamps"], strict=True))
        assert (list(index), len(index)) == (held, len(held)), case["what"]
        assert index.ids == case["ids"]
        assert [index.row(name) for name in case["ids"]] == case["rows"]
        assert [index.stamp(row) for row in case["rows"]] == case["stamps"]
        assert [index.id(row) for row in case["rows"]] == case["ids"]
        assert all(name in index for name in case["ids"])
        assert "none" not in index
        assert index.row("none") is None
        for row in (-1, index.rows):
            for read in (index.id, index.stamp):
                with pytest.raises(UsageError, match=f"row {row}: "):
                    read(row)


LOCKS = json.loads((FOLDER / "locks.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", LOCKS["cases"], ids=lambda case: case["what"])
def test_locks_are_accepted_and_refused_by_python_too(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock, repository = tmp_path / "someone--nano.lock.json", tmp_path / "mobileclip-deploy/bundles/someone--nano"
    lock.write_text(json.dumps(case["lock"]), encoding="utf-8")
    folders = {repository / COMMIT / place for place in ("root", "files/nano-onnx-fp32", "files/b")}
    for folder, (name, text) in itertools.product(folders, LOCKS["files"].items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if case["what"] == "the second of two bundles":
        with pytest.raises(UsageError, match="has several bundles; give one of them"):
            fetch_bundle(str(lock), pytest.fail)
    elif case["code"] is None:
        assert fetch_bundle(str(lock), pytest.fail) in folders
    else:
        with pytest.raises(InvalidInput):
            fetch_bundle(str(lock), pytest.fail)


def test_requests_without_an_answer_are_refused_by_python_too(tmp_path: Path) -> None:
    for case in REFUSALS["labels"]:
        with pytest.raises(UsageError):
            given_labels(case["names"], case["template"])
            pytest.fail(case["what"])
    for case in REFUSALS["prompts"]:
        given_labels(case["names"], case["template"])
        with pytest.raises(UsageError):
            check_label_prompts(case["names"], case["template"], load_variant("nano").tokens)
            pytest.fail(case["what"])
    file = tmp_path / "library.mcdx"
    file.write_bytes(base64.b64decode(HOSTILE["holds"][1]["index"]))
    index = Index(file)
    bundle: Any = SimpleNamespace(path="bundle", manifest=SimpleNamespace(embedding_space="s"))
    for case in REFUSALS["search"]:
        threshold = None if case["threshold"] is None else float(case["threshold"])
        with pytest.raises(UsageError):
            index.search(np.ones(8, np.float32), case["top"])
            search_index(index, bundle, [case["text"]], [], case["top"], threshold)
            pytest.fail(case["what"])
