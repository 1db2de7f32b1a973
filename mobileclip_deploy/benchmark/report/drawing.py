"""A figure as SVG: accuracy over latency, the latency's axis logarithmic, as in the paper."""

from __future__ import annotations

import math
from html import escape

from mobileclip_deploy.benchmark.report.points import REFERENCE, Figure, Point

__all__ = ["scale", "svg", "ticks"]

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 56


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


def svg(figure: Figure, number: int) -> str:
    """The figure with a title and a description for screen readers; `number` makes its ids unique in a page."""
    (x0, x1), (y0, y1) = scale(figure)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - math.log(x0)) / (math.log(x1) - math.log(x0))

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y0) / (y1 - y0)

    parts = []
    for value in ticks(x0, x1):
        at = f"{x(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    step = next(size for size in (0.5, 1, 2, 5, 10, 20) if (y1 - y0) / size <= 8)
    for index in range(math.ceil(y0 / step), math.floor(y1 / step) + 1):
        at = f"{y(index * step):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at}" dy="4" text-anchor="end">{index * step:g}</text>')
    spots = [(x(point.x), y(point.y)) for point in (*figure.points, *figure.reference)]
    taken = [(across - 5, down - 5, across + 5, down + 5) for across, down in spots]
    parts += [_reference(point, x(point.x), y(point.y), taken) for point in figure.reference]
    for index, point in enumerate(figure.points, start=1):
        parts.append(_measured(point, index, (x(point.low), x(point.x), x(point.high)), y(point.y)))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">latency, ms (logarithmic)</text>')
    parts.append(f'<text class="axis" transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)">accuracy, %</text>')
    title = escape(f"{figure.accuracy}, against latency on {figure.device}")
    words = "; ".join(f"{point.label}: {point.x:.3g} ms, {point.y:.1f}%" for point in figure.points)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t{number} d{number}">'
        f'<title id="t{number}">{title}</title><desc id="d{number}">{escape(words)}</desc>{"".join(parts)}</svg>'
    )


Box = tuple[float, float, float, float]


def _reference(point: Point, x: float, y: float, taken: list[Box]) -> str:
    """A published point; its label goes where nothing of `taken` is, and is added to it."""
    width = 5.8 * len(point.label)
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
    label = escape(point.label)
    return (
        f'<g class="reference"><circle cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{label}: {point.x:g} ms, {point.y:g}%, '
        f'{REFERENCE}</title></circle><text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}">{label}</text></g>'
    )


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _measured(point: Point, number: int, xs: tuple[float, float, float], y: float) -> str:
    low, middle, high = (f"{value:.1f}" for value in xs)
    label = escape(point.label)
    return (
        f'<g class="measured"><line x1="{low}" x2="{high}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle cx="{middle}" cy="{y:.1f}" r="5"><title>{label}: {point.x:.3g} ms, {point.y:.1f}%</title></circle>'
        f'<text x="{xs[1]:.1f}" y="{y - 9:.1f}" text-anchor="middle">{number}</text></g>'
    )
