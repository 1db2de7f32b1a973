"""Description and state of this machine."""

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
"""Instructions that decide how fast a processor multiplies floats and bytes, by Linux's names."""


def describe() -> Device:
    """Returns this machine's description, without its host name, since results are published."""
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
    """Returns the size of this machine's memory, in bytes."""
    if sys.platform == "win32":
        from mobileclip_deploy.benchmark.host import windows

        return windows.memory_bytes()
    else:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def instructions(file: Path = CPU) -> tuple[str, ...]:
    """Returns the instructions of `PRODUCTS` that this processor has. Empty if the system does not list them."""
    lines = (_text(file) or "").splitlines()
    available = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return tuple(name for name in PRODUCTS if name in available)


def snapshot(root: Path = SYS) -> Snapshot:
    """Reads this machine's current state.

    Reads Linux's /sys as far as it exists. On a Mac there is the load average only, on Windows nothing.
    """
    battery = next(iter(sorted(root.glob("class/power_supply/BAT*"))), None)
    temperatures = [_number(zone) for zone in root.glob("class/thermal/thermal_zone*/temp")]
    positive = [value for value in temperatures if value is not None and value > 0]
    profile = _text(root / "firmware/acpi/platform_profile")
    return Snapshot(
        unix_seconds=round(time.time(), 3),
        temperature_celsius=max(positive) / 1000 if positive else None,
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
    """Reads a file of /sys. None if it does not exist, is empty, or the kernel refuses."""
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
