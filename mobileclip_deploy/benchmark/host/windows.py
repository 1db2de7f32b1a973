"""Memory, as Windows reports it: Python has no function for it there."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    )


class _ProcessMemory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 7),
    )


def memory_bytes() -> int:
    """All of this machine's memory."""
    status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise ctypes.WinError()
    return int(status.total)


def peak_memory_bytes() -> int:
    """The most that this process has had in memory."""
    counters = _ProcessMemory(ctypes.sizeof(_ProcessMemory))
    process = ctypes.c_void_p(-1)  # GetCurrentProcess()
    if not ctypes.windll.kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
        raise ctypes.WinError()
    return int(counters.peak_working_set)
