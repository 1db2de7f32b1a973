"""The command line. Each command has one file; this one combines them."""

import os
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import click

from mobileclip_deploy.base.files.staging import own_temporary_folder
from mobileclip_deploy.base.interpreter import safe_children
from mobileclip_deploy.cli.audit import audit
from mobileclip_deploy.cli.classify import classify
from mobileclip_deploy.cli.commands import entries, find, missing
from mobileclip_deploy.cli.compare import compare
from mobileclip_deploy.cli.convert import convert
from mobileclip_deploy.cli.ending import check_current_folder, ended_by_signals, reporting_errors
from mobileclip_deploy.cli.evaluate import evaluate
from mobileclip_deploy.cli.export import export
from mobileclip_deploy.cli.inspect import inspect
from mobileclip_deploy.cli.layouts import layouts
from mobileclip_deploy.cli.lint import lint
from mobileclip_deploy.cli.options import add_quiet
from mobileclip_deploy.cli.reparameterize import reparameterize
from mobileclip_deploy.cli.terminal import guard_logging, prepare_streams
from mobileclip_deploy.cli.variants import variants
from mobileclip_deploy.cli.verify import verify
from mobileclip_deploy.cli.words import in_flags, put_in_flags
from mobileclip_deploy.errors import MobileClipDeployError

__all__ = ["cli", "main"]


BROKEN_PIPE = 128 + 13
"""Exit code as if ended by SIGPIPE, which Windows does not have."""


class Ordered(click.Group):
    """A group of commands in the order of a user's work, not of the alphabet.

    The commands are loaded on first use, since a wing's command imports this package.
    """

    @cached_property
    def commands(self) -> dict[str, click.Command]:  # type: ignore[override]
        return {command.name or "": add_quiet(command) for command in in_order()}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.__dict__.pop("commands")  # click's own attribute, which is empty
        add_quiet(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes each command with the whole first sentence of its help; click cuts it at a width."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
            )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in entries() and cmd_name not in self.commands:
            raise click.UsageError(missing(cmd_name), ctx)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MobileClipDeployError as error:
            put_in_flags(error)
            raise
        except KeyboardInterrupt as stopped:
            stopped.__notes__ = [in_flags(note) for note in getattr(stopped, "__notes__", ())]
            raise
        except BrokenPipeError:
            # The reader of stdout, such as `| head`, is done: end as by the signal. Click's 1 would mean a failed gate.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN_PIPE)


def in_order() -> Iterator[click.Command]:
    """Yields the installed commands, in the order of a user's work."""
    yield from (variants, layouts, inspect, reparameterize, convert, export)
    yield from filter(None, map(find, ("sweep",)))
    yield from (verify, audit, lint, evaluate, compare, classify)
    last = (
        "embed",
        "search",
        "bridge",
        "reinforce",
        "train",
        "devices",
        "benchmark",
        "report",
        "demo",
        "publish",
    )
    yield from filter(None, map(find, (*last, "doctor")))


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="mobileclip-deploy", message="%(prog)s %(version)s")
def cli() -> None:
    """Take a trained MobileCLIP checkpoint to Core ML, Core AI, ONNX, LiteRT, ExecuTorch, MLX and Qualcomm's NPU, and
    prove that it is still the same model.

    Without --checkpoint and --variant the built-in trained checkpoint, nano, is used.

    \b
    Example: export the built-in checkpoint to every target, verified:
      mobileclip-deploy export --target all -o out/

    Exit codes: 0 done; 1 a gate failed; 2 wrong use or bad input; 3 a device or runtime is missing or failed;
    4 undecided: too few pictures to tell; 70 a mistake of this program, no verdict; 130 interrupted by Ctrl-C;
    143 terminated.

    The result is on stdout, progress and errors are on stderr.
    """


def main() -> None:
    """Runs the command line; the process ends with the exit code."""
    # Torch's threads spin while they wait for each other. On a busy machine, that made evaluating a Core ML package 10
    # to 40 times slower. Torch reads this when it is imported, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    guard_logging()
    with reporting_errors(), ended_by_signals(), safe_children():
        check_current_folder()
        with own_temporary_folder():
            code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
