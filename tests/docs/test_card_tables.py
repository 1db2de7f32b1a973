"""docs/licences.md, choose_model.md and variants.md hold the tables that the cards give."""

import json
import runpy
from typing import Any

import pytest
from conversions import ROOT

from mobileclip_deploy.network.model.variants import load_variant


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / "card_tables.py"))


@pytest.mark.parametrize(
    ("page", "rows"),
    [("licences.md", "licence_rows"), ("choose_model.md", "model_rows"), ("variants.md", "variant_rows")],
)
def test_the_table_is_the_cards(script: dict[str, Any], page: str, rows: str) -> None:
    told = script["Figures"]("card_tables", page).shown().splitlines()
    assert told == script[rows](), "type: python benchmarks/card_tables.py"


@pytest.mark.once
@pytest.mark.parametrize("name", ["nano", "mobileclip_b", "siglip2_b32_256"])  # one of each kind of towers
def test_what_was_counted_is_what_the_network_does(script: dict[str, Any], name: str) -> None:
    told = json.loads(script["OPERATIONS"].read_text(encoding="utf-8"))
    assert told[name] == script["counted"](load_variant(name))
