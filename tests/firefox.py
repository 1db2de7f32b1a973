"""A headless Firefox, driven through Marionette: a page, what stands in it, and files chosen as a user does."""

import base64
import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from programs import tool

NAMES = ("firefox-esr", "firefox")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SETTINGS = """\
user_pref("marionette.port", 0);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
"""
START_SECONDS = 180


class FirefoxPage:
    """One page, with the methods of `chromium.Page` that tests of both browsers use."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=300)
        self._in, self._number = self._socket.makefile("rb"), 0
        self._read()  # who it is
        self.call("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, method, parameters or {}]).encode()
        self._socket.sendall(str(len(message)).encode() + b":" + message)
        kind, number, error, found = self._read()
        assert (kind, number, error) == (1, self._number, None), error
        return found

    def visit(self, address: str) -> None:
        self.call("WebDriver:Navigate", {"url": address})

    def wait(self, expression: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, expression
            time.sleep(0.2)

    def evaluate(self, expression: str) -> Any:
        return self.call("WebDriver:ExecuteScript", {"script": f"return {expression}", "args": []})["value"]

    def choose(self, selector: str, *files: Path) -> None:
        found = self.call("WebDriver:FindElement", {"using": "css selector", "value": selector})["value"]
        text = "\n".join(str(file) for file in files)
        self.call("WebDriver:ElementSendKeys", {"id": found[ELEMENT], "text": text})

    def resize(self, width: int, height: int = 800) -> None:
        self.call("WebDriver:SetWindowRect", {"width": width, "height": height})

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("WebDriver:TakeScreenshot", {"full": True})["value"])

    def _read(self) -> Any:
        size = b""
        while (digit := self._in.read(1)) != b":":
            assert digit, "Firefox has ended"
            size += digit
        return json.loads(self._in.read(int(size)))


@contextlib.contextmanager
def open_firefox() -> Iterator[FirefoxPage]:
    """A page in a Firefox of its own; without one the test is skipped, in CI it fails."""
    program = tool("needs Firefox; type: apt-get install firefox-esr", *NAMES)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        (Path(profile) / "user.js").write_text(SETTINGS, encoding="utf-8")
        browser = subprocess.Popen(
            [program, "--headless", "--no-remote", "--marionette", "--profile", profile],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield FirefoxPage(_port(Path(profile) / "MarionetteActivePort", browser))
        finally:
            browser.terminate()
            browser.wait(60)


def _port(file: Path, browser: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not (file.exists() and file.read_text().strip()):
        assert browser.poll() is None, "Firefox has ended"
        assert time.monotonic() < deadline, "Firefox does not start"
        time.sleep(0.1)
    return int(file.read_text())
