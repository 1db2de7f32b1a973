"""Pictures and tables of the pages are what their scripts make of the results."""

import html
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conversions import ROOT

from mobileclip_deploy.network.model.precision import parse_precisions, precision_label
from mobileclip_deploy.network.model.variants import load_variant

BENCHMARKS = ROOT / "benchmarks"
PICTURE = ROOT / "docs" / "accuracy_size.svg"


def test_every_point_of_the_picture_is_a_row_of_the_table() -> None:
    rows = json.loads((BENCHMARKS / "results" / "precision_table.json").read_text(encoding="utf-8"))["rows"]
    wanted = {
        f"{row['bundle']}.{row['needs']}.{sum(row['bytes'].values()) / 1e6:.2f}.{row['figures']['top1']:.2f}"
        for row in rows
    }
    drawn = PICTURE.read_text(encoding="utf-8")
    assert set(re.findall(r'<g id="(nano-[^"]+)"', drawn)) == wanted, "type: python benchmarks/accuracy_size.py"


def test_the_picture_of_the_first_commands_is_of_commands_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    own = script("demo_picture", monkeypatch)
    drawn = own["PICTURE"].read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", html.unescape("".join(re.findall(r"<text[^>]*>(.*?)</text>", drawn))))
    for command in own["COMMANDS"]:
        assert f"$ mobileclip-deploy {command}".replace(" ", "") in text.replace(" ", ""), (
            "type: benchmarks/demo_picture.py"
        )
    assert text.count("passed") == 4  # a row for each tower
    assert len(drawn) < 200_000
    assert set(re.findall(r"https?://[^\"' )]+", drawn)) <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}


@pytest.mark.slow  # `make test` does without matplotlib
def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    """Byte for byte with the version of matplotlib that the picture names; another one draws the same points."""
    import matplotlib

    again = tmp_path / "again.svg"
    subprocess.run([sys.executable, BENCHMARKS / "accuracy_size.py", "-o", again], check=True)
    before, after = PICTURE.read_text(encoding="utf-8"), again.read_text(encoding="utf-8")
    if f"Matplotlib v{matplotlib.__version__}," in before:
        assert after == before, "type: python benchmarks/accuracy_size.py"
    assert re.findall(r'id="nano-[^"]+"', after) == re.findall(r'id="nano-[^"]+"', before)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # scripts there import one another
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name=name)


def test_the_page_of_precisions_is_what_its_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    own = script("precisions", monkeypatch)
    rows = json.loads(own["TABLE"].read_text(encoding="utf-8"))["rows"]
    assert page("figures/precisions.md") == own["page"](rows), "type: python benchmarks/precisions.py --page-only"
    measured = {(row["target"], precision_label(row["precision"])) for row in rows}
    subjects = script("subjects", monkeypatch)
    wanted = (
        (target, parse_precisions(name)) for target, name, *_ in (*subjects["NANO_PRECISIONS"], *subjects["LEARNED"])
    )
    assert measured == {(target, precision_label(precisions)) for target, precisions in wanted}


TABLES = [
    ("coreml_goldens", "rows"),
    ("contexts", "rows"),
    ("decoders", None),
    ("demo_page", None),
    ("finetune", None),
    ("library", None),
    ("library_parts", None),
    ("onnx_speed", "speed"),
    ("pictures", "pictures"),
    ("proof", "rows"),
    ("proof_cost", "rows"),
    ("rounding_cost", "rows"),
    ("reinforcement_throughput", None),
    ("coreai_unseen", "rows"),
    ("qnn_goldens", None),
]


@pytest.mark.parametrize(("name", "of"), TABLES)
def test_a_table_of_a_page_is_that_of_its_results(name: str, of: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    own = script(name, monkeypatch)
    result = own["KEPT"].read()
    assert own["KEPT"].shown() == own["table"](result if of is None else result[of])


@pytest.mark.parametrize("name", ["fault_kinds", "lint_rules"])
def test_a_table_of_a_page_is_that_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = script(name, monkeypatch)
    assert own["KEPT"].shown() == own["table"](), f"type: python benchmarks/{name}.py"


@pytest.mark.slow
def test_published_figures_have_sources_are_those_of_the_cards_and_the_page_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = script("published", monkeypatch)
    told = own["read"]()
    own["write"](tmp_path)
    for name in (own["PAGE"], own["CHART"]):
        assert (tmp_path / name).read_text("utf-8") == page(f"figures/{name}"), "type: python benchmarks/published.py"
    fields = ("imagenet_top1", "average_38", "coco_text_to_image_recall1")
    fields += ("iphone_12_pro_max_image_ms", "iphone_12_pro_max_text_ms")
    for row in told.rows:
        assert {figure.source for figure in row.figures.values()} <= set(told.sources), row.name
        card = None if row.card is None else load_variant(row.card)
        for field in fields if card else ():
            stated = getattr(card.published, field)
            figure = row.figures.get(field.removeprefix("iphone_12_pro_max_"))
            assert stated is None or stated == pytest.approx(figure.value, abs=0.0501), (row.name, field)
        for tower in ("image", "text") if card else ():
            counted = getattr(card, f"parameters_{tower}") / 1e6
            assert row.figures[f"{tower}_parameters"].value == pytest.approx(counted, abs=0.5), (row.name, tower)
