"""Sentences of README, docs and the harnesses' READMEs, and what holds each of them: claims/<page>.json.

That is a test, the address of a source, "instruction" (it tells what to do or where something stands, and claims
nothing), or "not yet shown" (only a device can show it: docs/not_yet_shown.md). Of most pages the sentences that can be
tested are listed, of those in `WHOLE` every one.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
from conversions import ROOT

CLAIMS = sorted((Path(__file__).parent / "claims").glob("*.json"))
ELSEWHERE = {
    "README": "README.md",
    "android_harness": "android_harness/README.md",
    "android_runners": "android_harness/runners/README.md",
}
WHOLE = (
    "android",
    "android_harness",
    "android_runners",
    "benchmark",
    "ci",
    "farms",
    "iphone",
    "start_android",
    "start_ios",
)
WITHOUT_A_TEST = ("instruction", "not yet shown")


def page(claims: Path) -> Path:
    return ROOT / ELSEWHERE.get(claims.stem, f"docs/{claims.stem}.md")


def sentences(text: str) -> list[str]:
    """Of a page without headings and blocks of code; a row of a table is one, its first row is none."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\|.*\n\|[-:| ]+\|$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(#.*|\[\w+\]: \S+|<!--.*-->)$", "", text, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|\n(?=\||\s*(?:[-*]|\d+\.) )", text)
    rows = [" ".join(re.sub(r"^\s*([-*]|\d+\.) ", "", block).split()) for block in blocks]
    ends = re.compile(r"(?<=[.;!?])\*{0,2} (?=[A-Z`\[*(])")
    return [one for row in rows for one in ([row] if row.startswith("|") else ends.split(row)) if one]


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
        if test in WITHOUT_A_TEST or test.startswith("https://"):
            continue
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), test
        assert not name or name in functions_of(ROOT / file), test


def test_every_page_that_claims_something_has_a_list() -> None:
    # What is written for those who change the code claims nothing of what it does.
    exempt = {"index", "style", "README"}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - exempt
    assert pages - {claims.stem for claims in CLAIMS} == set()


@pytest.mark.parametrize("claims", [path for path in CLAIMS if path.stem in WHOLE], ids=lambda path: path.stem)
def test_nothing_is_said_that_nothing_holds(claims: Path) -> None:
    listed = [" ".join(sentence.split()) for sentence in json.loads(claims.read_text(encoding="utf-8"))]
    said = sentences(page(claims).read_text(encoding="utf-8"))
    assert len(said) > 5
    assert [one for one in said if not any(held in one or one in held for held in listed)] == []
