"""The command line for tests: run in this process through its real entry point, or in a process of its own."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from pydantic import TypeAdapter

from mobileclip_deploy.cli import main

PROGRAM = [sys.executable, "-P", "-c", "from mobileclip_deploy.cli import main; main()"]
"""What the installed `mobileclip-deploy` does, without needing it on the PATH."""


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str
    command: str | None = None

    @property
    def json(self) -> Any:
        """All of stdout as JSON; it has to be what is published for the command: nothing lacks, nothing is unknown."""
        document = strict_json(self.stdout)
        if self.command is not None:
            check_document(self.command, document)
        return document


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
    return Outcome(code, stdout.getvalue(), stderr.getvalue(), _command(arguments))


def spawn(
    *arguments: str | Path,
    cwd: Path | None = None,
    program: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    done = subprocess.run(
        [*(program or PROGRAM), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, _command(arguments))


def killed(program: str, *arguments: str | Path) -> None:
    """A command in a process of its own, in which a program has replaced something by what kills it."""
    program += "\nfrom mobileclip_deploy.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def _command(arguments: Sequence[str | Path]) -> str | None:
    return next((str(word) for word in arguments if not str(word).startswith("-")), None)


def check_document(command: str, document: Any) -> None:
    """Whether a document is what `docs/schemas` says of a command's."""
    from json_schemas import DOCUMENTS

    from mobileclip_deploy.benchmark.result import Result

    tops = document if isinstance(document, list) else [document]
    assert all(isinstance(top["schema_version"], int) for top in tops)
    if command == "benchmark":
        Result.model_validate_json(json.dumps(document), strict=True)
        return
    if command != "variants":  # whose cards have a required one; of the other types some do not know it
        bare = [{key: value for key, value in top.items() if key != "schema_version"} for top in tops]
        document = bare if isinstance(document, list) else bare[0]
    adapter: TypeAdapter[Any] = TypeAdapter(DOCUMENTS[command])
    read = adapter.validate_python(document)
    assert strict_json(adapter.dump_json(read, exclude_unset=True).decode()) == document


def refusal(outcome: Outcome) -> str:
    """The one line with which bad input is refused, exit code 2, after progress if some was made; anything else fails
    the test."""
    assert outcome.code == 2, (outcome.code, outcome.stderr)
    assert outcome.stdout == ""
    *progress, line = outcome.stderr.splitlines()
    assert line.startswith("error: ")
    assert [text for text in (*progress, line[1:]) if "error:" in text or "Traceback" in text] == []
    return line


def refused(*arguments: str | Path) -> str:
    """As `refusal`, of a command that is run in this process."""
    return refusal(run(*arguments))


def strict_json(text: str) -> Any:
    """Parse JSON as other languages do: NaN and Infinity are not in it."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
