"""How the command line ends: every error is one line on stderr and an exit code, and a signal is an error too."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import ClassVar, NoReturn

import click

from mobileclip_deploy.base.crashes import crashed
from mobileclip_deploy.cli.output import print_error
from mobileclip_deploy.errors import (
    LITTLE_MEMORY,
    MobileClipDeployError,
    RuntimeFailed,
    UsageError,
    no_memory,
    of_system,
)

CLEAN = "nothing half-written was left behind"


class Interrupted(MobileClipDeployError):
    """Ctrl-C. `kept`: what an interrupted command left to go on with, and how."""

    exit_code: ClassVar[int] = 128 + signal.SIGINT
    word: ClassVar[str] = "interrupted"

    def __init__(self, *kept: str) -> None:
        super().__init__(f"{self.word}: {'; '.join(kept) or CLEAN}")


class Terminated(Interrupted):
    """SIGTERM, as of a service that stops or a CI job that is cancelled."""

    exit_code = 128 + signal.SIGTERM
    word = "terminated"


class SigTerm(KeyboardInterrupt):
    """SIGTERM came: whatever cleans up after Ctrl-C cleans up after it."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block Ctrl-C is raised as `KeyboardInterrupt`, and SIGTERM as `SigTerm`; a second SIGTERM ends the process
    at once.

    The block ends with them, whatever it made of them: converters take them for errors of their own, or drop them.
    """
    if threading.current_thread() is not threading.main_thread():  # only there a handler can be set
        yield
        return
    came: list[KeyboardInterrupt] = []

    def terminate(_: int, __: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        came.append(SigTerm())
        raise came[-1]

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        came.append(KeyboardInterrupt())
        raise came[-1]

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, terminate)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell told us to ignore it
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except BaseException as error:
        if came and error is not came[-1]:
            raise came[-1] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise came[-1]


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
    except Exception as error:
        ended = RuntimeFailed(LITTLE_MEMORY) if no_memory(error) else crashed(error)
        print_error(ended)
        raise SystemExit(ended.exit_code) from error


def check_current_folder() -> None:
    """Refuses a current folder that was removed: torch's libraries end the process there.

    Raises:
        UsageError: it was removed.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current folder was removed; change to another one, and run this again") from None


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
    kept = getattr(error, "__notes__", ())
    return Terminated(*kept) if isinstance(error, SigTerm) else Interrupted(*kept)
