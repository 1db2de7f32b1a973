"""clients/vectors: what every client has to answer alike is what the toolkit answers."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from client_vectors import FOLDER, WRITERS
from manifest_vectors import read_by_python
from picture_vectors import noise, rgb_of
from PIL import Image
from pydantic import ValidationError
from tokenizer_vectors import FILE, text_of_vectors


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
    assert {what for what, code in read if code} == {
        "no schema",
        "a target that nobody knows",
        "a text tower without a tokenizer",
        "pixels from -1 to 1",
        "pixels of another size",
        "pixels in another order",
        "texts of another length than the tokenizer's",
    }


def readable(text: str) -> bool:
    try:
        read_by_python(text)
    except ValidationError:
        return False
    return True
