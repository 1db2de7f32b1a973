"""Actions on one device: install, copy, launch, check. Each is one call of devicectl."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, parsing_device_output
from mobileclip_deploy.benchmark.ios.building import App
from mobileclip_deploy.benchmark.ios.devicectl import (
    SECONDS,
    CoreDeviceFailed,
    NoSuchRemoteFile,
    devicectl,
)
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed

COPY_SECONDS = 600
LEAST_SECONDS = 5
"""Shortest time limit that devicectl accepts."""
PAUSES = (1.0, 5.0, 15.0)
"""Seconds before each new attempt after the connection broke."""
LOOKS_AT_PREPARING = 60


@dataclass(frozen=True)
class Phone:
    """A device and the app on it. Remote paths are relative to the app's container, `Documents/...`."""

    udid: str
    app: App

    def install(self) -> None:
        """Installs the app, or replaces it. The app's documents stay."""
        command = ("device", "install", "app", "--device", self.udid)
        _patiently(*command, then=(str(self.app.path),), seconds=COPY_SECONDS)

    def prepare(self, run_id: str, folders: Sequence[str]) -> None:
        """Makes the app create the folders of a run, since devicectl creates none.

        Args:
            folders: paths below the folder of the run's job.

        Raises:
            RuntimeFailed: the app cannot be started, or does not end.
        """
        named = [word for folder in folders for word in ("--folder", folder)]
        process = self.launch(("--prepare", run_id, *named, "--exit"))
        for _ in range(LOOKS_AT_PREPARING):
            if not self.is_running(process):
                return
            time.sleep(PAUSES[0])
        raise RuntimeFailed("the app on the device started and did not end; close it there, and run the command again")

    def push(self, local: Path, remote: str) -> None:
        """Copies a file to the device, into an existing folder. Tries again if the connection breaks."""
        places = ("--source", str(local), "--destination", remote)
        _patiently("device", "copy", "to", *self._container(), *places, seconds=COPY_SECONDS)

    def pull(self, remote: str, limit: int = SAID_BYTES) -> bytes | None:
        """Returns the content of a file on the device. None if the file does not exist.

        Raises:
            RuntimeFailed: the file is larger than `limit` bytes.
        """
        with temporary_folder() as folder:
            local = folder / Path(remote).name
            places = ("--source", remote, "--destination", str(local))
            try:
                _patiently("device", "copy", "from", *self._container(), *places, seconds=COPY_SECONDS)
            except NoSuchRemoteFile:
                return None
            try:
                return read_regular(local, limit) if local.is_file() else None
            except InvalidInput:
                raise RuntimeFailed(
                    f"{local.name} on the device has more than {limit >> 20} MiB: delete the app"
                ) from None

    def launch(self, arguments: Sequence[str]) -> int:
        """Restarts the app in the foreground. The app runs by itself, so a broken cable does not end it.

        Returns:
            The app's process identifier on the device.
        """
        # Without `--` devicectl parses the app's options as its own. The app ignores `--` (FB13259837).
        then = (self.app.bundle_id, "--", *arguments)
        result = _patiently("device", "process", "launch", "--device", self.udid, "--terminate-existing", then=then)
        with parsing_device_output("devicectl"):
            identifier = (result.get("process") or {}).get("processIdentifier")
        if not isinstance(identifier, int):
            raise RuntimeFailed("devicectl launched the app but reported no process; update Xcode")
        return identifier

    def is_running(self, process: int) -> bool:
        """Returns whether the process runs on the device."""
        running = _patiently("device", "info", "processes", "--device", self.udid).get("runningProcesses") or ()
        with parsing_device_output("devicectl"):
            return any(entry.get("processIdentifier") == process for entry in running)

    def wait(self, process: int, seconds: float) -> bool:
        """Waits until a process ends, at most `seconds`, without a query to the device meanwhile.

        Returns:
            True if the process ended. False if the time is up or the connection broke; `is_running` shows which.

        Raises:
            UnknownCommand: this Xcode is older than 27, and cannot wait.
        """
        limit = max(LEAST_SECONDS, math.ceil(seconds))
        try:
            devicectl(
                "device", "process", "awaitTermination", "--device", self.udid, "--pid", str(process), seconds=limit
            )
        except CoreDeviceFailed:
            return False
        return True

    def _container(self) -> tuple[str, ...]:
        """Returns the options for the app's container. Without `--user` some systems find no file in it."""
        domain = ("--domain-type", "appDataContainer", "--domain-identifier", self.app.bundle_id)
        return ("--device", self.udid, "--user", "mobile", *domain)


def _patiently(*arguments: str, then: tuple[str, ...] = (), seconds: int = SECONDS) -> dict[str, Any]:
    """Calls `devicectl`, again after a pause if the connection broke. Most breaks last seconds only."""
    for pause in PAUSES:
        try:
            return devicectl(*arguments, then=then, seconds=seconds)
        except CoreDeviceFailed as failure:
            if not failure.broken:
                raise
        time.sleep(pause)
    return devicectl(*arguments, then=then, seconds=seconds)
