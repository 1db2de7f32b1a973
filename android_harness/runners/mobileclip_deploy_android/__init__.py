"""The harness of mobileclip-deploy for Android phones, ready-made: see files/runners.json."""

import json
from pathlib import Path

__all__ = ["FOLDER", "summary"]

FOLDER = Path(__file__).parent / "files"
"""Holds the programs, the libraries and runners.json."""


def summary() -> str:
    """`0.3.0 for executorch 1.5.1, onnxruntime 1.32.0`"""
    contents = json.loads((FOLDER / "runners.json").read_text(encoding="utf-8"))
    runtimes = sorted(f"{wheel['runtime']} {wheel['version']}" for wheel in contents["wheels"])
    return f"{contents['version']} for {', '.join(runtimes)}"
