"""Prints the table of docs/neural-engine.md: which planted faults `verify` catches in float32 and in float16, and how.

PYTHONPATH=tests python -m faults.table
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from conversions import ROOT, Store
from faults.conftest import Healthy, build, followed
from faults.faults import FAULTS, Fault

from mobileclip_deploy.errors import MobileClipDeployError
from mobileclip_deploy.mil import load
from mobileclip_deploy.verify.checks import check_shipped, check_structure
from mobileclip_deploy.verify.program_comparison import compare_programs

TWIN = 1e-5  # relative, of the float32 twin


def row(fault: Fault, healthy: Healthy, folder: Path) -> tuple[str, str]:
    """What the gates on the file say (caught or not, and by how much), and which operation is named."""
    bundle, _ = healthy.planted(fault.tower, folder, fault.plant)
    try:
        load(bundle.artifact(fault.tower))
        program = followed(bundle, fault.tower)
    except MobileClipDeployError:
        return "caught: contradicts itself", "the package's own error"
    found = compare_programs(fault.tower, program, healthy.programs[fault.tower], healthy.feeds(fault.tower))
    named = f"{found.type} `{found.operation}`" if found.operation else found.finding
    own = healthy.subject(bundle)
    if check_structure(own, fault.tower)[0].status == "failed":
        return "caught: structure", named
    (check,) = check_shipped(own, fault.tower)
    assert check.deviation is not None
    figure = f"{check.deviation.relative:.1e}, {check.deviation.cosine:.5f}"
    twin = healthy.bundle.manifest.towers[fault.tower].precision == "fp32"  # then this file is the twin
    if check.status == "failed" or (twin and check.deviation.relative > TWIN):
        return f"caught: {figure}", named
    return f"**by reading**: {figure}", named


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = Store.open(ROOT / "build" / "tests")
        bundles = {precision: build(precision, folder / precision, store) for precision in ("fp32", "fp16")}
        print(
            "| tower | fault | fp32 file: relative, cosine | fp16 file: relative, cosine | named by --explain (fp16) |"
        )
        print("|---|---|---|---|---|")
        for number, fault in enumerate(fault for fault in FAULTS if fault.needs in (None, "softmax")):
            cells = [row(fault, bundles[precision], folder / f"{number}-{precision}") for precision in bundles]
            print(f"| {fault.tower} | {fault.name} | {cells[0][0]} | {cells[1][0]} | {cells[1][1]} |", flush=True)


if __name__ == "__main__":
    main()
