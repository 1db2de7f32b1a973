"""The messages of docs/errors.md are raised, word for word."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from conversions import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
MESSAGES = [message for message, *_ in ROW.findall(PAGE) if message != "message" and not message.startswith("---")]


def template(node: ast.expr) -> str:
    """A text, with … for what is put into it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


@cache
def templates() -> tuple[str, ...]:
    """Every text of the package that a person could be shown: those of more than one word."""
    files = sorted((ROOT / "mobileclip_deploy").rglob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    texts = {template(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Constant)}
    return tuple(sorted(text for text in texts if " " in text))


def says(text: str, message: str) -> bool:
    """Whether the parts of a message, between what is put into it, stand in a text one behind the other."""
    place = 0
    for part in message.removeprefix("`").removesuffix("`").split("…"):
        place = text.find(part, place) + len(part)
        if place < len(part):
            return False
    return True


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_is_one_of_the_package(message: str) -> None:
    assert any(says(text, message) for text in templates()), "the package says it otherwise now: change docs/errors.md"


def test_a_message_that_nobody_raises_would_be_found() -> None:
    assert len(MESSAGES) >= 35
    assert not any(says(text, "`… is not a checkpoint that sings`") for text in templates())
    assert not [path for path in re.findall(r"\]\((\w+\.md)", PAGE) if not (Path(ROOT) / "docs" / path).exists()]
