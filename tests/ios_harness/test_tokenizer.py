"""The tokenizer in Swift gives open_clip's ids."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conversions import ROOT
from swift_package import HARNESS
from tokenizer_vectors import FILE, is_mojibake, odd_texts, text_of_vectors

from mobileclip_deploy.model.tokenizer import tokenize, write_tokenizer_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tokenizer/` of a bundle."""
    folder = tmp_path_factory.mktemp("bundle") / "tokenizer"
    write_tokenizer_files(folder)
    return folder


def ids(swift: Path, folder: Path, texts: list[str]) -> list[list[int]]:
    """What the Swift tokenizer makes of texts."""
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run([swift / "clip-tokenize", folder], input=lines, capture_output=True, text=True, check=True)
    return [[int(id) for id in line.split()] for line in done.stdout.splitlines()]


def test_the_shared_vectors_are_open_clips() -> None:
    assert FILE.read_text(encoding="utf-8") == text_of_vectors(), "type: python tests/tokenizer_vectors.py"


def test_every_shared_vector_holds(swift: Path, folder: Path) -> None:
    vectors = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]
    assert len(vectors) == 1000
    found = ids(swift, folder, [vector["text"] for vector in vectors])
    for vector, row in zip(vectors, found, strict=True):
        assert row == vector["ids"] + [0] * (77 - len(vector["ids"])), vector["text"]


def test_texts_outside_of_the_vectors_are_open_clips_too(swift: Path, folder: Path) -> None:
    texts = [text for text in itertools.islice(odd_texts(1), 1000) if not is_mojibake(text)]
    for text, wanted, row in zip(texts, tokenize(texts).tolist(), ids(swift, folder, texts), strict=True):
        assert row == wanted, text


def test_long_texts_are_read_in_no_time_and_honest_ones_are_open_clips(swift: Path, folder: Path) -> None:
    honest = ["AT&amp;T, \u201ca long sentence\u201d, " * 3_000, "".join(map(chr, range(0x4E00, 0x9FA5)))]
    *found, entities, word = ids(swift, folder, [*honest, "&" + "amp;" * 20_000, "qwertz" * 100_000])
    assert found == tokenize(honest).tolist()
    assert entities == tokenize(["&"]).tolist()[0]
    assert word[-1] == 49407


def test_mojibake_is_left_alone(swift: Path, folder: Path) -> None:
    text = "caf\u00c3\u00a9"
    assert is_mojibake(text)
    (row,) = ids(swift, folder, [text])
    assert row[:4] != tokenize([text]).tolist()[0][:4]  # which repairs it
    assert tokenize([text]).tolist() == tokenize(["caf\u00e9"]).tolist()


def test_the_table_of_entities_is_what_its_command_writes() -> None:
    table = HARNESS / "HarnessCore" / "Sources" / "CLIPTokenizer" / "HTMLEntityTable.swift"
    done = subprocess.run(
        [sys.executable, ROOT / "clients" / "html_entities.py", "swift"], capture_output=True, text=True, check=True
    )
    assert table.read_text(encoding="utf-8") == done.stdout
