"""The table of docs/figures of the kinds of faults that the tests plant (tests/faults), and where each is planted.

python benchmarks/fault_kinds.py
"""

from collections import Counter

from measuring import Figures, markdown

KEPT = Figures("fault_kinds", "figures/proof.md")
TITLES = {"onnx": "ONNX", "coreml": "Core ML", "coreai": "Core AI", "litert": "LiteRT", "executorch": "ExecuTorch"}


def table() -> str:
    """One row per kind: in how many files of each target it is planted and told."""
    from faults.files import FILES
    from faults.kinds import KINDS

    rows = []
    for kind in KINDS:
        planted = Counter(file[0] for file in FILES if kind.stands_in(*file))
        rows.append([kind.name, *(str(planted[target] or "") for target in TITLES)])
    return "\n".join(markdown(("kind", *(f">{title}" for title in TITLES.values())), rows))


if __name__ == "__main__":
    KEPT.show(table())
