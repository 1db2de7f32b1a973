"""A folder of a stranger's: its files are called like modules that the toolkit imports, and tell that they were run."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

MARKER = "ran.txt"
NAMES = (
    *("ai_edge_litert", "click", "coreai", "coremltools", "distributed", "json", "mobileclip_deploy"),
    *("multiprocessing", "numpy", "onnx", "onnxruntime", "pip", "pydantic", "safetensors", "torch", "typing"),
)
PLANTED = """
import os
with open({marker!r}, "a") as told:
    told.write(f"{name} in {{os.getpid()}}\\n")
raise ImportError("a stranger's file was run")
"""


def plant(folder: Path) -> Path:
    for name in NAMES:
        package = folder / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(PLANTED.format(marker=str(folder / MARKER), name=name), encoding="utf-8")
    return folder


def ran(folder: Path) -> str:
    marker = folder / MARKER
    return marker.read_text(encoding="utf-8") if marker.exists() else ""


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """In the folder, as the installed command is: this process looks for modules elsewhere."""
    with contextlib.chdir(folder), mock.patch.object(sys, "path", [place for place in sys.path if place]):
        yield
