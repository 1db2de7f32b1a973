"""The figures as a PNG, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.benchmark.report.drawing import scale, ticks
from mobileclip_deploy.benchmark.report.points import REFERENCE, figures
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import DependencyMissing, InvalidInput

__all__ = ["write_png"]


def write_png(results: Sequence[Result], path: Path) -> None:
    """Draw every figure below the other.

    Raises:
        DependencyMissing: matplotlib is not installed.
        InvalidInput: no result has a point whose accuracy is known.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyMissing("a PNG needs matplotlib; type: pip install 'mobileclip-deploy[report]'") from None
    drawn = figures(results)
    if not drawn:
        raise InvalidInput("nothing to draw: no measured model has a known accuracy; write .html or .md")
    canvas = Figure(figsize=(10, 5.5 * len(drawn)), layout="constrained")
    FigureCanvasAgg(canvas)
    for number, figure in enumerate(drawn, start=1):
        axes = canvas.add_subplot(len(drawn), 1, number)
        (x0, x1), (y0, y1) = scale(figure)
        for point in figure.points:
            spread = [[max(0.0, point.x - point.low)], [max(0.0, point.high - point.x)]]
            axes.errorbar(
                [point.x], [point.y], xerr=spread, fmt="o", capsize=3, label=f"{point.label}: {point.x:.3g} ms"
            )
        if figure.reference:
            xs, ys = [point.x for point in figure.reference], [point.y for point in figure.reference]
            axes.scatter(xs, ys, facecolors="none", edgecolors="grey", linestyles="dashed", label=REFERENCE)
            for point in figure.reference:
                axes.annotate(
                    point.label, (point.x, point.y), (5, -3), textcoords="offset points", fontsize=7, color="grey"
                )
        axes.set_xscale("log")
        axes.set_xlim(x0, x1)
        axes.set_ylim(y0, y1)
        axes.minorticks_off()
        axes.set_xticks(ticks(x0, x1), [f"{value:g}" for value in ticks(x0, x1)])
        axes.set_xlabel("latency, ms (logarithmic)")
        axes.set_ylabel("accuracy, %")
        axes.set_title(f"{figure.device}\n{figure.accuracy}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="lower right")
    canvas.savefig(path, format="png", dpi=120, metadata={"Software": None})
