"""Where things stand in a figure: accuracy over latency, the latency's axis logarithmic, as in the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobileclip_deploy.benchmark.report.points import Figure, Point

__all__ = ["HEIGHT", "WIDTH", "Drawing", "Measured", "Published", "draw", "scale", "ticks"]

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 56

Box = tuple[float, float, float, float]


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


@dataclass(frozen=True)
class Drawing:
    """A figure laid out. `latencies` and `accuracies` are the axes' marks: where, and how much."""

    figure: Figure
    latencies: tuple[tuple[float, float], ...]
    accuracies: tuple[tuple[float, float], ...]
    published: tuple[Published, ...]
    measured: tuple[Measured, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


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
        figure,
        latencies=tuple((x(value), value) for value in ticks(x0, x1)),
        accuracies=tuple((y(value), value) for value in marks),
        published=tuple(_labelled(point, x(point.x), y(point.y), taken) for point in figure.reference),
        measured=tuple(Measured(one, x(one.low), x(one.x), x(one.high), y(one.y)) for one in figure.points),
    )


def _labelled(point: Point, x: float, y: float, taken: list[Box]) -> Published:
    """A published point; its label goes where nothing of `taken` is, and is added to it."""
    width = 5.8 * len(point.label)  # a letter of 10.5 px is about 5.8 px wide
    places = [
        (x + 8, y + 4, "start", x + 8),
        (x - 8, y + 4, "end", x - 8 - width),
        (x, y - 8, "middle", x - width / 2),
        (x, y + 17, "middle", x - width / 2),
    ]
    boxes = [(left, down - 8, left + width, down + 2) for _, down, _, left in places]
    free = [index for index, box in enumerate(boxes) if box[2] < WIDTH and not any(_meet(box, one) for one in taken)]
    chosen = free[0] if free else 0
    taken.append(boxes[chosen])
    across, down, anchor, _ = places[chosen]
    return Published(point, x, y, across, down, anchor)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
