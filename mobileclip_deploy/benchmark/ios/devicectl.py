"""`xcrun devicectl`: one call, its JSON file read, its failures as typed errors. stdout, full of tables, is not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from mobileclip_deploy.benchmark.bounded import SAID_BYTES, one_line, run_bounded, understood
from mobileclip_deploy.benchmark.ios.failures import CoreDeviceFailed, NoSuchRemoteFile, read_failure
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.files import read_json
from mobileclip_deploy.files.leftovers import temporary_folder

__all__ = ["CoreDeviceFailed", "NoSuchRemoteFile", "UnknownCommand", "devicectl"]

# devicectl refuses less than 5; its own limit comes first, so that it can still write why.
SECONDS = 60
GRACE = 30
USAGE = 64
"""devicectl's exit code for words that it does not know: EX_USAGE of sysexits, as swift-argument-parser has it."""


class UnknownCommand(RuntimeFailed):
    """This Xcode's devicectl has no such command."""


def devicectl(*arguments: str, then: tuple[str, ...] = (), seconds: int = SECONDS) -> dict[str, Any]:
    """Call devicectl.

    Args:
        arguments: the command and its options.
        then: what has to stand behind all options (a bundle id, an app's own arguments).
        seconds: devicectl gives up after so many.

    Returns:
        `result` of its JSON file.

    Raises:
        NoSuchRemoteFile: a file that was asked for is not on the device.
        UnknownCommand: it is older than the command.
        CoreDeviceFailed: any other failure that devicectl tells.
        RuntimeFailed: there is no devicectl, or it told nothing.
    """
    with temporary_folder() as folder:
        answer = folder / "answer.json"
        command = ["xcrun", "devicectl", *arguments, "--timeout", str(seconds), "--json-output", str(answer), *then]
        name = " ".join(arguments[:3])
        try:
            done = run_bounded(command, seconds + GRACE)
        except FileNotFoundError:
            raise RuntimeFailed(
                "there is no xcrun here; an iPhone needs a Mac with Xcode 16 or newer: run this there (docs/iphone.md)"
            ) from None
        except subprocess.TimeoutExpired:
            raise RuntimeFailed(
                f"devicectl {name} did not answer within {seconds + GRACE} s; unplug the device, plug it in, unlock it"
            ) from None
        document = _read(answer)
    failure = document.get("error")
    if isinstance(failure, dict):
        with understood("devicectl"):
            error = read_failure(failure, name)
        raise error
    if done.returncode == USAGE:
        raise UnknownCommand(f"this Xcode's devicectl does not know {name}; update Xcode")
    result = document.get("result")
    if done.returncode != 0 or not isinstance(result, dict):
        told = one_line((done.stderr.decode(errors="replace").strip().splitlines() or ["nothing on stderr"])[-1])
        raise RuntimeFailed(
            f"devicectl {name} failed without telling why (exit {done.returncode}: {told}); "
            "check that `xcode-select -p` names an Xcode, not the command line tools alone"
        )
    return result


def _read(file: Path) -> dict[str, Any]:
    try:
        document = read_json(file, SAID_BYTES)
    except (OSError, ValueError, InvalidInput):
        return {}
    return document if isinstance(document, dict) else {}
