"""A command parses, makes a request, calls and prints: what it touches, it touches through the package."""

import ast
import inspect
import textwrap

import pytest

from mobileclip_deploy.cli import cli

FILES = {"open", "mkdir", "read_bytes", "read_text", "rename", "rmtree", "unlink", "write_bytes", "write_text"}


def calls(source: str) -> set[str]:
    found = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {one.attr if isinstance(one, ast.Attribute) else ast.unparse(one) for one in found}


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_command_opens_and_writes_no_file_itself(name: str) -> None:
    callback = cli.commands[name].callback
    assert callback is not None
    called = calls(textwrap.dedent(inspect.getsource(inspect.unwrap(callback))))
    assert sorted(name for name in called if name in FILES or name.startswith(("write_whole", "check_file"))) == []
