"""Description and state of a phone, read from getprop, dumpsys, settings, /proc and /sys. Detects simulated phones."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.adb import Adb
from mobileclip_deploy.benchmark.bounded import one_line, parsing_device_output
from mobileclip_deploy.benchmark.result import Device, Snapshot, ThermalState
from mobileclip_deploy.errors import RuntimeFailed

NEXT = "mobileclip-next-answer"
PAUSE_SECONDS = 10.0
WORD = 200
"""Maximum number of characters of a name; names of real phones are shorter."""
PROPERTY = re.compile(r"^\[(.+?)\]: \[(.*)\]$", re.MULTILINE)
TEMPERATURE = re.compile(r"Temperature\{mValue=(-?[0-9.]+), mType=(\d+), mName=([^,}]*)")
CPU, SKIN = 0, 3
"""Types of android.os.Temperature."""
THERMAL_STATES: tuple[ThermalState, ...] = ("nominal", "fair", "fair", "serious", "critical")
"""States for Android's none, light, moderate, severe, and (the last) critical, emergency or shutdown."""
STANDINS = ("goldfish", "ranchu", "cutf_cvm", "vsoc", "waydroid", "redroid", "nox", "vbox86")
"""Beginnings of ro.hardware of emulators and containers."""
FACTS = (
    "uname -m; grep MemTotal /proc/meminfo; cat /sys/devices/system/cpu/possible; "
    "[ -e /system/bin/linker64 ] && echo bionic; "
    "grep -H . /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq 2>/dev/null"
)
"""Script for a phone's shell: its machine, memory and cores."""
MAXIMUM = re.compile(r"^/sys/devices/system/cpu/cpu(\d+)/cpufreq/cpuinfo_max_freq:(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Thermal:
    """State of the thermal service, and current temperature of the hottest skin sensor (else CPU sensor)."""

    state: ThermalState | None
    celsius: float | None


@dataclass(frozen=True)
class AndroidPhone:
    """A device with the highest frequency of each core (core number -> kHz) and its `uname -m`."""

    device: Device
    frequencies: Mapping[int, int]
    machine: str


def describe(adb: Adb) -> AndroidPhone:
    """Returns the phone's description, without serial number and owner's name, since results are published."""
    properties, facts = _answers(adb, "getprop", FACTS)
    with parsing_device_output(f"the phone {adb.serial}"):
        return described(properties, facts)


def described(getprop: str, facts: str) -> AndroidPhone:
    """Returns the description in the output of getprop and of `FACTS`. Raises ValueError and the like for others."""
    properties = {name: one_line(value, WORD) for name, value in PROPERTY.findall(getprop)}
    frequencies = {int(core): int(khz) for core, khz in MAXIMUM.findall(facts)}
    memory = re.search(r"^MemTotal:\s*(\d+) kB", facts, re.MULTILINE)
    possible = re.search(r"^0(?:-(\d+))?$", facts, re.MULTILINE)
    cores = int(possible[1] or 0) + 1 if possible else max(frequencies, default=0) + 1
    model = properties.get("ro.product.model", "unknown")
    maker = properties.get("ro.product.manufacturer", "")
    chip = [properties.get(f"ro.soc.{name}", "") for name in ("manufacturer", "model")]
    device = Device(
        kind="android",
        simulated=is_simulated(properties, has_bionic="\nbionic\n" in f"\n{facts}\n"),
        name=model if model.lower().startswith(maker.lower()) else f"{maker} {model}",
        model=model,
        soc=" ".join(part for part in chip if part) or properties.get("ro.board.platform") or None,
        architecture=properties.get("ro.product.cpu.abi", "unknown"),
        os="Android",
        os_version=properties.get("ro.build.version.release", "unknown"),
        build=properties.get("ro.build.fingerprint") or None,
        cores=cores,
        core_maximum_khz=tuple(frequencies[core] for core in sorted(frequencies)),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
    )
    return AndroidPhone(device, frequencies, one_line(facts.splitlines()[0].strip(), WORD))


def is_simulated(properties: Mapping[str, str], has_bionic: bool) -> bool:
    """Returns whether the device is an emulator, a container or a script instead of a phone.

    A phone's programs are loaded by /system/bin/linker64 (`has_bionic`). A script that answers for getprop does not
    have that file. Emulators and containers have it, but their properties identify them.
    """
    if not has_bionic or properties.get("ro.mobileclip.simulated") == "1":
        return True
    if "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu")):
        return True
    return properties.get("ro.hardware", "").startswith(STANDINS)


def snapshot(adb: Adb, fixed_performance: bool | None) -> Snapshot:
    """Reads the phone's current state. A field is None if the phone does not report it."""
    temperatures, battery, saving, governor, load = _answers(
        adb,
        "dumpsys thermalservice",
        "dumpsys battery",
        "settings get global low_power",
        "cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null",
        "cat /proc/loadavg",
    )
    with parsing_device_output(f"the phone {adb.serial}"):
        thermal = parse_thermal(temperatures)
        percent, celsius, charging = parse_battery(battery)
        return Snapshot(
            unix_seconds=round(time.time(), 3),
            thermal_state=thermal.state,
            temperature_celsius=thermal.celsius,
            battery_percent=percent,
            battery_celsius=celsius,
            battery_charge_microampere_hours=battery_counter(battery, "Charge counter"),
            battery_millivolts=battery_counter(battery, "voltage"),
            charging=charging,
            low_power_mode={"0": False, "1": True}.get(saving.strip()),
            fixed_performance_mode=fixed_performance,
            governor=one_line(governor.strip(), WORD) or None,
            load_average_1min=float(load.split()[0]) if load.split() else None,
        )


def _answers(adb: Adb, *commands: str) -> list[str]:
    """Returns the output of each command. Runs all of them in one call of adb, since each call takes time."""
    script = f"\necho {NEXT}\n".join(commands)
    outputs = adb.demand(f"{script}\ntrue").split(f"{NEXT}\n")
    if len(outputs) != len(commands):
        raise RuntimeFailed(
            f"the phone {adb.serial} returned {len(outputs)} results for {len(commands)} commands: restart it"
        )
    return outputs


def battery_counter(dump: str, name: str) -> int | None:
    """Returns a counter of `dumpsys battery`. None if the phone has no such counter, which some phones write as 0."""
    match = re.search(rf"^ *{name}: (\d{{1,12}})$", dump, re.MULTILINE)
    return int(match[1]) or None if match else None


def parse_thermal(dump: str) -> Thermal:
    """Parses `dumpsys thermalservice`. Reads the hardware's own list only; the cached list before it is stale."""
    status = re.search(r"Thermal Status: (\d+)", dump)
    current = dump.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    readings = [(int(kind), float(value)) for value, kind, _ in TEMPERATURE.findall(current)]
    skin = [value for kind, value in readings if kind == SKIN]
    cpu = [value for kind, value in readings if kind == CPU]
    state = THERMAL_STATES[min(int(status[1]), len(THERMAL_STATES) - 1)] if status else None
    return Thermal(state, max(skin or cpu, default=None))


def wait_until_cool(
    read: Callable[[], Thermal],
    limit: float,
    progress: Progress,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits as `cool_down` before the first round.

    A phone that stays `fair` is measured all the same, since the result contains the state. So is a phone without a
    thermal service.

    Raises:
        RuntimeFailed: the state is still serious or critical.
    """
    thermal, _ = cool_down(read, limit, progress, now=now, sleep=sleep)
    if thermal.state not in (None, "nominal", "fair"):
        raise RuntimeFailed(
            f"the phone is still hot after {limit:.0f} s (thermal state {_state_text(thermal)}): take it off the "
            "charger and out of its case, let it cool, and run again"
        )


def cool_down(
    read: Callable[[], Thermal],
    limit: float,
    progress: Progress,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Thermal, float]:
    """Waits until the thermal state is nominal, at most `limit` seconds. Returns the last state, and the seconds that
    it waited, 0 of a cool phone."""
    start, waited = now(), 0.0
    while (thermal := read()).state not in (None, "nominal") and waited < limit:
        left = limit - waited
        progress(f"waiting for the phone to cool: thermal state {_state_text(thermal)}, at most {left:.0f} s more")
        sleep(min(PAUSE_SECONDS, left))
        waited = now() - start
    return thermal, waited


def _state_text(thermal: Thermal) -> str:
    return f"{thermal.state}" + ("" if thermal.celsius is None else f", {thermal.celsius:.0f} °C")


def parse_battery(dump: str) -> tuple[float | None, float | None, bool | None]:
    """Parses `dumpsys battery`: percent, degrees Celsius, and True if charging (2 of android.os.BatteryManager).

    Each is None if the phone does not report it.
    """
    values = {
        name: int(value) for name, value in re.findall(r"^\s*(level|scale|temperature|status): (-?\d+)$", dump, re.M)
    }
    percent = 100 * values["level"] / values["scale"] if values.get("scale") and "level" in values else None
    celsius = values["temperature"] / 10 if "temperature" in values else None
    return percent, celsius, values["status"] == 2 if "status" in values else None


def fast_cores(frequencies: Mapping[int, int], threads: int) -> tuple[int, ...]:
    """Returns `threads` cores to pin to, of the fastest kind that has enough cores. Empty if any core will do.

    Cores of one kind have the same highest clock. On a mix of kinds the slower cores decide the time of an inference.
    The scheduler decides which cores these are. If all cores are alike, or no kind has enough, nothing is pinned.
    """
    kinds = sorted(set(frequencies.values()), reverse=True)
    for kind in kinds if len(kinds) > 1 else ():
        alike = sorted(core for core, khz in frequencies.items() if khz == kind)
        if len(alike) >= threads:
            return tuple(alike[-threads:])
    return ()
