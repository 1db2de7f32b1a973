"""The table of docs/proof.md of the kinds of faults that the tests plant (tests/faults), and where each is planted.

python benchmarks/fault_kinds.py
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from generated import replace_block

ROOT = Path(__file__).parents[1]
# Scripts here are called what packages are called; their folder must not be searched first.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks"]
sys.path.append(str(ROOT / "tests"))  # faults
PAGE = ROOT / "docs" / "proof.md"
BEGIN, END = "<!-- begin: benchmarks/fault_kinds.py -->", "<!-- end -->"
TITLES = {"onnx": "ONNX", "coreml": "Core ML", "coreai": "Core AI", "litert": "LiteRT", "executorch": "ExecuTorch"}


def main() -> None:
    """Write the table into the page."""
    replace_block(PAGE, BEGIN, END, table())


def table() -> str:
    """One row per kind: in how many files of each target it is planted and told."""
    from faults.files import FILES
    from faults.kinds import KINDS

    lines = [f"| kind | {' | '.join(TITLES.values())} |", "|---|" + "---:|" * len(TITLES)]
    for kind in KINDS:
        planted = Counter(file[0] for file in FILES if kind.stands_in(*file))
        lines.append(f"| {kind.name} | {' | '.join(str(planted[target] or '') for target in TITLES)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
