"""What is done to one device: install, copy, launch, look, each one call of devicectl."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.benchmark.ios.building import App
from mobileclip_deploy.benchmark.ios.devicectl import NoSuchRemoteFile, devicectl
from mobileclip_deploy.errors import RuntimeFailed

__all__ = ["Phone"]

COPY_SECONDS = 600


@dataclass(frozen=True)
class Phone:
    """A device and the app on it. Remote paths are relative to the app's container, `Documents/...`."""

    udid: str
    app: App

    def install(self) -> None:
        """Install the app, or replace it; its documents stay."""
        devicectl("device", "install", "app", "--device", self.udid, then=(str(self.app.path),), seconds=COPY_SECONDS)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file or a folder to the device."""
        places = ("--source", str(local), "--destination", remote)
        devicectl("device", "copy", "to", *self._container(), *places, seconds=COPY_SECONDS)

    def pull(self, remote: str) -> bytes | None:
        """The content of a file on the device; None where there is none."""
        with tempfile.TemporaryDirectory(prefix="mobileclip-pull-") as folder:
            local = Path(folder) / Path(remote).name
            places = ("--source", remote, "--destination", str(local))
            try:
                devicectl("device", "copy", "from", *self._container(), *places, seconds=COPY_SECONDS)
            except NoSuchRemoteFile:
                return None
            return local.read_bytes() if local.is_file() else None

    def launch(self, arguments: Sequence[str]) -> int:
        """Start the app anew, in front, and let it run by itself: a broken cable does not end it.

        Returns:
            Its process identifier on the device.
        """
        # Without the dashes devicectl takes the app's options for its own; the app ignores them (FB13259837).
        then = (self.app.bundle_id, "--", *arguments)
        result = devicectl("device", "process", "launch", "--device", self.udid, "--terminate-existing", then=then)
        number = (result.get("process") or {}).get("processIdentifier")
        if not isinstance(number, int):
            raise RuntimeFailed("devicectl launched the app and told no process; update Xcode")
        return number

    def is_running(self, process: int) -> bool:
        """Whether the process is there."""
        running = devicectl("device", "info", "processes", "--device", self.udid).get("runningProcesses") or ()
        return any(entry.get("processIdentifier") == process for entry in running)

    def _container(self) -> tuple[str, ...]:
        """The app's documents. Without the user some systems find no file in it."""
        domain = ("--domain-type", "appDataContainer", "--domain-identifier", self.app.bundle_id)
        return ("--device", self.udid, "--user", "mobile", *domain)
