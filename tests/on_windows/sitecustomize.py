"""A Python in which this package finds what Windows has, and everything else finds what is really here.

On the PYTHONPATH of a process it takes from this package's modules all that `lacking.txt` lists (from typeshed: what is
declared for Linux alone), sets their `sys.platform` and `platform.system()`, and lends them `msvcrt` and
`ctypes.windll`. What was looked for and is not there is written to the file that LACKING names.
"""

import builtins
import ctypes
import fcntl
import importlib
import os
import platform
import sys
import types
from pathlib import Path
from typing import Any

LINES = (Path(__file__).parent / "lacking.txt").read_text(encoding="utf-8").split()
MODULES = frozenset(line for line in LINES if "." not in line)


def _is_ours(frame: types.FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == "mobileclip_deploy" or (
        name == "__main__" and "mobileclip_deploy" in str(frame.f_globals.get("__file__", ""))
    )


def _missed(name: str) -> None:
    with open(os.environ["LACKING"], "a", encoding="utf-8") as stream:
        stream.write(f"{name}\n")


def _guarded(module: types.ModuleType, lacking: frozenset[str], instead: dict[str, Any]) -> None:
    class Guarded(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            if (name in lacking or name in instead) and _is_ours(sys._getframe(1)):
                if name in instead:
                    return instead[name]
                _missed(f"{module.__name__}.{name}")
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} (Windows)")
            return super().__getattribute__(name)

    module.__class__ = Guarded


def _locking(descriptor: int, mode: int, count: int) -> None:
    """`msvcrt.locking`, by the locks of this system: a byte from the current position on."""
    assert os.lseek(descriptor, 0, os.SEEK_CUR) > 1 << 30, "content would be locked against readers"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if mode == 1 else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(13, error.strerror) from None


class _Kernel:
    @staticmethod
    def GlobalMemoryStatusEx(status: Any) -> int:
        status._obj.total = 16 << 30
        return 1

    @staticmethod
    def K32GetProcessMemoryInfo(process: Any, counters: Any, size: int) -> int:
        counters._obj.peak_working_set = 100 << 20
        return 1


MSVCRT = types.SimpleNamespace(locking=_locking, LK_LOCK=1, LK_NBLCK=2)
WINDLL = types.SimpleNamespace(kernel32=_Kernel)
_import = builtins.__import__


def _importing(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if level == 0 and globals and str(globals.get("__name__", "")).startswith("mobileclip_deploy"):
        if name == "msvcrt":
            return MSVCRT
        if name in MODULES:
            _missed(name)
            raise ImportError(f"No module named {name!r} (Windows)")
    return _import(name, globals, locals, fromlist, level)


builtins.__import__ = _importing
for owner in sorted({line.partition(".")[0] for line in LINES} - MODULES):
    lacking = frozenset(line.partition(".")[2] for line in LINES if line.startswith(f"{owner}."))
    _guarded(importlib.import_module(owner), lacking, {"O_BINARY": 0} if owner == "os" else {})
_guarded(sys, frozenset(), {"platform": "win32"})
_guarded(platform, frozenset(), {"system": lambda: "Windows"})
_guarded(ctypes, frozenset(), {"windll": WINDLL})
