"""How near each operator comes to the limit: in figures and in the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from benchmark import documents
from chromium import open_page
from command_line import run

from mobileclip_deploy.benchmark.documents import write_document
from mobileclip_deploy.benchmark.limit import (
    OPERATOR_COLUMNS,
    TIMES_ALONE,
    Roofline,
    operator_rows,
    operator_shares,
    rooflines,
)
from mobileclip_deploy.benchmark.report.drawing import draw_roofline
from mobileclip_deploy.benchmark.result import Result

PEAK = {
    "engine": "x 1",
    "threads": 1,
    "float32_operations_per_second": 100e9,
    "int8_operations_per_second": 400e9,
    "copied_bytes_per_second": 20e9,
    "cached_bytes_per_second": 100e9,
}


def work(operations: int, moved: int, kind: str | None = None, arithmetic: str | None = None) -> dict[str, Any]:
    return {"arithmetic_operations": operations, "moved_bytes": moved, "kind": kind, "arithmetic": arithmetic}


PROFILE = [
    # 200 of 400 GOP/s, 50 of 100, and nothing: half of the time at half of the limit, and so on.
    {"operator": "QConv", "calls": 3, "total_ns": 5_000_000, "work": work(10**9, 10**7, "1x1", "int8")},
    {"operator": "Conv", "calls": 2, "total_ns": 4_000_000, "work": work(2 * 10**8, 10**8, "7x7 depthwise", "float32")},
    {"operator": "Gelu", "calls": 1, "total_ns": 1_000_000, "work": work(0, 4 * 10**6)},
]


def profiled(*profile: dict[str, Any], peaks: tuple[dict[str, Any], ...] = (PEAK,)) -> Result:
    """A result whose first cell was profiled."""
    whole = documents.result().model_dump(mode="json")
    cell = whole["cells"][0]
    cell["profile"] = cell["rounds"][0]["profile"] = list(profile)
    return Result.model_validate(whole | {"peaks": list(peaks)})


def drawn(*profile: dict[str, Any]) -> Roofline:
    (found,) = rooflines(profiled(*profile))
    return found


def test_a_share_is_of_the_limit_of_its_own_arithmetic() -> None:
    products, windows, rest = drawn(*PROFILE).shares
    assert (products.name, products.time_percent, products.per_second) == ("QConv 1x1", 50.0, 200e9)
    assert (products.limit_percent, products.bytes_per_second, products.per_byte) == (50.0, 2e9, 100.0)
    assert (windows.name, windows.limit_percent, windows.per_byte) == ("Conv 7x7 depthwise", 50.0, 2.0)
    assert (rest.name, rest.per_second, rest.limit_percent, rest.bytes_per_second) == ("Gelu", None, None, 4e9)


def test_a_tower_reaches_the_time_that_its_products_would_take_at_the_limit() -> None:
    found = drawn(*PROFILE)
    assert found.reached_percent == pytest.approx(45.0)  # 2.5 ms in int8 and 2 in float32, of 10
    assert found.summary == "This tower reaches 45% of the limit of its cores (float32 and int8)"


def test_a_runtime_that_tells_times_alone_has_no_roofline() -> None:
    times = [{name: one[name] for name in ("operator", "calls", "total_ns")} for one in PROFILE]
    result = profiled(*times)
    assert rooflines(result) == ()
    rows = operator_rows(operator_shares(result.cells[0].profile))
    assert rows[0] == ("QConv", "3", "5.000", "50.0")
    assert len(rows[0]) == len(TIMES_ALONE)
    assert rooflines(profiled(*PROFILE, peaks=())) == ()
    assert rooflines(profiled(*PROFILE, peaks=(PEAK | {"threads": 2},))) == ()


def test_what_takes_little_stands_in_one_row() -> None:
    small = [{"operator": f"small {n}", "calls": 2, "total_ns": 1000, "work": work(0, 8)} for n in range(12)]
    rows = operator_rows(drawn(*PROFILE, *small).shares)
    assert [len(row) for row in rows] == [len(OPERATOR_COLUMNS)] * 13
    assert rows[-1][:3] == ("3 others", "6", "0.003")


def test_a_spot_stands_where_its_figures_are_and_no_label_covers_another() -> None:
    more = [
        {"operator": f"MatMul{n}", "calls": 1, "total_ns": 10**6, "work": work(10**8, 10**7 + n, None, "float32")}
        for n in range(6)
    ]
    picture = draw_roofline(drawn(*PROFILE, *more))
    assert [spot.share.name for spot in picture.spots[:2]] == ["QConv 1x1", "Conv 7x7 depthwise"]
    assert len(picture.spots) == 8  # Gelu multiplies nothing
    first, second = picture.spots[:2]
    assert first.x > second.x  # more operations a byte
    assert first.y < second.y  # and faster, which is higher up
    assert first.radius > second.radius
    assert all(
        picture.left <= spot.x <= picture.right and picture.top <= spot.y <= picture.bottom for spot in picture.spots
    )
    boxes = [spot.label.box for spot in picture.spots if spot.label]
    apart = [
        one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1] for one in boxes for two in boxes
    ]
    assert apart.count(False) == len(boxes) >= 3  # each meets itself alone
    assert sorted(roof.label for roof in picture.roofs) == ["", "", "float32: 100 GOP/s", "int8: 400 GOP/s"]
    (memory, *_) = [roof for roof in picture.roofs if roof.from_memory]
    assert len(memory.points.split()) == 3


def test_the_report_draws_it_and_says_it(tmp_path: Path) -> None:
    write_document(tmp_path / "r.json", profiled(*PROFILE))
    for name in ("r.html", "r.md"):
        assert run("report", tmp_path / "r.json", "-o", tmp_path / name).code == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "This tower reaches 45% of the limit of its cores (float32 and int8)" in text
        assert "Conv 7x7 depthwise" in text
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<g class="spot (?:int8|float32)">', page)) == 2
    with open_page() as browser:
        for width in (390, 1280):
            browser.visit(tmp_path / "r.html")
            browser.resize(width, dark=width < 700)
            assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints == []
