"""The report: everything it says is in it, in every format, and a browser has nothing to complain about."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from benchmark import documents
from chromium import Page, open_page
from command_line import refusal, run
from PIL import Image, ImageColor

from mobileclip_deploy.benchmark.documents import write_document
from mobileclip_deploy.benchmark.report.drawing import GREY, HEAD, OWN, SCALE, draw, ticks
from mobileclip_deploy.benchmark.report.points import IMAGENET, figures, published
from mobileclip_deploy.benchmark.result import Result

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>&\"'|"


def answer(variant: str, **device: object) -> Result:
    """The small result, of a variant whose accuracy was published."""
    whole = documents.result().model_dump(mode="json")
    for cell in whole["job"]["cells"]:
        cell["variant"] = variant
    return Result.model_validate(whole | {"device": whole["device"] | device})


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A host's result and a stand-in's, whose name tries to break out of the page."""
    folder = tmp_path_factory.mktemp("results")
    host = answer("nano", kind="host", simulated=False, model="Some Processor")
    write_document(folder / "host.json", host)
    write_document(folder / "phone.json", answer("mobileclip_s0", model=HOSTILE))
    return [folder / "host.json", folder / "phone.json"]


@pytest.fixture(scope="module")
def page(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    found = run("report", *sources, "-o", path)
    assert found.code == 0, found.stderr
    assert "SIMULATED" in found.stderr
    return path


def test_a_page_needs_nothing_from_anywhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"|@import|url\(", text) == []


def test_a_stand_in_is_marked_in_page_markdown_and_table(sources: list[Path], page: Path, tmp_path: Path) -> None:
    run("report", sources[1], "-o", tmp_path / "r.md")
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    for text in (page.read_text(encoding="utf-8"), markdown):
        assert "SIMULATED android:" in text
        assert "not real latencies" in text.replace("&#x27;", "'")


def test_markdown_holds_the_figures_the_conditions_and_what_went_wrong(sources: list[Path], tmp_path: Path) -> None:
    assert run("report", sources[0], "-o", tmp_path / "r.md").code == 0
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    for word in ("| 2.02 |", "cosine 1.000000 over 2", "invalid: cosine 0.31", "seed: 11", "thermal state fair"):
        assert word in text
    lines = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(lines[:4]) == {lines[0]}


def test_what_an_export_found_of_resizing_inside_is_said_once_a_tower(sources: list[Path], tmp_path: Path) -> None:
    whole = answer("nano").model_dump(mode="json")
    cell = whole["job"]["cells"][0]
    cell["resizing"] = found = "passed: relative 2.0e-03; a photograph of 12 megapixels adds 0.34"
    write_document(tmp_path / "r.json", Result.model_validate(whole))
    for name in ("r.html", "r.md"):
        assert run("report", tmp_path / "r.json", "-o", tmp_path / name).code == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.count(found) == text.count(f"resizing inside {cell['label']}") == 1


def test_an_accuracy_measured_at_export_is_drawn_apart_from_published_ones(sources: list[Path]) -> None:
    (figure,) = figures([answer("mobileclip_s0")])
    assert len(figure.points) == 1
    assert figure.accuracy == IMAGENET
    assert figure.points[0].y == 67.8
    whole = answer("nano").model_dump(mode="json")
    for cell in whole["job"]["cells"]:
        cell["accuracy"] = {"metric": "zero-shot top-1", "dataset": "nano's held-out set", "percent": 53.2}
    (figure,) = figures([Result.model_validate(whole)])
    assert (figure.points[0].y, figure.reference) == (53.2, ())


def test_the_reference_series_is_what_the_cards_quote_and_its_axis_is_marked_at_one_two_and_five() -> None:
    points = {point.label: (point.x, point.y) for point in published()}
    assert points["MobileCLIP-S0"] == (pytest.approx(3.1), 67.8)
    assert points["MobileCLIP2-S4"] == (pytest.approx(26.2), 81.9)
    assert ticks(0.9, 30) == [1, 2, 5, 10, 20]


def test_a_png_shows_the_figure_and_every_point_of_it(sources: list[Path], tmp_path: Path) -> None:
    assert run("report", sources[1], "-o", tmp_path / "f.png").code == 0
    picture = Image.open(tmp_path / "f.png").convert("RGB")
    (figure,) = figures([answer("mobileclip_s0")])
    drawing = draw(figure)
    assert picture.width == SCALE * drawing.width
    (point,) = drawing.measured
    assert picture.getpixel((round(SCALE * point.x), SCALE * HEAD + round(SCALE * point.y))) == ImageColor.getrgb(OWN)
    assert len(drawing.published) > 10
    for one in drawing.published:  # a circle: grey on its rim, white inside
        across, down = round(SCALE * one.x), SCALE * HEAD + round(SCALE * one.y)
        assert ImageColor.getrgb(GREY) in [picture.getpixel((across + 5 * SCALE + step, down)) for step in (-1, 0)]


@pytest.mark.slow
def test_an_svg_marks_what_was_published_apart_and_hostile_names_stay_text(sources: list[Path], tmp_path: Path) -> None:
    assert run("report", sources[1], "-o", tmp_path / "f.svg").code == 0
    drawn = ElementTree.parse(tmp_path / "f.svg").getroot()
    groups = [group.get("class") for group in drawn.iter(f"{SVG}g")]
    (figure,) = figures([answer("mobileclip_s0", model=HOSTILE)])
    assert (groups.count("measured"), groups.count("reference")) == (len(figure.points), len(figure.reference))
    assert not list(drawn.iter(f"{SVG}script"))
    texts = [text.text or "" for text in drawn.iter(f"{SVG}text")]
    assert any("not measured here" in text for text in texts)
    assert any(HOSTILE in text for text in texts)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("r.pdf", None, "choose one of them"),
        ("r.html", "{}", "source.json was not written by `benchmark --json`"),
        ("r.html", documents.job().model_dump_json(), "is no benchmark result of schema version 1"),
        ("r.png", answer("somebody_elses").model_dump_json(), "nothing to draw"),
    ],
)
def test_wrong_use_is_one_line(
    sources: list[Path], tmp_path: Path, name: str, text: str | None, complaint: str
) -> None:
    source = sources[0]
    if text is not None:
        source = tmp_path / "source.json"
        source.write_text(text, encoding="utf-8")
    assert complaint in refusal(run("report", source, "-o", tmp_path / name))


def test_a_report_is_not_overwritten_unless_asked(sources: list[Path], page: Path) -> None:
    assert "--force" in refusal(run("report", *sources, "-o", page))


@pytest.fixture
def shown(page: Path) -> Page:
    with open_page() as browser:
        browser.visit(page)
        yield browser  # type: ignore[misc]


FIRST_COLUMN = "[...document.querySelector('tbody').rows].map(row => row.cells[0].textContent)"


def test_a_browser_shows_it_and_has_nothing_to_complain_about(shown: Page, tmp_path: Path) -> None:
    picture = shown.screenshot()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert shown.evaluate("document.querySelectorAll('svg').length") == 1
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert HOSTILE in shown.evaluate("document.body.textContent")
    assert shown.complaints == []


SEEN = """[...document.querySelectorAll('tbody td')].filter(cell => cell.textContent).map(cell => {
    const box = cell.getBoundingClientRect();
    return [cell.dataset.name, box.left >= 0 && box.right <= window.innerWidth && box.width > 20];
})"""


# Lines of the first two cards below their names, and whether what was measured comes first.
CARD = """(() => {
    const lines = (row) => [...row.cells].filter(cell => cell.dataset.name && cell.textContent && cell.cellIndex)
        .filter(cell => cell.getBoundingClientRect().height > 0);
    const [first, second] = [...document.querySelector('tbody').rows].map(lines);
    const top = (cell) => cell.getBoundingClientRect().top;
    const [number] = [...first].sort((one, two) => top(one) - top(two));
    return [first.length, (second || first).length, number.dataset.name === 'median, ms'];
})()"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_answers_status_and_warnings_are_on_the_screen(shown: Page, width: int, dark: bool) -> None:
    shown.resize(width, dark=dark)
    seen = dict(map(tuple, shown.evaluate(SEEN)))
    assert {name: seen[name] for name in ("median, ms", "answers", "status", "warnings")} == dict.fromkeys(
        ("median, ms", "answers", "status", "warnings"), True
    )
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if width < 700:
        assert shown.evaluate(CARD) == [8, 8, True]
        assert all(seen[name] for name in ("tower", "runtime", "place"))
        shown.evaluate("document.querySelectorAll('tbody .more summary').forEach(one => one.click())")
        assert all(dict(map(tuple, shown.evaluate(SEEN))).values())
        assert shown.evaluate(CARD)[0] > 8
        assert shown.evaluate("document.querySelector('svg').getBoundingClientRect().right <= window.innerWidth")
    back, ink = shown.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (back == "rgb(255, 255, 255)") is not dark
    assert back != ink


def test_a_table_sorts_by_keyboard_alone_and_what_is_missing_last(shown: Page) -> None:
    before = shown.evaluate(FIRST_COLUMN)
    for _ in range(8):
        shown.press("Tab")
        if shown.evaluate("document.activeElement.textContent") == "model":
            break
    assert shown.evaluate("document.activeElement.tagName") == "BUTTON"
    shown.press("Enter")
    ascending = shown.evaluate(FIRST_COLUMN)
    shown.press("Enter")
    assert ascending == sorted(before)
    assert shown.evaluate(FIRST_COLUMN) == sorted(before, reverse=True)
    assert shown.evaluate("document.querySelector('th').getAttribute('aria-sort')") == "descending"
    assert shown.evaluate("document.getElementById('announcement').textContent") == "sorted by model, descending"
    assert shown.complaints == []
    press = "document.querySelectorAll('th button')[6].click()"
    values = "[...document.querySelector('tbody').rows].map(row => row.cells[6].textContent)"
    assert shown.evaluate("document.querySelectorAll('th button')[6].textContent") == "median, ms"
    for _ in range(2):
        shown.evaluate(press)
        assert shown.evaluate(values) == ["2.02", ""]


def test_a_screen_reader_is_told_what_everything_is(shown: Page) -> None:
    spoken = shown.spoken()
    assert any(role == "image" and "against latency" in name for role, name in spoken)
    assert ("heading", "Accuracy against latency") in spoken
    headings = shown.evaluate("[...document.querySelectorAll('h2')].map(one => one.textContent)")
    assert headings[-1] == "Accuracy against latency"  # numbers before figures
    assert [name for role, name in spoken if role in ("button", "image", "table", "region") and not name] == []


def test_names_of_a_result_add_nothing_to_markdown(tmp_path: Path) -> None:
    harm = "a\n# b\n\n- c <img src=d> [e](http://f) | g `h`"
    whole = documents.result().model_dump(mode="json")
    whole["device"] |= {"model": harm, "name": harm, "os": harm}
    whole["job"]["cells"][0] |= {"label": harm, "accuracy": {"metric": harm, "dataset": harm, "percent": 60}}
    whole["job"]["cells"][0]["variant"] = harm
    whole["cells"][0]["rounds"][0]["warnings"] = [harm]
    (tmp_path / "result.json").write_text(json.dumps(whole), encoding="utf-8")
    assert run("report", tmp_path / "result.json", "-o", tmp_path / "a.md").code == 0
    lines = (tmp_path / "a.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(r"<img|(?<!\\)\[|(?<!\\)`|^# b|^- c", line)] == []
    assert sum(r"a\\n# b" in line for line in lines) > 5
