"""Translation of messages from Python's words (`force=True`) to the flags of the command line (--force). Only this file
translates."""

import ast
import re

import click

KEYWORD = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


def in_flags(text: str) -> str:
    """Returns a message with each keyword in backquotes replaced by a flag: of the running command, or else of another.

    `force=True` becomes --force, `tower='image'` becomes --tower image. Names of commands are unchanged.
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
        keyword = f"no_{name}" if value == "False" else name
        parameters = (parameter for command in commands for parameter in command.get_params(context))
        options = (parameter for parameter in parameters if isinstance(parameter, click.Option))
        option_of_keyword = next((option for option in options if keyword in _names(option)), None)
        return word[0] if option_of_keyword is None else " ".join((option_of_keyword.opts[0], *_given(value)))

    return KEYWORD.sub(flag, text)


def put_in_flags(error: Exception) -> None:
    """Translates an error's text, in place."""
    error.args = (in_flags(str(error)),)


def _names(option: click.Option) -> set[str]:
    """Returns the names that Python may use for an option: its parameter's name, or its flags, singular or plural."""
    names = {text.lstrip("-").replace("-", "_") for text in option.opts} | {option.name or ""}
    return names | {f"{name}s" for name in names}


def _given(value: str | None) -> tuple[str, ...]:
    """Returns the words after a flag for a value of Python's."""
    if value is None or value in ("True", "False"):
        return ()
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return (value,)
    return (",".join(map(str, parsed)) if isinstance(parsed, list | tuple) else str(parsed),)
