"""What this machine is, and the state it is in."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.manifest import processor_name
from mobileclip_deploy.benchmark.result import Device, Snapshot

SYS = Path("/sys")
CPU = Path("/proc/cpuinfo")
PRODUCTS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""Instructions, as Linux calls them, that decide how fast a processor multiplies floats and bytes."""


def describe() -> Device:
    """This machine. Its host name is left out: results are published."""
    clocks = [f"devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq" for core in range(os.cpu_count() or 1)]
    frequencies = [_number(SYS / clock) for clock in clocks]
    return Device(
        kind="host",
        simulated=False,
        name="host",
        model=processor_name(),
        architecture=platform.machine(),
        os=platform.system(),
        os_version=platform.release(),
        build=_distribution(),
        cores=os.cpu_count() or 1,
        core_maximum_khz=tuple(int(value) for value in frequencies if value is not None),
        memory_bytes=memory_bytes(),
        instructions=instructions(),
    )


def memory_bytes() -> int:
    """All of this machine's memory."""
    if sys.platform == "win32":
        from mobileclip_deploy.benchmark.host import windows

        return windows.memory_bytes()
    else:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def instructions(file: Path = CPU) -> tuple[str, ...]:
    """Those of `PRODUCTS` that this processor has; none where the system does not tell."""
    lines = (_text(file) or "").splitlines()
    known = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return tuple(name for name in PRODUCTS if name in known)


def snapshot(root: Path = SYS) -> Snapshot:
    """The state now, from Linux's /sys as far as it is there; on a Mac the load average alone, on Windows nothing."""
    battery = next(iter(sorted(root.glob("class/power_supply/BAT*"))), None)
    temperatures = [_number(zone) for zone in root.glob("class/thermal/thermal_zone*/temp")]
    known = [value for value in temperatures if value is not None and value > 0]
    profile = _text(root / "firmware/acpi/platform_profile")
    return Snapshot(
        unix_seconds=round(time.time(), 3),
        temperature_celsius=max(known) / 1000 if known else None,
        battery_percent=_number(battery / "capacity") if battery else None,
        charging=_text(battery / "status") == "Charging" if battery else None,
        low_power_mode=profile == "low-power" if profile else None,
        governor=_text(root / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_average_1min=_load(),
    )


def _load() -> float | None:
    if sys.platform == "win32":
        return None
    else:
        return round(os.getloadavg()[0], 2)


def _text(path: Path) -> str | None:
    """A file of /sys; None where there is none, or the kernel does not answer."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
