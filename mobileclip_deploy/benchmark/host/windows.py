"""Memory of machine and process on Windows, for which Python has no function."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"


class _MemoryStatus(ctypes.Structure):
    """Structure MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    )


class _ProcessMemory(ctypes.Structure):
    """Structure PROCESS_MEMORY_COUNTERS of the Windows API."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 7),
    )


def memory_bytes() -> int:
    """Returns the size of this machine's memory, in bytes."""
    status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise ctypes.WinError()
    return int(status.total)


def peak_memory_bytes() -> int:
    """Returns the peak memory of this process, in bytes."""
    counters = _ProcessMemory(ctypes.sizeof(_ProcessMemory))
    process = ctypes.c_void_p(-1)  # GetCurrentProcess()
    if not ctypes.windll.kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
        raise ctypes.WinError()
    return int(counters.peak_working_set)
