"""smallest.svg: what a search tried and what else was worth trying, noise against bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from mobileclip_deploy.export.smallest.log import Outcome, Point, SearchLog

__all__ = ["draw"]

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50
COLOURS: dict[Outcome | None, str] = {
    "passed": "#2f7d32",
    "failed": "#b2471d",
    "undecided": "#a67c00",
    None: "#9a9a9a",
}
WORDS: dict[Outcome | None, str] = {"passed": "passed", "failed": "failed", "undecided": "undecided", None: "not tried"}
# What moves less than this is drawn as what does not move at all, so many dB above the nearest of the rest: float16 and
# float32 alone would have most of the height.
MOST, EXACT = 60.0, 10.0


@dataclass(frozen=True)
class _Axes:
    """MB on a logarithmic axis, dB on a linear one."""

    sizes: tuple[float, float]
    levels: tuple[float, float]

    def x(self, size: float) -> float:
        low, high = (math.log(end) for end in self.sizes)
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - low) / (high - low)

    def y(self, level: float) -> float:
        low, high = self.levels
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (level - low) / (high - low)


def draw(log: SearchLog) -> str:
    """An SVG: a point for each candidate on the frontier, and for each that was tried and has left it since; its
    colour says what became of it, its title what it is. The same log, of one candidate or more, gives the same text."""
    points = [*log.frontier, *_left(log)]
    finite = [point.snr_db for point in points if point.snr_db is not None and abs(point.snr_db) <= MOST]
    exact = max(finite, default=0.0) + EXACT
    sizes = [point.predicted_bytes / 1e6 for point in points]
    axes = _Axes((min(sizes) / 1.1, max(sizes) * 1.1), (math.floor(min(finite, default=0.0)) - 1, exact + 2))
    line = " ".join(f"{axes.x(s):.1f},{axes.y(level):.1f}" for s, level in _places(log.frontier, exact))
    body = [
        f'<polyline points="{line}" fill="none" stroke="#bbbbbb"/>',
        *_ticks(axes),
        *(_point(axes, point, exact) for point in points),
        *_legend(),
    ]
    title = f"Search on {log.target}: bytes and noise of both towers, as predicted"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333333">'
    )
    white = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    heading = f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>'
    return "\n".join([head, white, heading, *body, "</svg>", ""])


def _left(log: SearchLog) -> Iterator[Point]:
    """What was tried and is not on the frontier: it holds a tower that failed."""
    there = {(*point.precisions.items(), point.predicted_bytes) for point in log.frontier}
    for trial in log.trials:
        if (*trial.precisions.items(), trial.predicted_bytes) not in there:
            noise = sum(10 ** (-level / 10) for level in trial.predicted_snr_db.values() if level is not None)
            yield Point(
                precisions=trial.precisions,
                predicted_bytes=trial.predicted_bytes,
                snr_db=-10 * math.log10(noise) if noise else None,
                outcome=trial.outcome,
            )


def _places(points: tuple[Point, ...], exact: float) -> Iterator[tuple[float, float]]:
    for point in points:
        level = exact if point.snr_db is None or point.snr_db > MOST else max(point.snr_db, -MOST)
        yield point.predicted_bytes / 1e6, level


def _point(axes: _Axes, point: Point, exact: float) -> str:
    ((size, level),) = _places((point,), exact)
    what = ", ".join(f"{tower} {precision}" for tower, precision in point.precisions.items())
    noise = "nothing moves" if point.snr_db is None else f"{point.snr_db:.1f} dB"
    told = escape(f"{what}: {size:.2f} MB, {noise}, {WORDS[point.outcome]}")
    x, y, colour = axes.x(size), axes.y(level), COLOURS[point.outcome]
    fill = colour if point.outcome == "passed" else "white"
    radius = 6 if point.outcome == "passed" else 4
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="2">'
    return f"{circle}<title>{told}</title></circle>"


def _ticks(axes: _Axes) -> Iterator[str]:
    """The axes, with round numbers beside them."""
    left, bottom = LEFT, HEIGHT - BOTTOM
    yield f'<path d="M{left},{TOP} V{bottom} H{WIDTH - RIGHT}" fill="none" stroke="#333333"/>'
    low, high = axes.sizes
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for size in (digit * 10.0**power for power in decades for digit in (1, 1.5, 2, 3, 4, 5, 7)):
        if low <= size <= high:
            yield f'<text x="{axes.x(size):.1f}" y="{bottom + 18}" text-anchor="middle">{size:g}</text>'
            yield f'<path d="M{axes.x(size):.1f},{bottom} v4" stroke="#333333"/>'
    step = 5 if axes.levels[1] - axes.levels[0] < 60 else 20
    for level in range(math.ceil(axes.levels[0] / step) * step, int(axes.levels[1]) + 1, step):
        yield f'<text x="{left - 8}" y="{axes.y(level) + 4:.1f}" text-anchor="end">{level}</text>'
        yield f'<path d="M{left},{axes.y(level):.1f} h-4" stroke="#333333"/>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">MB, predicted (logarithmic)</text>'
    yield f'<text x="{left + 6}" y="{TOP + 4}">dB</text>'


def _legend() -> Iterator[str]:
    for number, outcome in enumerate(WORDS):
        x, y = WIDTH - RIGHT - 90, HEIGHT - BOTTOM - 80 + 18 * number
        fill = COLOURS[outcome] if outcome == "passed" else "white"
        yield f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{fill}" stroke="{COLOURS[outcome]}" stroke-width="2"/>'
        yield f'<text x="{x + 10}" y="{y}">{WORDS[outcome]}</text>'
