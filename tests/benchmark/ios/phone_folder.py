"""A folder that is a phone, and `xcrun` and `xcodebuild` that reach it."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, run
from programs import script

UDID = "00008110-000559182E90401E"
LISTED = {
    "identifier": "8648BE6E-199F-55FE-B508-5B42071FEE92",
    "connectionProperties": {"pairingState": "paired", "transportType": "wired", "tunnelState": "connected"},
    "deviceProperties": {"name": "Jo's iPhone", "osVersionNumber": "18.1", "developerModeStatus": "enabled"},
    "hardwareProperties": {
        "platform": "iOS",
        "reality": "physical",
        "deviceType": "iPhone",
        "marketingName": "iPhone 13",
        "productType": "iPhone14,5",
        "udid": UDID,
    },
}


@dataclass
class FolderPhone:
    """What the stand-in reads and writes; see stand_in_xcrun.py."""

    folder: Path
    harness: Path

    def prepare(self, monkeypatch: pytest.MonkeyPatch) -> FolderPhone:
        """Write the phone's state, and put `xcrun`, `xcodebuild` and `defaults` that reach it on PATH."""
        self.folder.mkdir(parents=True)
        self.settings()
        self.listing(LISTED)
        self.core_ml()
        tools = self.folder.with_name("tools")
        code = Path(__file__).with_name("stand_in_xcrun.py").read_text(encoding="utf-8")
        for name in ("xcrun", "xcodebuild", "defaults"):
            script(tools / name, code, f"{sys.executable} -IS")
        monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
        monkeypatch.setenv("STAND_IN_PHONE", str(self.folder))
        return self

    def settings(self, **changes: Any) -> None:
        self._write("settings.json", {"harness": str(self.harness)} | changes)

    def listing(self, *devices: dict[str, Any]) -> None:
        self._write("listing.json", {"devices": list(devices)})

    def failures(self, **commands: list[dict[str, Any] | None]) -> None:
        """Errors by command, its words joined by `_`."""
        self._write("failures.json", {name.replace("_", " "): errors for name, errors in commands.items()})

    def core_ml(self, **script: Any) -> None:
        """What the stand-ins for Core ML and Core AI do; the fields are those of StandIn.swift."""
        defaults: dict[str, Any] = {
            "output": "final_emb_1",
            "answers": [],
            "wrong": [],
            "failing": {},
            "microseconds": {"cpuOnly": 600, "cpuAndGPU": 300, "cpuAndNeuralEngine": 100, "all": 120},
            "plans": {},
        }
        self._write("core_ml.json", defaults | script)

    def calls(self) -> list[list[str]]:
        lines = (self.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def files(self) -> list[str]:
        """What is in the app's documents."""
        documents = self.folder / "Documents"
        return sorted(str(path.relative_to(documents)) for path in documents.rglob("*") if path.is_file())

    def switch_off(self) -> None:
        """End the app, should it still run."""
        process = self.folder / "process"
        if not process.exists():
            return
        pid = int(process.read_text(encoding="utf-8"))
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(self.harness) in command.read_text(encoding="utf-8"):
            os.kill(pid, signal.SIGKILL)

    def _write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value), encoding="utf-8")


@dataclass
class IphoneBenchmark:
    """`benchmark` as a user types it."""

    bundle: Path
    output: Path
    answers: list[dict[str, Any]]

    def __call__(self, *more: str, device: str = "ios") -> Outcome:
        return run("benchmark", self.bundle, "--device", device, "--quick", "--json", self.output, *more)
