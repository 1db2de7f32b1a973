"""Messages are raised in Python's words, and say `force=True` where the command line has --force: here is the one
place that turns them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

import click

KEYWORD = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


def in_flags(text: str) -> str:
    """A message with each keyword in backquotes as the flag of the command that is running, or else of another one.

    `force=True` becomes --force, `tower='image'` becomes --tower image. What is a command is left as it is.
    """
    context = click.get_current_context(silent=True)
    if context is None or KEYWORD.search(text) is None:
        return text
    group = context.find_root().command
    others = group.commands if isinstance(group, click.Group) else {}
    running = others.get(context.invoked_subcommand or "", context.command)
    commands = (running, *(command for command in others.values() if command is not running))

    def flag(word: re.Match[str]) -> str:
        name, value = word.groups()
        if value is None and name in others:
            return word[0]
        wanted = f"no_{name}" if value == "False" else name
        found = next((option for option in _options(commands, context) if wanted in _names(option)), None)
        return word[0] if found is None else " ".join((found.opts[0], *_given(value)))

    return KEYWORD.sub(flag, text)


def put_in_flags(error: Exception) -> None:
    """The same for an error's text."""
    error.args = (in_flags(str(error)),)


def _options(commands: Iterable[click.Command], context: click.Context) -> Iterator[click.Option]:
    for command in commands:
        yield from (own for own in command.get_params(context) if isinstance(own, click.Option))


def _names(option: click.Option) -> set[str]:
    """What Python may call an option: as its function takes it, or as its flags say, one or many."""
    names = {text.lstrip("-").replace("-", "_") for text in option.opts} | {option.name or ""}
    return names | {f"{name}s" for name in names}


def _given(value: str | None) -> tuple[str, ...]:
    """What stands behind a flag for a value of Python's."""
    if value is None or value in ("True", "False"):
        return ()
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return (value,)
    return (",".join(map(str, read)) if isinstance(read, list | tuple) else str(read),)
