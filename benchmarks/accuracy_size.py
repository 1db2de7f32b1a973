"""The picture of the README: accuracy against size of nano at every precision of every target.

    python benchmarks/accuracy_size.py          # docs/accuracy_size.svg, from benchmarks/results/precision_table.json

Every point carries its row as the id of its group in the SVG, `bundle.MB.top1`; tests/docs reads them back.
"""

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "results" / "precision_table.json"
PLOT = ROOT / "docs" / "accuracy_size.svg"
COLOURS = {
    "onnx": "#0b6e99",
    "coreml": "#b2471d",
    "coreai": "#7a4cb2",
    "litert": "#a67c00",
    "executorch": "#4c7a34",
    "qnn": "#c2337a",
    "mlx": "#5c5c5c",
}
TITLES = {
    "onnx": "ONNX",
    "coreml": "Core ML",
    "coreai": "Core AI",
    "litert": "LiteRT",
    "executorch": "ExecuTorch",
    "qnn": "Qualcomm's NPU",
    "mlx": "MLX",
}
# Where a point's label stands: offset in points, and which of its sides is at the point.
LABELS = {
    "onnx": ((6, -9), "left"),
    "coreml": ((-6, 4), "right"),
    "coreai": ((-6, -9), "right"),
    "litert": ((8, 4), "left"),
    "executorch": ((6, 4), "left"),
    "qnn": ((6, -9), "left"),
    "mlx": ((-6, -9), "right"),
}
HALF = "bottom"
GATE = 0.5  # points of top-1 that an export may lose


def main() -> None:
    """Draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=PLOT, help="by default %(default)s")
    draw(json.loads(TABLE.read_text(encoding="utf-8"))["rows"], parser.parse_args().output)


def point(row: dict[str, Any]) -> tuple[float, float]:
    """Megabytes of both towers, top-1 in percent."""
    return sum(row["bytes"].values()) / 1e6, row["figures"]["top1"]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The points as an SVG, the same bytes for the same table and version of matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    style: Any = {"svg.hashsalt": "accuracy_size", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False}
    with mpl.rc_context({**style, "axes.spines.right": False}):
        figure, axes = plt.subplots(figsize=(8.2, 4.4), layout="constrained")
        checkpoint = rows[0]["figures"]["top1"] + rows[0]["figures"]["top1_drop"]
        axes.axhline(checkpoint, color="#888888", linewidth=0.8)
        axes.axhline(checkpoint - GATE, color="#888888", linewidth=0.8, linestyle=":")
        for text, height in (("the checkpoint", checkpoint), (f"{GATE} points below: the gate", checkpoint - GATE)):
            axes.annotate(text, (18, height), (0, 4), textcoords="offset points", ha="center", color="#666666")
        labelled: set[tuple[str, str]] = set()
        for row in rows:
            size, top1 = point(row)
            colour = COLOURS[row["target"]]
            (marker,) = axes.plot(size, top1, "o", color=colour, mfcalt="white", fillstyle=filling(row), ms=7)
            marker.set_gid(f"{row['bundle']}.{row['needs']}.{size:.2f}.{top1:.2f}")
            said = label(row)
            if said is not None and (row["target"], said) not in labelled:
                labelled.add((row["target"], said))
                place, side = LABELS[row["target"]]
                axes.annotate(said, (size, top1), place, textcoords="offset points", ha=side, fontsize=8, color=colour)
        for target, colour in COLOURS.items():
            axes.plot([], [], "o", color=colour, label=TITLES[target])
        for text, filled in (("undecided on so few images", HALF), ("misses a gate: refused", "none")):
            axes.plot([], [], "o", color="#666666", mfcalt="white", fillstyle=filled, label=text)
        axes.set(
            xscale="log", xlim=(2.3, 30), xlabel="MB, both towers", ylabel="zero-shot top-1 on 1,911 held-out images, %"
        )
        axes.set_xticks([3, 4, 5, 7, 10, 13, 26], ["3", "4", "5", "7", "10", "13", "26"], minor=False)
        axes.minorticks_off()
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)


def filling(row: dict[str, Any]) -> str:
    """Full for what passes its gates, half for what so few pictures leave undecided, none for what fails."""
    if row["failed"]:
        return "none"
    return HALF if row.get("undecided") else "full"


def label(row: dict[str, Any]) -> str | None:
    """The precision where both towers have the same; fp32 and fp16 lie on one another and are named once."""
    image, text = row["precision"]["image"], row["precision"]["text"]
    doubled = row["target"] != "onnx" and image in ("fp32", "fp16")
    return None if image != text or doubled else str(image)


if __name__ == "__main__":
    main()
