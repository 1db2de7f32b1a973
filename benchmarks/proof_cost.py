"""What proof costs: CPU seconds of every check of an export, beside the bare converter.

    python benchmarks/proof_cost.py --variant nano --target coreai
    python benchmarks/proof_cost.py --page-only          # docs/figures's table alone, from what was measured before

Both towers, float16 (ExecuTorch float32), exported with every check in a process of its own on one thread, whose clock
is CPU time. Steps of one name are added up over towers and engines. *Bare* is the converter's own function
on the same folded towers, as in export_cost.py; *rest* is what is no check: imports, the checkpoint, its exact answers
and its accuracy, and ours of the conversion. Golden weights, but of nano its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from export_cost import CONVERTERS, cost
from measuring import ROOT, Figures, alone, markdown

KEPT = Figures("proof_cost", "figures/proof.md")
VARIANTS = ("nano", "mobileclip_s0", "mobileclip_s2")
COLUMNS = ("twin", "shipped", "weights", "graph", "task")


def main() -> None:
    """Measure a row, keep it in the place of the one before, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="nano")
    parser.add_argument("--target", choices=list(CONVERTERS), default="coreai")
    parser.add_argument("--page-only", action="store_true")
    parser.add_argument("--step", choices=["checks"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is not None:
        print(json.dumps(checked(given.variant, given.file, given.target)))
        return
    rows = KEPT.rows()
    if not given.page_only:
        found = measured(given.variant, given.target)
        kept = [row for row in rows if (row["variant"], row["target"]) != (given.variant, given.target)]
        rows = sorted([*kept, found], key=lambda row: (VARIANTS.index(row["variant"]), row["target"]))
        KEPT.write_rows(rows)
    KEPT.show(table(rows))


def measured(variant: str, target: str) -> dict[str, Any]:
    """A row: the bare converter's CPU seconds, the export's whole, and those of its checks by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "golden.safetensors"
        script = str(ROOT / "benchmarks" / "export_cost.py")
        own = [sys.executable, script, "--variant", variant, "--target", target, "--file", str(path), "--step"]
        subprocess.run([*own, "file"], check=True)
        bare = cost([*own, "bare"])["cpu_s"]
        words = ["--variant", variant, "--target", target, "--file", str(path), "--step", "checks"]
        found = alone(__file__, *words, threads=1)
    return {"variant": variant, "target": target, "bare_cpu_s": round(bare, 1), **found}


def checked(variant: str, path: Path, target: str) -> dict[str, Any]:
    """Export with every check in this process, whose clock is CPU time."""
    import time

    import mobileclip_deploy as mcd
    from mobileclip_deploy.verify import chain

    vars(chain)["time"] = SimpleNamespace(monotonic=time.process_time)
    model = mcd.load_model(None) if variant == "nano" else mcd.load_model(variant, path)
    bundle = mcd.export(model, target, output=path.parent / "out", allow_failing=True)
    seconds: dict[str, float] = defaultdict(float)
    asked = {}
    for check in bundle.parity:
        seconds[check.step] += check.seconds or 0.0
        if check.step == "shipped":
            asked[check.tower] = (check.detail or "every input").removesuffix(" inputs")
    return {
        "whole_cpu_s": round(time.process_time(), 1),
        "checks_cpu_s": {name: round(value, 1) for name, value in seconds.items()},
        "asked": asked,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    right = (f">{name}" for name in ("bare", *COLUMNS, "other checks", "rest", "whole"))
    told = []
    for row in rows:
        checks = row["checks_cpu_s"]
        others = sum(value for name, value in checks.items() if name not in COLUMNS)
        figures = [row["bare_cpu_s"], *(checks.get(name) for name in COLUMNS), others]
        figures += [row["whole_cpu_s"] - sum(checks.values()), row["whole_cpu_s"]]
        cells = ["" if one is None else f"{one:.1f}" for one in figures]
        told.append([row["variant"], row["target"], *cells, " / ".join(row["asked"].values())])
    return "\n".join(markdown(("variant", "target", *right, "asked, image / text"), told))


if __name__ == "__main__":
    main()
