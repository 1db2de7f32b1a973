"""Opened files of unknown origin: each runs in a child process with bounds on time and memory."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.base.files.names import Name
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.interpreter import end_group, python
from mobileclip_deploy.errors import InvalidInput, Malformed, RuntimeFailed, reraising
from mobileclip_deploy.targets import Target, targets
from mobileclip_deploy.targets.foreign_file import StoredConstant

PROCESS = "mobileclip_deploy.verify.audit.process"
SECONDS = 600.0
"""Time limit for all that a file computes, if none is chosen. nano takes 2 s, and S0 less than 60 s."""
MEMORY, TIMES = 4 << 30, 6
"""Memory limit in bytes, or this multiple of the file's size if that is more: a runtime holds its weights twice."""

PASSED = {
    *("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TEMP", "TMP", "TMPDIR"),
    *("APPDATA", "COMSPEC", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS", "PATHEXT", "SYSTEMROOT", "USERPROFILE"),
}
"""Variables that the process gets, besides those of Python, of OpenMP and of the language: none has a token."""

Size = Annotated[int, Field(ge=0, le=1 << 20)]


class Port(BaseModel, frozen=True):
    """An input or output as the file declares it; a free dimension is 0."""

    name: Name
    dtype: Annotated[str, Field(max_length=40)]
    shape: Annotated[tuple[Size, ...], Field(max_length=8)]


class _Declared(BaseModel, frozen=True):
    inputs: Annotated[tuple[Port, ...], Field(min_length=1, max_length=16)]
    outputs: Annotated[tuple[Port, ...], Field(min_length=1, max_length=64)]
    engine: Name
    operators: Annotated[frozenset[Name], Field(max_length=10_000)]
    rounds: bool


class Stopped(RuntimeFailed):
    """The process of a file exceeded a limit or died: nothing more is known of the file."""

    kind: ClassVar[str] = RuntimeFailed.kind


def foreign_target(path: Path) -> Target | None:
    """Returns the target that runs others' files of this suffix. None if the path cannot be such a file."""
    return _readers().get(path.suffix)


def _readers() -> dict[str, Target]:
    """Returns the targets that run others' files, by suffix."""
    readers = [target for target in targets().values() if type(target).open_foreign is not Target.open_foreign]
    named = {target.capabilities.formats.suffixes[0]: target for target in readers}
    return named | {".mlmodel": named[".mlpackage"]}


class OpenedFile:
    """A file that runs in a child process until it is closed.

    Attributes:
        path: the file.
        inputs, outputs: its ports.
        engine: runtime and version.
        operators: names of its operations.
        rounds: True if it rounds activations and can run without.

    Raises:
        InvalidInput: the file is damaged, or reads files outside of its folder.
        RuntimeFailed: the runtime refused it.
        Stopped: it died or exceeded a limit.
    """

    def __init__(self, path: Path, seconds: float = SECONDS) -> None:
        self.path, self._deadline, self._seconds = path, time.monotonic() + seconds, seconds
        target = foreign_target(path)
        assert target is not None
        target.require_installed()
        memory = max(MEMORY, TIMES * artifact_bytes(path))
        words = (target.name, path.absolute(), memory, round(seconds * (os.cpu_count() or 1)) + 1)
        command, every = python("-m", PROCESS, *map(str, words))
        prefixes = ("LC_", "OMP_", "PYTHON")
        environment = {name: each for name, each in every.items() if name in PASSED or name.startswith(prefixes)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with contextlib.ExitStack() as resources:
            self._folder = resources.enter_context(temporary_folder())
            self._process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
            resources.callback(self._process.wait)
            resources.callback(end_group, self._process, force=True)
            self._numbers = itertools.count(1)
            try:
                declared = _Declared.model_validate(self._reply(0))
            except ValidationError as error:
                problem = "its inputs and outputs are not those of a tower; give another file"
                raise InvalidInput(f"{path}: {problem}") from error
            self.inputs, self.outputs, self.engine = declared.inputs, declared.outputs, declared.engine
            self.operators, self.rounds = declared.operators, declared.rounds
            self._options: dict[str, bool] = {}
            self._resources = resources.pop_all()

    def close(self) -> None:
        """Ends the process and removes its files."""
        self._resources.close()

    def unrounded(self) -> OpenedFile:
        """Returns the same file without the rounding of activations, in the same process."""
        opened = copy.copy(self)
        opened._options = {"unrounded": True}
        return opened

    def call(self, values: Sequence[Array]) -> list[Array]:
        """Runs the file on one array per input. Returns one array per output.

        Raises:
            RuntimeFailed: the runtime refused the values.
            Stopped: it died or exceeded a limit.
        """
        source, result = self._folder / "inputs.npz", self._folder / "results.npz"
        named: dict[str, Any] = {str(index): value for index, value in enumerate(values)}
        np.savez(source, **named)
        self._request({"call": str(source), "result": str(result)})
        with np.load(result, allow_pickle=False) as stored:
            return [stored[str(index)] for index in range(len(self.outputs))]

    def constants(self) -> Iterator[StoredConstant]:
        """Yields each stored tensor of some size."""
        path = self._folder / "constants.npz"
        names = self._request({"constants": str(path)})["names"]
        with np.load(path, allow_pickle=False) as stored:
            for index, name in enumerate(names):
                keys = (str(index), f"{index} scale", f"{index} zero")
                yield StoredConstant(name, *(stored[key] for key in keys if key in stored))

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        number = next(self._numbers)
        with contextlib.suppress(BrokenPipeError):  # the reply says how the process ended
            self._process.stdin.write(json.dumps(request | self._options | {"number": number}).encode() + b"\n")
            self._process.stdin.flush()
        return self._reply(number)

    def _reply(self, number: int) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, self._deadline - time.monotonic())):
                    raise stopped(self.path, self._seconds)
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    raise Stopped(f"{self.path}: its runtime died; it may need too much memory, or be damaged")
                line += part
        with reraising(f"{self.path}: its runtime answers out of order", ValueError, RecursionError, into=Stopped):
            document: dict[str, Any] = json.loads(line)
            if document.pop("number", None) != number:
                raise Malformed("another request's answer; run it again")
        if "error" in document:
            kind = InvalidInput if document["invalid"] else RuntimeFailed
            text = document["error"]
            raise kind(text if str(self.path) in text else f"{self.path}: {text}")
        return document


def stopped(path: Path, seconds: float) -> Stopped:
    """Returns the error of a time limit."""
    return Stopped(f"{path} was stopped after {seconds:g} s; raise the limit (`budget`)")


def readable_kinds() -> str:
    """Returns the suffixes of files that targets run."""
    return ", ".join(_readers())
