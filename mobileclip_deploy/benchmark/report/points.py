"""Accuracy against latency: the points of the figures, by device, and the published ones to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobileclip_deploy.benchmark.job import Accuracy, Cell
from mobileclip_deploy.benchmark.result import CellResult, Result
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import load_variant, variant_cards

IMAGENET = "ImageNet top-1 %, as published for the variant"
REFERENCE = "published, iPhone 12 Pro Max, image + text"


@dataclass(frozen=True)
class Point:
    """One model at one place: milliseconds (low and high: the interval of the median) and accuracy in percent."""

    label: str
    x: float
    low: float
    high: float
    y: float


@dataclass(frozen=True)
class Figure:
    """The points of one device whose accuracies can be compared. `reference`: published ones, of another device."""

    device: str
    accuracy: str
    points: tuple[Point, ...]
    reference: tuple[Point, ...]


def device_name(result: Result) -> str:
    """What a device is called everywhere in a report; a stand-in can never be taken for a phone, nor a phone's own word
    for what was compared here."""
    device = result.device
    mark = ("SIMULATED " if device.simulated else "") + ("self-reported " if result.self_reported else "")
    model = f"{device.name} on {device.model}" if device.browser and device.name != device.model else device.model
    return f"{mark}{device.kind}: {model}, {device.os} {device.os_version}".rstrip()


def milliseconds(found: CellResult, statistic: str) -> float | None:
    """The figure that a protocol reports; None for a cell that has none."""
    return getattr(found.summary, f"{statistic}_ns") / 1e6 if found.summary and found.status == "done" else None


def figures(results: Sequence[Result]) -> tuple[Figure, ...]:
    """A figure for every device and accuracy, in the order of the results."""
    grouped: dict[tuple[str, str], list[Point]] = {}
    for result in results:
        for accuracy, point in _points(result):
            grouped.setdefault((device_name(result), accuracy), []).append(point)
    reference = published()
    return tuple(
        Figure(device, accuracy, tuple(points), reference if accuracy == IMAGENET else ())
        for (device, accuracy), points in grouped.items()
    )


def published() -> tuple[Point, ...]:
    """The latencies and accuracies that the model cards quote."""
    found = []
    for variant in variant_cards():
        known = variant.published
        if known is None or known.imagenet_top1 is None:
            continue
        if known.iphone_12_pro_max_image_ms is None or known.iphone_12_pro_max_text_ms is None:
            continue
        time = known.iphone_12_pro_max_image_ms + known.iphone_12_pro_max_text_ms
        found.append(Point(variant.title, time, time, time, known.imagenet_top1))
    return tuple(found)


def _points(result: Result) -> list[tuple[str, Point]]:
    """Image and text tower together where both were measured at the same place, as the paper counts."""
    grouped: dict[tuple[str, str, int], list[tuple[Cell, CellResult]]] = {}
    for cell, found in result.pairs():
        if found.summary is None or found.status != "done" or cell.variant is None or cell.competitor:
            continue
        name = cell.label.removesuffix(f" {cell.tower}")
        where = " ".join(part for part in (cell.runtime, cell.backend, cell.compute_units) if part)
        grouped.setdefault((name, where, cell.threads), []).append((cell, found))
    points = []
    for (name, where, count), pairs in grouped.items():
        accuracy = _accuracy(pairs[0][0])
        if accuracy is None:
            continue
        statistic = result.job.protocol.statistic
        towers = " + ".join(cell.tower for cell, _ in pairs)
        threads = f"{count} thread" + ("s" if count != 1 else "")
        intervals = [found.summary.median_interval_ns for _, found in pairs if found.summary]
        points.append(
            (
                accuracy[0],
                Point(
                    label=f"{name}, {where}, {threads}, {towers}",
                    x=sum(milliseconds(found, statistic) or 0 for _, found in pairs),
                    low=sum(interval.low for interval in intervals) / 1e6,
                    high=sum(interval.high for interval in intervals) / 1e6,
                    y=accuracy[1],
                ),
            )
        )
    return points


def _accuracy(cell: Cell) -> tuple[str, float] | None:
    """What was measured of the file itself, else what was published for its variant."""
    own: Accuracy | None = cell.accuracy
    if own is not None:
        return f"{own.metric} % on {own.dataset}, measured at export", own.percent
    try:
        known = load_variant(cell.variant or "").published
    except UsageError:  # a result of a later version may name a variant that this one does not know
        return None
    return (IMAGENET, known.imagenet_top1) if known is not None and known.imagenet_top1 is not None else None
