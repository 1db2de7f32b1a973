"""Messages speak Python's words where Python hears them, and flags on the command line."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import mobileclip_deploy as mcd
from mobileclip_deploy.cli import cli
from mobileclip_deploy.cli.words import KEYWORD, in_flags
from mobileclip_deploy.targets import targets

PACKAGE = Path(mcd.__file__).parent
# Words of one literal are a flag of a program that is started; a sentence with a flag in it is for a reader.
FLAG = re.compile(r"(^|[\s(`'\"])--[a-z]")


# Of whole commands: others, and those of ours that wrote a file.
FOREIGN = re.compile(
    r"pip install --force-reinstall| --hash=sha256:|docker run --rm --platform|softwareupdate --list|xcode-select -s"
    r"|gcloud (services enable|storage buckets create) .*--project="
    r"|`mobileclip-deploy convert ADAPTER --base ORIGINAL -o merged\.safetensors`"
    r"|`(benchmark --json|export --target qnn)`"  # commands of ours, whole: what wrote a file, or would write it
)


def sentences() -> Iterator[tuple[str, str]]:
    """Every text of the package that is no docstring, f-strings with {} for their values; none of the command line."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("cli/") or "/commands/" in name:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if node in docs or node in inside:
                continue
            if isinstance(node, ast.JoinedStr):
                yield name, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield name, node.value


def keywords() -> set[str]:
    """What Python's functions take, and the options of the targets."""
    functions = [getattr(mcd, name) for name in mcd.__all__ if inspect.isfunction(getattr(mcd, name))]
    taken = {name for function in functions for name in inspect.signature(function).parameters}
    return taken | {own.name for target in targets().values() for own in fields(target.Options)}


def test_no_message_that_python_raises_speaks_of_flags() -> None:
    found = [(name, text) for name, text in sentences() if FLAG.search(FOREIGN.sub("", text)) and " " in text]
    assert found == []


def test_every_keyword_in_a_message_is_one_that_python_takes_and_the_command_line_has() -> None:
    group = click.Context(cli)
    known = keywords() | {"junit", "markdown", "leave_out"}
    used = {word[0]: word[1] for _, text in sentences() for word in KEYWORD.finditer(text) if word[2] is not None}
    assert {"`force=True`", "`tower='both'`"} <= set(used)
    assert [text for text, name in used.items() if name not in known] == []
    with group.scope():
        assert [text for text in used if in_flags(text) == text] == []


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        ("export", "replace it with `force=True`", "replace it with --force"),
        ("export", "another output with `output`", "another output with -o"),
        ("benchmark", "another output with `output`", "another output with --json"),
        ("classify", "give `labels=['cat', 'dog']`", "give --labels cat,dog"),
        ("classify", "export it with `tower='both'`", "export it with --tower both"),
        ("export", "leave `verify=False` out; see `verify`", "leave --no-verify out; see `verify`"),
        ("verify", "`junit`, `gates`, `nothing`, `no=thing`", "--junit, --gate, `nothing`, `no=thing`"),
        ("export", "`dynamic_batch` and `templates`", "--dynamic-batch and --template"),
    ],
)
def test_a_keyword_becomes_the_flag_of_the_command(command: str, text: str, shown: str) -> None:
    with click.Context(cli.commands[command], parent=click.Context(cli)).scope():
        assert in_flags(text) == shown


def test_outside_of_the_command_line_a_message_stays_as_it_is() -> None:
    assert in_flags("replace it with `force=True`") == "replace it with `force=True`"
