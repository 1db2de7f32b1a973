"""Names of pictures that are not UTF-8 on the disk go into every file that names them, and come back from JSON."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from mobileclip_deploy.search.embedding_files import EmbeddingFile, RowParts, _check_names, _write
from mobileclip_deploy.search.index import Match
from mobileclip_deploy.search.page import write_page
from mobileclip_deploy.search.searching import Answer, SearchResult

NAMES = [os.fsdecode(b"caf\xe9.jpg"), "\u732b.jpg"]
VALUES = np.array([[1, 0], [0, 1]], np.float32)


def written(path: Path) -> EmbeddingFile:
    return EmbeddingFile(
        path=path,
        description=None,
        tower="image",
        variant="nano",
        embedding_space="nano-0",
        dtype="float32",
        count=2,
        dimension=2,
        normalised=True,
        skipped=(),
        fast_jpeg=False,
        computed=2,
        seconds=1.0,
        per_second=2.0,
    )


def test_json_lines_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    _write(written(path), NAMES, RowParts(VALUES.shape, lambda: iter([VALUES])), "")
    assert [json.loads(line)["image"] for line in path.read_text(encoding="utf-8").splitlines()] == NAMES
    assert "\u732b" in path.read_text(encoding="utf-8")  # others stay readable


def test_safetensors_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    _check_names(path, NAMES)
    _write(written(path), NAMES, RowParts(VALUES.shape, lambda: iter([VALUES])), "")
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["names"]) == NAMES


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_page_shows_them(tmp_path: Path, tower: str) -> None:
    matches = tuple(Match(name, 0.5, row) for row, name in enumerate(NAMES))
    answers = (Answer("a cat", "text", matches),)
    write_page(SearchResult(tmp_path, tmp_path, "nano-0", 2, None, answers), tower, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"caf\xe9.jpg" in page
    assert NAMES[1] in page
