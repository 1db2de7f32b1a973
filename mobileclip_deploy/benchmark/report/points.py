"""Points of the figures, accuracy against latency by device, and published points for comparison."""

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
    """A model at a place: `x` is milliseconds (`low`, `high`: interval of the median), `y` accuracy in percent."""

    label: str
    x: float
    low: float
    high: float
    y: float


@dataclass(frozen=True)
class Figure:
    """Points of one device with comparable accuracies. `reference`: published points of another device."""

    device: str
    accuracy: str
    points: tuple[Point, ...]
    reference: tuple[Point, ...]


def device_name(result: Result) -> str:
    """Returns the device's name in a report.

    A mark keeps readers from taking a simulated device for a phone, or a self-reported result for one checked here.
    """
    device = result.device
    mark = ("SIMULATED " if device.simulated else "") + ("self-reported " if result.self_reported else "")
    model = f"{device.name} on {device.model}" if device.browser and device.name != device.model else device.model
    rental = f" ({device.rental.model}, rented {device.rental.date})" if device.rental else ""
    return f"{mark}{device.kind}: {model}, {device.os} {device.os_version}{rental}".rstrip()


def milliseconds(found: CellResult, statistic: str) -> float | None:
    """Returns the protocol's statistic in milliseconds. None if the cell has none."""
    return getattr(found.summary, f"{statistic}_ns") / 1e6 if found.summary and found.status == "done" else None


def figures(results: Sequence[Result]) -> tuple[Figure, ...]:
    """Returns a figure for every device and accuracy metric, in the order of the results."""
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
    """Returns the points of the model cards' published latencies and accuracies."""
    points = []
    for variant in variant_cards():
        quoted = variant.published
        if quoted is None or quoted.imagenet_top1 is None:
            continue
        if quoted.iphone_12_pro_max_image_ms is None or quoted.iphone_12_pro_max_text_ms is None:
            continue
        time = quoted.iphone_12_pro_max_image_ms + quoted.iphone_12_pro_max_text_ms
        points.append(Point(variant.title, time, time, time, quoted.imagenet_top1))
    return tuple(points)


def _points(result: Result) -> list[tuple[str, Point]]:
    """Returns (accuracy metric, point) of each model and place.

    A point adds image and text tower, as in the paper, if both were measured at the same place.
    """
    grouped: dict[tuple[str, str, int], list[tuple[Cell, CellResult]]] = {}
    for cell, outcome in result.pairs():
        if outcome.summary is None or outcome.status != "done" or cell.variant is None or cell.competitor:
            continue
        name = cell.label.removesuffix(f" {cell.tower}")
        where = " ".join(part for part in (cell.runtime, cell.backend, cell.compute_units) if part)
        grouped.setdefault((name, where, cell.threads), []).append((cell, outcome))
    points = []
    for (name, where, count), pairs in grouped.items():
        accuracy = _accuracy(pairs[0][0])
        if accuracy is None:
            continue
        statistic = result.job.protocol.statistic
        towers = " + ".join(cell.tower for cell, _ in pairs)
        threads = f"{count} thread" + ("s" if count != 1 else "")
        intervals = [outcome.summary.median_interval_ns for _, outcome in pairs if outcome.summary]
        points.append(
            (
                accuracy[0],
                Point(
                    label=f"{name}, {where}, {threads}, {towers}",
                    x=sum(milliseconds(outcome, statistic) or 0 for _, outcome in pairs),
                    low=sum(interval.low for interval in intervals) / 1e6,
                    high=sum(interval.high for interval in intervals) / 1e6,
                    y=accuracy[1],
                ),
            )
        )
    return points


def _accuracy(cell: Cell) -> tuple[str, float] | None:
    """Returns metric and percent: measured with the file itself, else published for its variant. None if neither."""
    measured: Accuracy | None = cell.accuracy
    if measured is not None:
        return f"{measured.metric} % on {measured.dataset}, measured at export", measured.percent
    try:
        quoted = load_variant(cell.variant or "").published
    except UsageError:  # a result of a later version may name an unknown variant
        return None
    return (IMAGENET, quoted.imagenet_top1) if quoted is not None and quoted.imagenet_top1 is not None else None
