"""Where the operators of a cell stand below the roof of its cores: operations a second over operations a byte."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobileclip_deploy.benchmark.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Box,
    Frame,
    LabelPlace,
    is_free,
    label_places,
    ticks,
)
from mobileclip_deploy.benchmark.roofline import Roofline, Share, limit_of

TOP = 28
SMALLEST, LARGEST = 4.0, 26.0
"""Radii of a spot: of one that takes no time, and of one that takes all of it."""
MARKS = 9
LETTER = 6.5
"""Width of a letter of a roof's label."""


@dataclass(frozen=True)
class Roof:
    """A line of the roof as an SVG polyline, and the words at its right end; `from_memory`: bytes from there."""

    points: str
    label: str
    x: float
    y: float
    from_memory: bool


@dataclass(frozen=True)
class Spot:
    """An operator in pixels; its area grows with its share of the time. `label`: None where there is no room for it."""

    share: Share
    x: float
    y: float
    radius: float
    label: LabelPlace | None


@dataclass(frozen=True, kw_only=True)
class RooflineDrawing(Frame):
    """A roofline laid out: operations a byte across, 10^9 of them a second down."""

    roofline: Roofline
    roofs: tuple[Roof, ...]
    spots: tuple[Spot, ...]


def draw_roofline(drawn: Roofline) -> RooflineDrawing:
    """Lay a roofline out. Operators that multiply nothing have no place in it; the table beside it has them."""
    placed = [one for one in drawn.shares if one.per_second and one.per_byte]
    peak, used = drawn.peak, {share.arithmetic for share in placed}
    limits = [(name, limit) for name in ("float32", "int8") if (limit := limit_of(peak, name)) and name in used]
    dense, fast = [one.per_byte or 1 for one in placed], [(one.per_second or 1) / 1e9 for one in placed]
    x0, x1 = min(dense) / 3, max(*dense, 100.0) * 3
    y0, y1 = min(fast) / 3, max(*fast, *(limit / 1e9 for _, limit in limits), 1.0) * 2

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / x0) / math.log(x1 / x0)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(value / y0) / math.log(y1 / y0)

    def roof(name: str, limit: float, moved: float, from_memory: bool) -> Roof:
        ridge = min(max(limit / moved, x0), x1)
        start = max(x0, y0 * 1e9 / moved)
        corners = [(start, start * moved / 1e9), (ridge, min(limit, ridge * moved) / 1e9), (x1, limit / 1e9)]
        points = " ".join(f"{x(across):.1f},{y(down):.1f}" for across, down in corners if across >= start)
        text = f"{name}: {limit / 1e9:.0f} GOP/s"
        return Roof(points, "" if from_memory else text, x(x1), y(limit / 1e9), from_memory)

    cached = peak.cached_bytes_per_second
    roofs = [roof(name, limit, peak.copied_bytes_per_second, cached is not None) for name, limit in limits]
    roofs += [roof(name, limit, cached, False) for name, limit in limits if cached]
    return RooflineDrawing(
        roofline=drawn,
        top=TOP,
        across=tuple((x(value), value) for value in _decades(x0, x1)),
        down=tuple((y(value), value) for value in _decades(y0, y1)),
        roofs=tuple(roofs),
        spots=_spots([(one, x(one.per_byte or 1), y((one.per_second or 1) / 1e9)) for one in placed], roofs),
    )


def _spots(placed: list[tuple[Share, float, float]], roofs: list[Roof]) -> tuple[Spot, ...]:
    """The largest first, which gets its label before the others."""
    ordered = [
        (one, x, y, _radius(one.time_percent)) for one, x, y in sorted(placed, key=lambda it: -it[0].time_percent)
    ]
    taken: list[Box] = [(x - radius, y - radius, x + radius, y + radius) for _, x, y, radius in ordered]
    taken += [(roof.x - LETTER * len(roof.label), roof.y - 17, roof.x, roof.y - 3) for roof in roofs if roof.label]
    spots = []
    for one, x, y, radius in ordered:
        place = next((at for at in label_places(one.name, x, y, radius + 3) if is_free(at.box, taken)), None)
        if place is not None:
            taken.append(place.box)
        spots.append(Spot(one, x, y, radius, place))
    return tuple(spots)


def _decades(low: float, high: float) -> list[float]:
    """Marks at 1, 2 and 5 times powers of ten; at the powers alone where the axis is long."""
    found = ticks(low, high)
    return found if len(found) <= MARKS else [value for value in found if f"{value:e}".startswith("1.0")]


def _radius(percent: float) -> float:
    return SMALLEST + (LARGEST - SMALLEST) * math.sqrt(percent / 100)
