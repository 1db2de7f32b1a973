"""Listing of the iPhones and iPads that this Mac knows, with state and remedy of each."""

from dataclasses import dataclass, replace
from typing import Any

from mobileclip_deploy.benchmark.bounded import one_line, parsing_device_output
from mobileclip_deploy.benchmark.ios.devicectl import DEVELOPER_MODE, CoreDeviceFailed, devicectl
from mobileclip_deploy.errors import RuntimeFailed

OLDEST_SYSTEM = 17
CONNECT = "connect one by cable, unlock it, and tap Trust on it"


@dataclass(frozen=True)
class AppleDevice:
    """An iPhone or iPad. `state` is "ready" or the problem, such as "locked". `remedy` is None if it is ready."""

    udid: str
    identifier: str
    name: str
    model: str
    system: str
    state: str
    remedy: str | None = None

    @property
    def label(self) -> str:
        """Name for messages, such as `Jo's iPhone (iPhone 15 Pro, iOS 18.1)`."""
        return f"{self.name} ({self.model}, iOS {self.system})"


def list_devices() -> tuple[AppleDevice, ...]:
    """Returns all devices that are paired or were seen. Checks whether reachable devices are locked.

    Raises:
        RuntimeFailed: devicectl is not installed, or it failed.
    """
    listing = devicectl("list", "devices")
    with parsing_device_output("devicectl"):
        devices = parse_devices(listing)
    return tuple(_with_lock(device) if device.state == "ready" else device for device in devices)


def choose(selector: str | None) -> AppleDevice:
    """Returns the device with that UDID, identifier or name. Without a selector, returns the only ready device.

    Raises:
        RuntimeFailed: no device or several devices match, or the device is not ready; the error has a remedy.
    """
    devices = list_devices()
    if selector is not None:
        folded = selector.casefold()
        named = [d for d in devices if folded in (d.udid.casefold(), d.identifier.casefold(), d.name.casefold())]
        if not named:
            udids = ", ".join(device.udid for device in devices) or "none"
            raise RuntimeFailed(f"no iPhone or iPad {selector!r}; known: {udids}")
        device = named[0]
    else:
        ready = [device for device in devices if device.state == "ready"]
        if len(ready) > 1:
            names = ", ".join(f"ios:{device.udid} ({device.name})" for device in ready)
            raise RuntimeFailed(f"several devices are ready; name one with `device`: {names}")
        if not devices:
            raise RuntimeFailed(f"no iPhone or iPad was found; {CONNECT}")
        device = (ready or list(devices))[0]
    if device.state != "ready":
        raise RuntimeFailed(f"{device.label} is {device.state}; {device.remedy}")
    return device


def parse_devices(listing: dict[str, Any]) -> tuple[AppleDevice, ...]:
    """Parses `result` of `devicectl list devices`. Returns the physical iPhones and iPads, sorted by name.

    Reads both formats: Xcode 15 and 16 write three groups of properties. Xcode 27 adds `properties`, which has
    priority.
    """
    devices = []
    for entry in listing.get("devices", ()):
        hardware = _section(entry, "hardwareProperties", "hardware")
        if hardware.get("platform") != "iOS" or hardware.get("reality", "physical") != "physical":
            continue
        devices.append(_device(entry, hardware))
    return tuple(sorted(devices, key=lambda device: (device.name, device.udid)))


def _device(entry: dict[str, Any], hardware: dict[str, Any]) -> AppleDevice:
    connection = _section(entry, "connectionProperties", "connection")
    about = _section(entry, "deviceProperties", "software") | _section(entry, "deviceProperties", "state")
    system = about.get("osVersionNumber")
    system = system.get("stringValue") if isinstance(system, dict) else system
    mode = about.get("developerModeStatus")
    mode = next(iter(mode), None) if isinstance(mode, dict) else mode
    state, remedy = _state(connection, mode, one_line(str(system or "")))
    identifier = str(entry.get("identifier", ""))
    return AppleDevice(
        udid=one_line(str(hardware.get("udid") or identifier)),
        identifier=identifier,
        name=one_line(str(about.get("name") or "unnamed")),
        model=one_line(str(hardware.get("marketingName") or hardware.get("productType") or "unknown model")),
        system=one_line(str(system or "unknown")),
        state=state,
        remedy=remedy,
    )


def _section(entry: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    properties = entry.get("properties")
    newer = properties.get(new) if isinstance(properties, dict) else None
    return {**(entry.get(old) or {}), **(newer or {})}


def _state(connection: dict[str, Any], developer_mode: str | None, system: str) -> tuple[str, str | None]:
    if connection.get("pairingState") != "paired":
        return "not paired", "connect it by cable, unlock it, and tap Trust on it"
    if "unavailable" in (connection.get("tunnelState"), connection.get("state")):
        return "disconnected", "connect it by cable and unlock it"
    if developer_mode == "disabled":
        return "in need of developer mode", DEVELOPER_MODE
    major = system.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_SYSTEM:
        return f"too old (iOS {system})", f"the harness needs iOS {OLDEST_SYSTEM}: update it, or use another device"
    return "ready", None


def _with_lock(device: AppleDevice) -> AppleDevice:
    """Queries the device's lock, which also shows whether the device can be reached."""
    try:
        locked = devicectl("device", "info", "lockState", "--device", device.udid, seconds=15).get("passcodeRequired")
        state, remedy = ("locked", "unlock it and leave its screen on") if locked else ("ready", None)
    except CoreDeviceFailed as failure:
        state, remedy = "out of reach", str(failure)
    return replace(device, state=state, remedy=remedy)
