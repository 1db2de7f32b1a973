"""docs/licences.md holds the table that the cards give."""

from __future__ import annotations

import runpy

import pytest
from conversions import ROOT


def test_the_table_is_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = runpy.run_path(str(ROOT / "benchmarks" / "card_tables.py"))
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    told = page.partition(script["BEGIN"])[2].partition(script["END"])[0].strip().splitlines()
    assert told == script["licence_rows"](), "type: python benchmarks/card_tables.py"
