"""The service of examples/service, by uvicorn on the loopback address."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conversions import ROOT
from exports import Exports
from packages import require_package

from mobileclip_deploy.network.model.variants import models_dir

pytestmark = pytest.mark.slow
IMAGES = models_dir() / "nano" / "evaluation" / "images"


@pytest.fixture(scope="module")
def port(exports: Exports) -> Iterator[int]:
    for package in ("fastapi", "uvicorn"):  # by a test, not by the module: `make test` collects it without them
        require_package(package, "pip install '.[dev]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    environment = os.environ | {
        "BUNDLE": str(exports.bundle("onnx", "fp16").path),
        "LABELS": "cat face,pizza,automobile",
    }
    words = ["--app-dir", ROOT / "examples" / "service", "--port", str(number), "--log-level", "warning", "service:app"]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", *words], env=environment)
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            try:
                if ask(number, "GET", "/health")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield number
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_two_hundred_requests_of_eight_callers_get_their_own_answers(port: int) -> None:
    wanted = {"1f431": "cat face", "1f355": "pizza", "1f697": "automobile"}
    contents = {name: (IMAGES / f"{name}.png").read_bytes() for name in wanted}

    def call(number: int) -> bool:
        name = list(wanted)[number % 3]
        status, found = ask(port, "POST", "/classify?top=1", contents[name])
        assert isinstance(found, dict)
        return (status, *found) == (200, wanted[name])

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(call, range(200)))
    assert ask(port, "GET", "/health") == (200, {"image": True, "text": True})


def test_a_wrong_or_too_long_picture_is_refused(port: int) -> None:
    status, found = ask(port, "POST", "/classify", b"no picture")
    assert (status, "not an image" in str(found)) == (400, True)
    assert ask(port, "POST", "/classify", bytes(20_000_001))[0] == 413
    assert ask(port, "GET", "/health")[0] == 200
