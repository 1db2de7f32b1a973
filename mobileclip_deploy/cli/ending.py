"""End of the command line: every error, also a signal, is one line on stderr and an exit code."""

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
    from_os_error,
    no_memory,
)

CLEAN = "nothing half-written was left behind"


class Interrupted(MobileClipDeployError):
    """Ctrl-C. `kept`: saved work of an interrupted command, and the way to continue it."""

    exit_code: ClassVar[int] = 128 + signal.SIGINT
    word: ClassVar[str] = "interrupted"

    def __init__(self, *kept: str) -> None:
        super().__init__(f"{self.word}: {'; '.join(kept) or CLEAN}")


class Terminated(Interrupted):
    """SIGTERM, for example from a stopping service or a cancelled CI job."""

    exit_code = 128 + signal.SIGTERM
    word = "terminated"


class SigTerm(KeyboardInterrupt):
    """A received SIGTERM. It is a `KeyboardInterrupt`, so the cleanup for Ctrl-C also runs for it."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Context manager that raises Ctrl-C as `KeyboardInterrupt` and SIGTERM as `SigTerm`. A second SIGTERM ends the
    process at once.

    The block ends with the signal, even if it swallowed or replaced the exception: converters take such exceptions for
    their own errors, or drop them.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers can be set only in the main thread
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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if a shell has set it to be ignored
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
def reporting_errors() -> Iterator[None]:
    """Context manager that prints an exception on stderr and ends the process with its exit code."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (MobileClipDeployError, click.ClickException, click.Abort, KeyboardInterrupt, OSError) as error:
        shown = _told(error)
        print_error(shown)
        raise SystemExit(shown.exit_code) from error
    except Exception as error:
        ended = RuntimeFailed(LITTLE_MEMORY) if no_memory(error) else crashed(error)
        print_error(ended)
        raise SystemExit(ended.exit_code) from error


def check_current_folder() -> None:
    """Refuses to start in a deleted folder: torch's libraries would end the process there.

    Raises:
        UsageError: the current folder was removed.
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
        return from_os_error(error)
    notes = getattr(error, "__notes__", ())
    return Terminated(*notes) if isinstance(error, SigTerm) else Interrupted(*notes)
