"""A function of more than six parameters lacks a value that has a name (docs/style.md): read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mobileclip_deploy import DOORS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mobileclip_deploy"
MOST = 6

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def functions(tree: ast.AST, owner: ast.AST | None = None) -> Iterator[tuple[Function, ast.AST | None]]:
    """Every function of a file, with the class or function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, owner
        yield from functions(node, node if isinstance(node, Function | ast.ClassDef) else owner)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def parameters(function: Function) -> list[str]:
    """Names of what a caller may give; `*names` is one, and `**others` are one."""
    taken = function.args
    every = [*taken.posonlyargs, *taken.args, *filter(None, [taken.vararg]), *taken.kwonlyargs]
    every += filter(None, [taken.kwarg])
    return [one.arg for one in every if one.arg not in ("self", "cls")]


def decorators(function: Function) -> set[str]:
    found = [] if isinstance(function, ast.Lambda) else function.decorator_list
    return {ast.unparse(one.func if isinstance(one, ast.Call) else one) for one in found}


def excuse(file: Path, function: Function, owner: ast.AST | None) -> str | None:
    """Which kind of function this is that may take more."""
    name, module = getattr(function, "name", ""), ".".join(file.with_suffix("").parts)
    if "click.command" in decorators(function):
        return "command"
    if owner is None and name in DOORS.get(module, "").split():
        return "public function"
    if module.startswith("targets.mil.ops.") and "op" in decorators(function):
        return "operation of mil"
    block = isinstance(owner, ast.ClassDef) and "nn.Module" in map(ast.unparse, owner.bases)
    return "block" if block and name == "__init__" and module.startswith("network.model.architecture.") else None


def long_ones(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Each function of the files below a folder that takes more than `MOST`, and its excuse."""
    for path in sorted(folder.rglob("*.py")):
        for function, owner in functions(parsed(path)):
            if len(parameters(function)) > MOST:
                name = getattr(function, "name", "lambda")
                yield f"{path.relative_to(ROOT)}: {name}", excuse(path.relative_to(folder), function, owner)


@pytest.mark.parametrize("folder", ["mobileclip_deploy", "benchmarks", "examples"])
def test_what_takes_more_than_six_is_a_door_a_block_or_an_operation(folder: str) -> None:
    assert [what for what, why in long_ones(ROOT / folder) if why is None] == []


def test_commands_take_typed_values() -> None:
    untyped = [
        f"{path.relative_to(ROOT)}: {function.name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for function, _ in functions(parsed(path))
        if isinstance(function, ast.FunctionDef) and "click.command" in decorators(function)
        if function.args.kwarg is not None and ast.unparse(function.args.kwarg.annotation or ast.Name("Any")) == "Any"
    ]
    assert untyped == []


def test_each_kind_that_may_take_more_is_used() -> None:
    assert {why for _, why in long_ones(PACKAGE)} == {"command", "public function", "operation of mil", "block"}


def test_a_seventh_parameter_is_seen() -> None:
    source = "class A:\n    def f(self, a, b, c=1, *d, e, g, **h): ...\nk = lambda a, /, b, c, d, e, f, g: 0"
    found = [
        (len(parameters(one)), excuse(Path("export/plan.py"), one, two)) for one, two in functions(ast.parse(source))
    ]
    assert found == [(7, None), (7, None)]
