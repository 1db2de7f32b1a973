"""A headless Chromium, driven through its debugging pipe: a page, keys, and everything it complains about."""

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from programs import serving, tool

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Tab": 9, "Enter": 13}


class Page:
    """One page. `complaints` are exceptions, console errors and refused loads."""

    def __init__(self, reading: int, writing: int) -> None:
        self._in, self._out = os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0)
        self._number, self._session, self._rest = 0, "", b""
        self._events: list[str] = []
        self.complaints: list[str] = []

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def visit(self, file: Path | str) -> None:
        """Load a file, or what is at an address, and wait until it has loaded."""
        self._events.clear()  # the page before has loaded, too
        self.call("Page.navigate", url=file.as_uri() if isinstance(file, Path) else file)
        while "Page.loadEventFired" not in self._events:
            self._read()

    def resize(self, width: int, height: int = 800, *, dark: bool = False) -> None:
        """Show the page in a window of so many pixels, in light or dark colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 120) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, (expression, self.complaints)
            time.sleep(0.1)

    def choose(self, selector: str, *files: Path) -> None:
        """Put files into a file field, as a user does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def hide(self) -> None:
        """Open another tab in front."""
        session, self._session = self._session, ""
        self.call("Target.createTarget", url="about:blank", background=False)
        self._session = session

    def show(self) -> None:
        """Bring the page in front again."""
        self.call("Page.bringToFront")

    def press(self, key: str) -> None:
        common = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def spoken(self) -> list[tuple[str, str]]:
        """What a screen reader is told: role and name of everything."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = self._in.read1()  # type: ignore[attr-defined]
            assert piece, "Chromium has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        method, parameters = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
        if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert", "warning"):
            self.complaints.append(json.dumps(parameters["args"]))
        if method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        return message


@contextlib.contextmanager
def open_page() -> Iterator[Page]:
    """A page in a Chromium of its own; without one the test is skipped, in CI it fails."""
    program = tool("needs Chromium; type: apt-get install chromium", *NAMES)
    commands, writing = os.pipe()
    reading, answers = os.pipe()
    # Chromium's helper processes may still write to the profile when it has ended itself.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --window-size=1400,1000"
        # Compiling onnxruntime's WebAssembly for speed takes longer than it runs.
        options += " --js-flags=--liftoff-only"
        line = f'exec "$0" {options} --remote-debugging-pipe --user-data-dir="$1" 3<&{commands} 4>&{answers}'
        browser = subprocess.Popen(
            ["bash", "-c", line, program, profile],
            env=os.environ | {"TMPDIR": profile},
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        page = Page(reading, writing)
        try:
            page.attach()
            yield page
        finally:
            browser.terminate()
            browser.wait(60)


@contextlib.contextmanager
def served(places: dict[str, str]) -> Iterator[str]:
    """Files and folders at addresses of a server of this machine alone; gives its own address."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            path = path.partition("?")[0]
            prefix = next((prefix for prefix in places if path.startswith(prefix)), None)
            return "" if prefix is None else f"{places[prefix]}{path.removeprefix(prefix)}"

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as address:
        yield address
