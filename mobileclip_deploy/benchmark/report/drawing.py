"""Layout of a report's figures: accuracy over latency, as in the paper.

Coordinates are in pixels from the upper left corner. Templates draw the figures as SVG, and Pillow as a PNG.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mobileclip_deploy.base.files import write_whole
from mobileclip_deploy.base.files.pages import filled_page
from mobileclip_deploy.benchmark.report.points import REFERENCE, Figure, Point, figures
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import InvalidInput

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 56
MOST_TICKS = 9
SCALE = 2  # pixels of the picture per unit of the drawing: text stays sharp on a phone and in print
HEAD, LINE = 44, 18  # units above a figure for its title, and for each line below it
INK, GREY, GRID, OWN = "#1b1b1f", "#76767f", "#d5d5dc", "#0b57c4"  # as in page.css, light
ANCHORS = {"start": "ls", "end": "rs", "middle": "ms"}  # SVG's -> Pillow's, on the base line

Box = tuple[float, float, float, float]
Marks = tuple[tuple[float, float], ...]
"""Marks of an axis: (coordinate, value) of each."""


@dataclass(frozen=True)
class Label:
    """Position of a label: its end by the SVG `text-anchor`, on its base line, and the covered box."""

    across: float
    down: float
    anchor: str
    box: Box


@dataclass(frozen=True)
class Measured:
    """A measured point and the interval of its median, in pixels."""

    point: Point
    low: float
    x: float
    high: float
    y: float


@dataclass(frozen=True)
class PublishedPoint:
    """A published point with its label, in pixels."""

    point: Point
    x: float
    y: float
    label: Label


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Layout of a figure: latencies across on a logarithmic axis, accuracies down, and the room around them."""

    figure: Figure
    published: tuple[PublishedPoint, ...]
    measured: tuple[Measured, ...]
    across: Marks
    down: Marks
    top: int = TOP
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM

    @property
    def total_height(self) -> int:
        """Height with the title and the list of points."""
        return HEAD + self.height + LINE * (len(self.measured) + 2)


def draw(figure: Figure) -> Drawing:
    """Returns the layout of a figure, with room around its points."""
    points = (*figure.points, *figure.reference)
    x0, x1 = min(point.low for point in points) / 1.4, max(point.high for point in points) * 1.4
    accuracies = [point.y for point in points]
    margin = max(1.0, 0.1 * (max(accuracies) - min(accuracies)))
    y0, y1 = min(accuracies) - margin, max(accuracies) + margin
    x = _logarithmic(x0, x1, LEFT, WIDTH - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y0) / (y1 - y0)

    step = next(size for size in (0.5, 1, 2, 5, 10, 20) if (y1 - y0) / size <= 8)
    marks = [index * step for index in range(math.ceil(y0 / step), math.floor(y1 / step) + 1)]
    spots = [(x(point.x), y(point.y)) for point in points]
    boxes = [(across - 5, down - 5, across + 5, down + 5) for across, down in spots]
    published = []
    for point, (across, down) in zip(figure.reference, spots[len(figure.points) :], strict=True):
        places = _label_places(point.label, across, down, 8)
        published.append(PublishedPoint(point, across, down, _free(places, boxes) or places[0]))
        boxes.append(published[-1].label.box)
    return Drawing(
        figure=figure,
        across=tuple((x(value), value) for value in ticks(x0, x1)),
        down=tuple((y(value), value) for value in marks),
        published=tuple(published),
        measured=tuple(Measured(point, x(point.low), x(point.x), x(point.high), y(point.y)) for point in figure.points),
    )


def _logarithmic(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    """Returns a logarithmic axis from `low` at pixel `first` to `high` at pixel `last`: value -> pixel."""
    return lambda value: first + (last - first) * math.log(value / low) / math.log(high / low)


def ticks(low: float, high: float) -> list[float]:
    """Returns 1, 2 and 5 times powers of ten within bounds. Returns the powers alone if the axis is long."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [(factor, factor * 10.0**power) for power in powers for factor in (1, 2, 5)]
    within = [(factor, value) for factor, value in candidates if low <= value <= high]
    return [value for factor, value in within if factor == 1 or len(within) <= MOST_TICKS]


def _label_places(text: str, x: float, y: float, away: float) -> tuple[Label, ...]:
    """Returns labels right of a point, left of it, above and below, `away` pixels from its middle."""
    width = 5.8 * len(text)  # a letter of 10.5 px is about 5.8 px wide
    places = [
        (x + away, y + 4, "start", x + away),
        (x - away, y + 4, "end", x - away - width),
        (x, y - away, "middle", x - width / 2),
        (x, y + away + 9, "middle", x - width / 2),
    ]
    return tuple(
        Label(across, down, anchor, (left, down - 8, left + width, down + 2)) for across, down, anchor, left in places
    )


def _free(places: Sequence[Label], taken: Sequence[Box]) -> Label | None:
    """Returns the first label within the figure that overlaps no box of `taken`. None if all overlap."""
    return next((at for at in places if at.box[2] < WIDTH and not any(_meet(at.box, box) for box in taken)), None)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def svg(drawings: Sequence[Drawing]) -> str:
    """Returns an SVG with all figures, one below the other, each with a list of its measured points."""
    return filled_page(__package__ or "", "figures.svg", drawings=drawings, head=HEAD, step=LINE, reference=REFERENCE)


def write_picture(results: Sequence[Result], path: Path) -> None:
    """Draws all figures as an SVG or a PNG, one below the other, each with a list of its points.

    Raises:
        InvalidInput: no measured model has a known accuracy.
    """
    drawings = [draw(figure) for figure in figures(results)]
    if not drawings:
        raise InvalidInput("nothing to draw: no measured model has a known accuracy; write .html or .md")
    if path.suffix == ".svg":
        return write_whole(path, svg(drawings))
    heights = [drawing.total_height for drawing in drawings]
    picture = Image.new("RGB", (WIDTH * SCALE, sum(heights) * SCALE), "white")
    for index, drawing in enumerate(drawings):
        _Pen(ImageDraw.Draw(picture), sum(heights[:index])).figure(drawing)
    return picture.save(path, format="PNG")


class _Pen:
    """A pen that draws in units of a drawing, `top` units below the picture's upper edge."""

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
        for number, measured in enumerate(drawing.measured, start=1):
            self._line(measured.low, measured.y, measured.high, measured.y, OWN, width=2)
            self._dot(measured.x, measured.y, OWN, filled=True)
            self._text(measured.x, measured.y - 9, str(number), "ms", OWN)
            words = f"{number}. {measured.point.label}: {measured.point.x:.3g} ms, {measured.point.y:.1f}%"
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
