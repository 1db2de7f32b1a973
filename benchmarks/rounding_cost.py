"""What learned rounding costs and brings on towers of real size: CPU time, peak memory, and dB on inputs held back.

    python benchmarks/rounding_cost.py mobileclip-s0.apple mobileclip-s2.apple

The weights are the golden ones (tests/golden/README.md), the data nano's calibration set. Every tower is a process of
its own, on one thread. Results are added to benchmarks/results/rounding_cost.json and docs/figures/rounding.md, each
tower's in place of its last.
"""

import argparse
import json
import resource
import sys
import time
from typing import Any

from measuring import ROOT, Figures, alone, markdown

KEPT = Figures("rounding_cost", "figures/rounding.md")
CALIBRATION = ROOT / "models" / "nano" / "calibration"
TARGET = "coreml"


def main() -> None:
    """Measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", nargs="+", help="names of tests/golden, as mobileclip-s0.apple")
    parser.add_argument("--tower", choices=("image", "text"), help="this one alone")
    parser.add_argument("--precision", default="w4p", help="by default %(default)s")
    parser.add_argument("--rounding", default="gptq", help="gptq, or tuned; by default %(default)s")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        print(json.dumps(measure(asked.golden[0], asked.tower, asked.precision, asked.rounding)))
        return
    rows = KEPT.rows()
    for golden in asked.golden:
        for tower in (asked.tower,) if asked.tower else ("image", "text"):
            options = ["--tower", tower, "--precision", asked.precision, "--rounding", asked.rounding, "--row"]
            row = alone(__file__, golden, *options, threads=1)
            print(row, flush=True)
            rows = [old for old in rows if key(old) != key(row)] + [row]
            KEPT.write_rows(sorted(rows, key=key))
            KEPT.show(table(KEPT.rows()))


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row is of."""
    return row["golden"], row["tower"], row["target"], row["precision"], row["rounding"]


def table(rows: list[dict[str, Any]]) -> str:
    """Returns one line per tower and method, in Markdown."""
    heads = ("tower", "`--rounding`", ">layers", ">CPU s", ">peak GB", ">nearest, dB", ">learned, dB")
    lines = []
    for row in rows:
        size = row["golden"].partition("-")[2].partition(".")[0].upper()
        cells = [f"{size} {row['tower']}", row["rounding"], str(row["layers"]), str(row["cpu_s"])]
        cells += [f"{row['peak_mb'] / 1000:.1f}", *(f"{row[name]:.1f}" for name in ("nearest_db", "learned_db"))]
        lines.append(cells)
    return "\n".join(markdown(heads, lines))


def measure(golden: str, tower: Any, precision: str, method: str) -> dict[str, Any]:
    """One tower, in this process. The data are read, and the weights made, before the clock starts."""
    from golden_checkpoints import folded_golden

    from mobileclip_deploy.network.checkpoints.source import Source
    from mobileclip_deploy.network.model.provenance import Provenance
    from mobileclip_deploy.rounding.calibration_set import read_calibration_set
    from mobileclip_deploy.rounding.rounding import Learning, round_source
    from mobileclip_deploy.targets import get_target

    model = folded_golden(golden)
    towers: Any = (tower,) if method == "gptq" else ("image", "text")
    data = read_calibration_set(CALIBRATION, model.variant, towers, None)
    print(f"{golden}, {tower} tower: {len(data.pixels)} pictures, {len(data.ids)} captions", file=sys.stderr)
    started, shown = time.process_time(), [0.0]

    def progress(text: str) -> None:
        if time.monotonic() > shown[0] + 20:
            shown[0] = time.monotonic()
            print(f"{time.process_time() - started:6.0f} CPU s  {text}", file=sys.stderr, flush=True)

    source = Source(model, Provenance.model_construct())
    learned = round_source(source, get_target(TARGET), {tower: precision}, data, Learning(method), progress)
    (outcome,) = learned.towers
    return {
        "golden": golden,
        "tower": tower,
        "target": TARGET,
        "precision": precision,
        "rounding": method,
        "inputs": len(data.pixels if tower == "image" else data.ids),
        "layers": len(outcome.layers),
        "of": outcome.of,
        "cpu_s": round(time.process_time() - started),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "nearest_db": outcome.nearest_db,
        "learned_db": outcome.learned_db,
    }


if __name__ == "__main__":
    main()
