"""Which target takes which precision, what it saves in bytes and time, and what it costs nano in accuracy.

    python benchmarks/precisions.py                # docs/figures/precisions.md, benchmarks/results/precision_table.json
    python benchmarks/precisions.py --target coreml   # bytes and accuracy of its rows alone; the rest stays
    python benchmarks/precisions.py --rows "onnx w4 .*gptq"   # of those whose target, precision, system and rounding
                                                              # match alone

Exports nano at every precision of every target, verified and never refused (what fails its gate is marked), and runs
the suite `precisions` on what this machine can time. About 20 minutes of one core.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from measuring import ROOT, markdown
from page import conditions, runs_by_processor
from ratios import Row, ratio_rows
from subjects import LEARNED, NANO_PRECISIONS, Subjects
from suites import RESULTS, SUITES, measure, protocol_named

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.manifest import TowerEntry
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check

TABLE = RESULTS / "precision_table.json"
PAGE = ROOT / "docs" / "figures" / "precisions.md"
HEAD = ROOT / "benchmarks" / "notes" / "precisions_head.md"
METHODS = ("nearest", "gptq", "tuned")
SIDE_BY_SIDE = f"""Each cell: {", ".join(METHODS)}; - where that was not measured. The size is the same: only which
numbers of the grid stand in the file differs. dB of the packaged photographs and prompts, which nothing was learned
from; KL and drops over the looks of the gate. `tuned` also trains what is float anyway
([Learn the rounding](../rounding.md))."""
DROPS = {"top1": "top-1", "image_to_text_recall@1": "recall@1"}
TITLES: tuple[str, ...] = ("target", "image", "text", "needs", "MB", "of fp32", "image, dB", "text, dB", "KL")
TITLES += (
    *(f"{name}: drop" for name in DROPS.values()),
    "gates",
    "image: faster",
    "text: faster",
    "cosine image, text",
)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the bundles here, and use those that are there")
    parser.add_argument("--protocol", default="standard", help="standard, or short for a busy machine")
    parser.add_argument("--target", help="measure bytes and accuracy of this target's rows alone, and no times")
    parser.add_argument("--rows", help="measure bytes and accuracy of the rows that this expression is found in")
    parser.add_argument("--page-only", action="store_true", help="write the page from what was measured before")
    arguments = parser.parse_args()
    if not arguments.page_only:
        with tempfile.TemporaryDirectory(prefix="mobileclip-precisions-") as temporary:
            subjects = Subjects(arguments.folder or Path(temporary))
            subjects.folder.mkdir(parents=True, exist_ok=True)
            everything: list[tuple[Any, ...]] = [*NANO_PRECISIONS, *LEARNED]
            chosen = [one for one in everything if arguments.target in (None, one[0])]
            if arguments.rows is not None:
                chosen = [one for one in chosen if re.search(arguments.rows, described(*one))]
            rows = [row(Bundle.open(subjects.bundle("nano", *choice))) for choice in chosen]
            if arguments.target is None and arguments.rows is None:
                measure("precisions", subjects, protocol_named(arguments.protocol))
            else:
                before = json.loads(TABLE.read_text(encoding="utf-8"))["rows"]
                if arguments.rows is None:  # all of a target's are measured
                    before = [old for old in before if old["target"] != arguments.target]
                measured = {key(one): one for one in rows}
                rows = [measured.pop(key(old), old) for old in before] + list(measured.values())
            order = list(dict.fromkeys(target for target, *_ in NANO_PRECISIONS))
            rows.sort(key=lambda one: order.index(one["target"]))
        TABLE.write_text(json.dumps({"schema_version": 1, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(TABLE.read_text(encoding="utf-8"))["rows"]), encoding="utf-8")


def described(target: str, precision: str, system: str | None, rounding: str = "nearest") -> str:
    """A row in words: target, precision, oldest system where one was chosen, rounding."""
    return " ".join(word for word in (target, precision, system, rounding) if word)


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    """What a row is of: bundle, oldest system, and how weights were rounded."""
    methods = set(row.get("rounding", {}).values())
    return row["bundle"], row["needs"], "tuned" if "tuned" in methods else "gptq" if methods else "nearest"


def row(bundle: Bundle) -> dict[str, Any]:
    """What a bundle's manifest says of its bytes and its checks."""
    manifest = bundle.manifest
    shipped = {check.tower: check for check in bundle.parity if check.step == "shipped"}
    learned = manifest.rounding
    (task,) = (check for check in bundle.parity if check.step == "task")
    return {
        "bundle": bundle.path.name,
        "target": manifest.target,
        "needs": manifest.options.get("deployment_target", ""),
        "precision": {tower: manifest.towers[tower].precision for tower in TOWERS},
        "rounding": {} if learned is None else {tower: one.method for tower, one in learned.towers.items()},
        "bytes": {tower: _bytes(manifest.towers[tower]) for tower in TOWERS},
        "deviation": {tower: _deviation(shipped[tower]) for tower in TOWERS},
        "figures": task.figures,
        "losses": {name: lost.model_dump() for name, lost in (task.losses or {}).items()},
        "divergence": task.divergence,
        "failed": [f"{check.tower} {check.step}" for check in bundle.parity if check.status in ("failed", "not run")],
        "undecided": [f"{check.tower} {check.step}" for check in bundle.parity if check.status == "undecided"],
    }


def _bytes(entry: TowerEntry) -> int:
    """Those of the artifact; of a folder of binaries those of one chip's, which is what an app takes along."""
    chips = (entry.contents or {}).get("chips")
    return entry.bytes if chips is None else next(iter(chips.values()))


def _deviation(check: Check) -> dict[str, Any]:
    assert check.deviation is not None, check  # nothing in the list is a target that cannot run here
    return check.deviation.model_dump()


def page(rows: list[dict[str, Any]]) -> str:
    """The page: how to read it, every precision, ways of rounding beside each other, and what it was measured on."""
    faster, measured_on = times()
    head = HEAD.read_text(encoding="utf-8").strip()
    parts = [head, "## Every precision", "\n".join(_everything(rows, faster)), *_processors(measured_on)]
    parts += ["## Rounding, side by side", SIDE_BY_SIDE, "\n".join(_side_by_side(rows))]
    return "\n\n".join(parts) + "\n"


def _processors(measured_on: list[str]) -> list[str]:
    """What each of the times in a cell was measured on."""
    return [f"Times, number {number} of a cell: {text}" for number, text in enumerate(measured_on, start=1)]


def _everything(rows: list[dict[str, Any]], faster: dict[tuple[str, TowerName], str]) -> list[str]:
    whole = {row["target"]: sum(row["bytes"].values()) for row in rows if set(row["precision"].values()) == {"fp32"}}
    whole["qnn"] = whole["onnx"]  # no NPU computes in float32
    lines = []
    for row in rows:
        own = sum(row["bytes"].values())
        how = row.get("rounding", {})
        cells = [row["target"], *(f"{row['precision'][tower]} {how.get(tower, '')}".strip() for tower in TOWERS)]
        cells += [row["needs"], f"{own / 1e6:.2f}", f"{own / whole[row['target']]:.2f}"]
        cells += [f"{row['deviation'][tower]['snr_db']:.1f}" for tower in TOWERS]
        cells += [_divergence(row), *(_drop(row, name) for name in DROPS), _outcome(row)]
        cells += [faster.get((row["bundle"], tower), "") for tower in TOWERS]
        lines.append([*cells, ", ".join(f"{row['deviation'][tower]['cosine']:.4f}" for tower in TOWERS)])
    return markdown(TITLES, lines)


def _side_by_side(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each bundle that was rounded in more than one way."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        bundle, needs, method = key(row)
        groups.setdefault((bundle, needs), {})[method] = row
    lines = []
    for (_, needs), ways in groups.items():
        if len(ways) == 1:
            continue
        row = next(iter(ways.values()))  # the size is the same
        cells = [row["target"], *(row["precision"][tower] for tower in TOWERS), needs]
        cells.append(f"{sum(row['bytes'].values()) / 1e6:.2f}")
        for show in COMPARED.values():
            cells.append(", ".join(show(ways[method]) if method in ways else "-" for method in METHODS))
        lines.append(cells)
    return markdown(["target", "image", "text", "needs", "MB", *COMPARED], lines)


def _divergence(row: dict[str, Any]) -> str:
    return "" if row.get("divergence") is None else f"{row['divergence']:.2g}"


def _drop(row: dict[str, Any], name: str) -> str:
    """What is lost, in points, with its interval and what flipped; the figure alone where an earlier version measured
    it."""
    lost = row.get("losses", {}).get(name)
    if lost is None:
        return f"{row['figures'][f'{name}_drop']:+.2f}"
    flips = f"{lost['lost']} lost, {lost['won']} won" + (f" in {lost['looks']} looks" if lost["looks"] > 1 else "")
    return f"{_points(row, name)} ({flips})"


def _points(row: dict[str, Any], name: str) -> str:
    lost = row.get("losses", {}).get(name)
    return "-" if lost is None else f"{lost['points']:+.2f} \N{PLUS-MINUS SIGN} {lost['error']:.2f}"


def _outcome(row: dict[str, Any]) -> str:
    if row["failed"]:
        return f"**fails**: {', '.join(row['failed'])}"
    return f"undecided: {', '.join(row['undecided'])}" if row.get("undecided") else "passes"


COMPARED: dict[str, Callable[[dict[str, Any]], str]] = {
    "image, dB": lambda row: f"{row['deviation']['image']['snr_db']:.1f}",
    "text, dB": lambda row: f"{row['deviation']['text']['snr_db']:.1f}",
    "KL": _divergence,
    **{f"{title}: drop": partial(_points, name=name) for name, title in DROPS.items()},
    "gates": lambda row: "fails" if row["failed"] else "undecided" if row.get("undecided") else "passes",
}
"""What is said of a bundle beside the same one rounded otherwise."""


def times() -> tuple[dict[tuple[str, TowerName], str], list[str]]:
    """How many times as fast as its target's fp32 a tower is, with its interval: on each processor, as `1 · 2`; and
    what those were measured on, in this order."""
    measured = runs_by_processor("precisions")
    found = [
        {(str(row.cell.bundle), row.cell.tower): _ratio(row) for row in ratio_rows(SUITES["precisions"], runs)}
        for runs in measured
    ]
    every = dict.fromkeys(cell for one in found for cell in one)
    faster = {cell: " · ".join(one.get(cell, "-") for one in found) for cell in every}
    return faster, [conditions(runs) for runs in measured]


def _ratio(row: Row) -> str:
    interval = "" if row.is_base else f" ({row.ratio.low:.2f} to {row.ratio.high:.2f})"
    return f"{row.ratio.value:.2f}{interval}"


if __name__ == "__main__":
    main()
