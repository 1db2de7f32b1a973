"""Names of strangers stay names in Markdown and in a spreadsheet."""

import pytest

from mobileclip_deploy.base.escaping import in_code, in_markdown, in_spreadsheet, markdown_row, shown_in_text
from mobileclip_deploy.base.files.pages import filled_page


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Pixel 8 (arm64), 6.1_2*", "Pixel 8 (arm64), 6.1_2*"),
        ("<img src=x>", "&lt;img src=x>"),
        ("[a](http://b) ![c](d)", r"\[a](http://b) !\[c](d)"),
        ("a | b `c`", r"a \| b \`c\`"),
        ("a\n# b", r"a\\n# b"),
        ("\\[a]", r"\\\[a]"),
        ("\u202e\x1b", r"\\u202e\\x1b"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, wanted: str) -> None:
    assert in_markdown(text) == wanted


def test_code_cannot_be_left_and_a_row_keeps_its_cells() -> None:
    assert in_code("a.onnx") == "`a.onnx`"
    assert in_code("a`` b` <i>") == "``` a`` b` <i> ```"
    assert markdown_row(["a|b", "c\n| d"]) == r"| a\|b | c\\n\| d |"


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", " =1", "\uff1d1", "-", "+cmd|' /C calc'!A0"])
def test_a_formula_becomes_text(text: str) -> None:
    assert in_spreadsheet(text) == f"'{text}"


@pytest.mark.parametrize("text", ["0.25", "-0.5", "+1", "-1e-05", "-inf", "cat", "a=b", "3-in-1", ""])
def test_numbers_and_words_stay(text: str) -> None:
    assert in_spreadsheet(text) == text


@pytest.mark.parametrize("start", ["\t", "\r", "\n"])
def test_what_a_spreadsheet_skips_before_a_formula_is_shown(start: str) -> None:
    assert in_spreadsheet(f"{start}=1").startswith("\\")


def test_a_page_shows_invisible_characters_of_a_name() -> None:
    page = filled_page(
        "mobileclip_deploy.search", heading="a\u202eb<i>", source="c\x1b\u200d", sections=[], picture=None
    )
    assert r"a\u202eb&lt;i&gt;" in page
    assert "c\\x1b\u200d" in page
    assert shown_in_text("a\n\tb\u2066") == "a\n\tb\\u2066"
