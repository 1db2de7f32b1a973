"""Programs that a test runs, writes or serves to; it imports nothing that has to be installed."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn


def missing(needs: str, here: bool = True) -> NoReturn:
    """Skips the test or the module that calls it; in CI it fails where `here` nothing may be missing."""
    import pytest

    if os.environ.get("CI") and here:
        pytest.fail(needs)
    pytest.skip(needs, allow_module_level=True)


def tool(needs: str, *names: str) -> str:
    """The path of the first of these programs that is installed."""
    return next((found for name in names if (found := shutil.which(name))), None) or missing(needs)


def loaded(path: Path) -> Any:
    """The module of a script that no package holds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def output(*command: str | Path, **options: Any) -> str:
    """What a program prints that has to end well; `options`: of `subprocess.run`."""
    done = subprocess.run(command, **{"capture_output": True, "encoding": "utf-8"} | options)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def script(path: Path, text: str, program: object = "/bin/sh") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{program}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    """The address at which a handler answers on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
