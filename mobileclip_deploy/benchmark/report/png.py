"""The figures as a PNG: the same drawing as in the HTML page, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mobileclip_deploy.benchmark.report.drawing import HEIGHT, WIDTH, Drawing, draw
from mobileclip_deploy.benchmark.report.points import REFERENCE, figures
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import InvalidInput

SCALE = 2  # pixels of the picture per unit of the drawing: text stays sharp on a phone and in print
HEAD, LINE = 44, 18  # units above a figure for its title, and for each line below it
INK, GREY, GRID, OWN = "#1b1b1f", "#76767f", "#d5d5dc", "#0b57c4"  # as in page.css, light
ANCHORS = {"start": "ls", "end": "rs", "middle": "ms"}  # SVG's -> Pillow's, on the base line


def write_png(results: Sequence[Result], path: Path) -> None:
    """Draw every figure below the other, each with its points in words.

    Raises:
        InvalidInput: no result has a point whose accuracy is known.
    """
    drawings = [draw(figure) for figure in figures(results)]
    if not drawings:
        raise InvalidInput("nothing to draw: no measured model has a known accuracy; write .html or .md")
    heights = [HEAD + HEIGHT + LINE * (len(drawing.measured) + 2) for drawing in drawings]
    picture = Image.new("RGB", (WIDTH * SCALE, sum(heights) * SCALE), "white")
    for number, drawing in enumerate(drawings):
        _Pen(ImageDraw.Draw(picture), sum(heights[:number])).figure(drawing)
    picture.save(path, format="PNG")


class _Pen:
    """Draws in a drawing's units, `top` of them below the picture's upper edge."""

    def __init__(self, canvas: ImageDraw.ImageDraw, top: int) -> None:
        self._canvas, self._top = canvas, top

    def figure(self, drawing: Drawing) -> None:
        self._text(drawing.left, 8, drawing.figure.device, "la", size=14)
        self._text(drawing.left, 27, drawing.figure.accuracy, "la", GREY)
        self._top += HEAD
        for across, value in drawing.across:
            self._line(across, drawing.top, across, drawing.bottom, GRID)
            self._text(across, drawing.bottom + 18, f"{value:g}", "ms")
        for down, value in drawing.down:
            self._line(drawing.left, down, drawing.right, down, GRID)
            self._text(drawing.left - 8, down, f"{value:g}", "rm")
        self._text((drawing.left + drawing.right) / 2, drawing.height - 12, "latency, ms (logarithmic)", "ms")
        self._text(8, drawing.top - 8, "accuracy, %", "lm")
        for other in drawing.published:
            self._dot(other.x, other.y, GREY, filled=False)
            label = other.label
            self._text(label.across, label.down, other.point.label, ANCHORS[label.anchor], GREY)
        for number, one in enumerate(drawing.measured, start=1):
            self._line(one.low, one.y, one.high, one.y, OWN, width=2)
            self._dot(one.x, one.y, OWN, filled=True)
            self._text(one.x, one.y - 9, str(number), "ms", OWN)
            words = f"{number}. {one.point.label}: {one.point.x:.3g} ms, {one.point.y:.1f}%"
            self._text(drawing.left, drawing.height + LINE * number, words, "ls", OWN)
        if drawing.published:
            down = drawing.height + LINE * (len(drawing.measured) + 1)
            self._text(drawing.left, down, f"Circles: {REFERENCE}, by its authors: not measured here", "ls", GREY)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return x * SCALE, (y + self._top) * SCALE

    def _line(self, x0: float, y0: float, x1: float, y1: float, colour: str, width: int = 1) -> None:
        self._canvas.line((self._at(x0, y0), self._at(x1, y1)), colour, width * SCALE)

    def _dot(self, x: float, y: float, colour: str, filled: bool) -> None:
        self._canvas.circle(self._at(x, y), 5 * SCALE, colour if filled else None, colour, 2 * SCALE)

    def _text(self, x: float, y: float, text: str, anchor: str, colour: str = INK, size: int = 11) -> None:
        self._canvas.text(self._at(x, y), text, colour, ImageFont.load_default(size * SCALE), anchor)
