"""Tables: one line per row in a file, and within a terminal's width without a broken name."""

import pytest

from mobileclip_deploy.cli.columns import laid_out

COLUMNS = ["tower", "check", "gate", ">cosine", "empty", "detail"]
NAME = "encoder.stages.0.blocks.0.token_mixer.conv.weight"
ROWS = [
    ["image", "shipped", "cosine >= 0.999, SNR >= 10 dB", "0.999999", "", "ONNX Runtime 1.32.0 (CPU)"],
    [
        "image",
        "weights",
        "",
        "",
        "",
        f"51 layers equal the checkpoint's, quantized; {NAME} has the largest rounding error",
    ],
]


def test_in_a_file_each_row_is_a_line_without_blanks_at_its_end() -> None:
    lines = laid_out(COLUMNS, ROWS, None)
    assert len(lines) == 2 + len(ROWS)
    assert lines == [line.rstrip() for line in lines]
    assert lines[0].split() == ["tower", "check", "gate", "cosine", "detail"]
    assert [line.index("ONNX") for line in lines[2:3]] == [lines[0].index("detail")]


@pytest.mark.parametrize("width", [120, 80, 60])
def test_in_a_terminal_nothing_is_wider_and_no_word_is_broken(width: int) -> None:
    lines = laid_out(COLUMNS, ROWS, width)
    assert max(map(len, lines)) <= width
    assert {word for row in ROWS for cell in row for word in cell.split()} <= set(" ".join(lines).split())


def test_what_does_not_fit_goes_under_its_row_and_then_row_by_row() -> None:
    under = laid_out(COLUMNS, ROWS, 80)
    assert under[0].split() == ["tower", "check", "gate", "cosine"]
    assert "    ONNX Runtime 1.32.0 (CPU)" in under
    stacked = laid_out(COLUMNS, ROWS, 30)
    assert stacked[:2] == ["tower   image", "check   shipped"]
    assert any(NAME in line for line in stacked)  # wider than the terminal, and whole


def test_a_figure_and_its_interval_stay_on_a_line() -> None:
    columns, row = ["bundle", ">top-1 %", ">change"], ["nano-onnx-fp16", "68.18", "-0.05 (-0.26 .. +0.16)"]
    assert "-0.05 (-0.26 .. +0.16)" in laid_out(columns, [row], 46)[-1]
    assert laid_out(columns, [row], 30) == [
        "bundle   nano-onnx-fp16",
        "top-1 %  68.18",
        "change   -0.05 (-0.26 ..",
        "         +0.16)",
    ]


def test_numbers_stand_at_the_right_and_wide_characters_count_twice() -> None:
    lines = laid_out(["name", ">n"], [["猫", "1"], ["cat", "10"]], None)
    assert lines[2:] == ["猫     1", "cat   10"]
