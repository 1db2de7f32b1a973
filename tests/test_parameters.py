"""A function of more than six parameters lacks a value that has a name (docs/style.md), and a docstring names what is
there: read from the sources."""

import ast
import re
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


# What docstrings name

CLASSES = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
ELSEWHERE = {
    *("lf_getblock", "envsetup", "resize_pos_embed", "resample_abs_pos_embed", "cosine_lr"),
    *("vec0", "vec_distance_cosine", "image32BGRA", "_update_tensor_range", "quantize_dynamic"),
    "text_embeddings",
}
"""Names of other programs and files, which docstrings may have in backticks."""


def last_name(node: ast.expr) -> str:
    """`Unpack[a.B]` and `a.B[C]` -> B."""
    text = ast.unparse(node).removeprefix("Unpack[")
    return text.partition("[")[0].rstrip("]").rpartition(".")[2]


@cache
def members(name: str) -> frozenset[str]:
    """Fields, methods and their parameters of the package's classes of a name, and of those that they derive from."""
    found = set[str]()
    for owner in (one for one in CLASSES if one.name == name):
        for node in ast.walk(owner):
            if isinstance(node, Function):
                found |= {getattr(node, "name", ""), *parameters(node)}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
                found.add(node.attr)
        found |= {one for base in owner.bases if last_name(base) != name for one in members(last_name(base))}
    return frozenset(found)


@cache
def vocabulary() -> frozenset[str]:
    """Every name of the package's code, and every word of its strings but of docstrings: commands, flags, fields."""
    found = {part for path in PACKAGE.rglob("*") for part in path.with_suffix("").parts}
    for path in PACKAGE.rglob("*.py"):
        said = {id(node.value) for node in ast.walk(parsed(path)) if isinstance(node, ast.Expr)}
        for node in ast.walk(parsed(path)):
            found |= {value for value in vars(node).values() if isinstance(value, str) and value.isidentifier()}
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                found |= {*re.findall(r"\w+", node.value)}
    return frozenset(found)


def listed(docstring: str, section: str) -> list[str]:
    """Names that a section of a docstring explains."""
    text = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", f"{docstring}\n", re.M)
    lines = re.findall(r"^    ([\w*][\w*, ]*): ", text[1] if text else "", re.M)
    return [name.lstrip("*") for line in lines for name in line.split(", ")]


def missing_names(node: Documented, owner: ast.AST | None) -> set[str]:
    """Names in a docstring that neither its signature or class nor, of those that it only mentions, the package has."""
    docstring, given = ast.get_docstring(node) or "", set[str]()
    if not isinstance(node, ast.ClassDef):
        given |= {*parameters(node)}
        if node.args.kwarg is not None and node.args.kwarg.annotation is not None:
            given |= members(last_name(node.args.kwarg.annotation))
    known = given | members(node.name) if isinstance(node, ast.ClassDef) else given
    missing = {*listed(docstring, "Args"), *listed(docstring, "Attributes")} - known
    if isinstance(owner, ast.ClassDef):
        known = known | members(owner.name)
    explained = re.findall(r"(?:^|[.;] )`([a-z_]\w*)`: ", docstring, re.M)
    mentioned = {*re.findall(r"`([A-Za-z_]\w*)`", docstring)} - vocabulary() - ELSEWHERE
    return missing | ({*explained} | mentioned) - known


def documented(tree: ast.AST, owner: ast.AST | None = None) -> Iterator[tuple[Documented, ast.AST | None]]:
    """Every function and class of a file, with the class that it is in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Documented):
            yield node, owner
        yield from documented(node, node if isinstance(node, ast.ClassDef) else owner)


def test_docstrings_name_what_is_there() -> None:
    stale = {
        f"{path.relative_to(ROOT)}: {node.name}": missing
        for path in sorted(PACKAGE.rglob("*.py"))
        for node, owner in documented(parsed(path))
        if (missing := missing_names(node, owner))
    }
    assert stale == {}


def test_names_of_others_are_named_still() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert {name for name in ELSEWHERE if f"`{name}`" not in text or name in vocabulary()} == set()


def test_a_stale_name_is_seen() -> None:
    source = '''
class Planted:
    """A class.

    Attributes:
        kept, gone: two.
    """
    kept: int

    def method(self, given: int) -> int:
        """Does it. `vanished`: a name. `kept`: a field. `given` and `path` exist, `nowhere_at_all` does not.

        Args:
            given: this.
            others: that.
        """
'''
    (planted,) = ast.parse(source).body
    CLASSES.append(planted)  # type: ignore[arg-type]
    try:
        found = [missing_names(node, owner) for node, owner in documented(ast.parse(source))]
    finally:
        CLASSES.remove(planted)  # type: ignore[arg-type]
    assert found == [{"gone"}, {"vanished", "others", "nowhere_at_all"}]
