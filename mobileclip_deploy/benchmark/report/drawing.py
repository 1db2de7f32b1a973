"""Where things stand in a figure: accuracy over latency, the latency's axis logarithmic, as in the paper."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mobileclip_deploy.benchmark.report.points import Figure, Point

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 56

Box = tuple[float, float, float, float]


Marks = tuple[tuple[float, float], ...]
"""Marks of an axis: where, in pixels, and how much."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The axes of a figure and the room around them, in pixels from the upper left corner."""

    across: Marks
    down: Marks
    top: int = TOP
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class LabelPlace:
    """Where a label may stand: its end that the SVG `text-anchor` names, on its base line, and what it covers."""

    across: float
    down: float
    anchor: str
    box: Box


@dataclass(frozen=True)
class Measured:
    """A point of ours and the interval of its median, in pixels from the upper left corner."""

    point: Point
    low: float
    x: float
    high: float
    y: float


@dataclass(frozen=True)
class Published:
    """A published point, and its label with the side of it (an SVG `text-anchor`) that is at `across`."""

    point: Point
    x: float
    y: float
    across: float
    down: float
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Drawing(Frame):
    """A figure laid out: latencies across, accuracies down."""

    figure: Figure
    published: tuple[Published, ...]
    measured: tuple[Measured, ...]


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within bounds."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def scale(figure: Figure) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bounds of both axes with room around the points."""
    points = (*figure.points, *figure.reference)
    lows, highs = [point.low for point in points], [point.high for point in points]
    accuracies = [point.y for point in points]
    margin = max(1.0, 0.1 * (max(accuracies) - min(accuracies)))
    return (min(lows) / 1.4, max(highs) * 1.4), (min(accuracies) - margin, max(accuracies) + margin)


def draw(figure: Figure) -> Drawing:
    """Lay a figure out."""
    (x0, x1), (y0, y1) = scale(figure)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - math.log(x0)) / (math.log(x1) - math.log(x0))

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y0) / (y1 - y0)

    step = next(size for size in (0.5, 1, 2, 5, 10, 20) if (y1 - y0) / size <= 8)
    marks = [index * step for index in range(math.ceil(y0 / step), math.floor(y1 / step) + 1)]
    spots = [(x(point.x), y(point.y)) for point in (*figure.points, *figure.reference)]
    taken = [(across - 5, down - 5, across + 5, down + 5) for across, down in spots]
    return Drawing(
        figure=figure,
        across=tuple((x(value), value) for value in ticks(x0, x1)),
        down=tuple((y(value), value) for value in marks),
        published=tuple(_labelled(point, x(point.x), y(point.y), taken) for point in figure.reference),
        measured=tuple(Measured(one, x(one.low), x(one.x), x(one.high), y(one.y)) for one in figure.points),
    )


def _labelled(point: Point, x: float, y: float, taken: list[Box]) -> Published:
    """A published point; its label goes where nothing of `taken` is, and is added to it."""
    places = label_places(point.label, x, y, 8)
    place = next((one for one in places if is_free(one.box, taken)), places[0])
    taken.append(place.box)
    return Published(point, x, y, place.across, place.down, place.anchor)


def label_places(text: str, x: float, y: float, away: float) -> tuple[LabelPlace, ...]:
    """Right of a point, left of it, above and below, so far from its middle."""
    width = 5.8 * len(text)  # a letter of 10.5 px is about 5.8 px wide
    places = [
        (x + away, y + 4, "start", x + away),
        (x - away, y + 4, "end", x - away - width),
        (x, y - away, "middle", x - width / 2),
        (x, y + away + 9, "middle", x - width / 2),
    ]
    return tuple(
        LabelPlace(across, down, anchor, (left, down - 8, left + width, down + 2))
        for across, down, anchor, left in places
    )


def is_free(box: Box, taken: Iterable[Box]) -> bool:
    """Whether a box is within the figure and meets none of `taken`."""
    return box[2] < WIDTH and not any(_meet(box, one) for one in taken)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
