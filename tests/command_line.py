"""The command line for tests: run in this process through its real entry point, or in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from mobileclip_deploy.cli import main

__all__ = ["PROGRAM", "Outcome", "refusal", "run", "spawn", "strict_json"]

PROGRAM = [sys.executable, "-c", "from mobileclip_deploy.cli import main; main()"]
"""What the installed `mobileclip-deploy` does, without needing it on the PATH."""


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """All of stdout as JSON."""
        return strict_json(self.stdout)


def run(*arguments: str | Path) -> Outcome:
    """Run a command in this process, with its errors turned into lines and codes as for a user."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["mobileclip-deploy", *map(str, arguments)]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    assert isinstance(code, int)
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


def spawn(
    *arguments: str | Path,
    cwd: Path | None = None,
    program: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [*(program or PROGRAM), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def refusal(outcome: Outcome) -> str:
    """The one line with which bad input is refused, exit code 2, after progress if some was made; anything else fails
    the test."""
    assert outcome.code == 2, (outcome.code, outcome.stderr)
    assert outcome.stdout == ""
    *progress, line = outcome.stderr.splitlines()
    assert line.startswith("error: ")
    assert [text for text in (*progress, line[1:]) if "error:" in text or "Traceback" in text] == []
    return line


def strict_json(text: str) -> Any:
    """Parse JSON as other languages do: NaN and Infinity are not in it."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
