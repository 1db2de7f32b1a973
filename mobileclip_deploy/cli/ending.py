"""How the command line ends: every error is one line on stderr and an exit code, and a signal is an error too."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import ClassVar, NoReturn

import click

from mobileclip_deploy.cli.output import print_error
from mobileclip_deploy.errors import MobileClipDeployError, UsageError, of_system

__all__ = ["SigTerm", "Terminated", "ended_by_sigterm", "told_errors"]

CLEAN = "nothing half-written was left behind"


class Interrupted(MobileClipDeployError):
    """Ctrl-C."""

    exit_code: ClassVar[int] = 128 + signal.SIGINT

    def __init__(self) -> None:
        super().__init__(f"interrupted: {CLEAN}")


class Terminated(MobileClipDeployError):
    """SIGTERM, as of a service that stops or a CI job that is cancelled."""

    exit_code: ClassVar[int] = 128 + signal.SIGTERM

    def __init__(self) -> None:
        super().__init__(f"terminated: {CLEAN}")


class SigTerm(KeyboardInterrupt):
    """SIGTERM came: whatever cleans up after Ctrl-C cleans up after it."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """In the block SIGTERM is raised as `SigTerm`; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():  # only there a handler can be set
        yield
        return

    def handle(_: int, __: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SigTerm

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def told_errors() -> Iterator[None]:
    """What the block raises is told on stderr, and ends the process with its exit code."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (MobileClipDeployError, click.ClickException, click.Abort, KeyboardInterrupt, OSError) as error:
        told = _told(error)
        print_error(told)
        raise SystemExit(told.exit_code) from error


def _told(error: BaseException) -> MobileClipDeployError:
    if isinstance(error, MobileClipDeployError):
        return error
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "mobileclip-deploy"
        return UsageError(f"{error.format_message().rstrip('.')}; see {command} --help")
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message())
    if isinstance(error, OSError):
        return of_system(error)
    return Terminated() if isinstance(error, SigTerm) else Interrupted()
