"""ETRecords: what ExecuTorch's developer tools need to lead a .pte back to the source, without this machine in it."""

from __future__ import annotations

import site
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["etrecord_path", "write_etrecord"]

# The earliest that a zip file can name.
EPOCH = (1980, 1, 1, 0, 0, 0)


def etrecord_path(artifact: Path) -> Path:
    """Where the ETRecord of a .pte is."""
    return artifact.with_suffix(".etrecord")


def write_etrecord(lowered: Any, path: Path) -> None:
    """Write the ETRecord of an `ExecutorchProgramManager`: its stack traces name files within their packages."""
    whole = path.with_suffix(".whole")
    try:
        lowered.get_etrecord().save(str(whole))
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                target.writestr(zipfile.ZipInfo(name, EPOCH), _without_roots(source.read(name)))
    finally:
        whole.unlink(missing_ok=True)


def _without_roots(data: bytes) -> bytes:
    if not data.startswith(b"{"):  # weights and inputs; programs and maps are JSON
        return data
    for root in _roots():
        data = data.replace(f"{root}/".encode(), b"")
    return data


def _roots() -> list[str]:
    """Folders that packages are in, the longest first: one may lie inside another."""
    own = str(Path(__file__).parents[3])
    paths = sysconfig.get_paths()
    found = {own, *site.getsitepackages(), paths["purelib"], paths["platlib"], paths["stdlib"]}
    return sorted(found, key=len, reverse=True)
