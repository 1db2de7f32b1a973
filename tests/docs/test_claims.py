"""Sentences of README and docs that can be tested, and the test of each: claims/<page>.json."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path

import pytest
from conversions import ROOT

CLAIMS = sorted((Path(__file__).parent / "claims").glob("*.json"))


def page(claims: Path) -> Path:
    return ROOT / "README.md" if claims.stem == "README" else ROOT / "docs" / f"{claims.stem}.md"


@cache
def functions_of(file: Path) -> frozenset[str]:
    """Names of the tests in a file, `Class::test` for those in a class."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, functions):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, functions)}
    return frozenset(found)


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda path: path.stem)
def test_a_page_says_so_and_the_test_exists(claims: Path) -> None:
    text = " ".join(page(claims).read_text(encoding="utf-8").split())
    listed = json.loads(claims.read_text(encoding="utf-8"))
    assert listed
    for sentence, test in listed.items():
        assert " ".join(sentence.split()) in text, sentence
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), test
        assert not name or name in functions_of(ROOT / file), test


def test_every_page_that_claims_something_has_a_list() -> None:
    # What is written for those who change the code claims nothing of what it does.
    exempt = {"index", "style", "README"}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - exempt
    assert pages - {claims.stem for claims in CLAIMS} == set()
