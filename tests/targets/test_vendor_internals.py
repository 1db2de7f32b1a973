"""What other packages keep for themselves is there in the versions that are used, and is named in one place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mobileclip_deploy
from mobileclip_deploy.errors import DependencyMissing
from mobileclip_deploy.targets import targets
from mobileclip_deploy.targets.vendor_internals import Private, coreai, coremltools, executorch, torch

ROOM = Path(mobileclip_deploy.__file__).parent
PUBLIC = {"_exit"}  # of os, as its documentation has it
OF_OBJECTS = (coreai.MODULE,)


def declared() -> list[Private]:
    values = [value for module in (coreai, coremltools, executorch, torch) for value in vars(module).values()]
    values += [*coreai.BINDINGS, *executorch.IDLE.values()]
    return [value for value in dict.fromkeys(v for v in values if isinstance(v, Private)) if value not in OF_OBJECTS]


@pytest.mark.parametrize("private", declared(), ids=lambda private: private.name)
def test_the_installed_version_has_what_is_used_of_it(private: Private) -> None:
    assert private() is not None


def test_programs_of_core_ai_hold_what_is_used_of_them() -> None:
    from coreai.authoring import AIProgram, Context, Module

    with Context():
        assert coreai.MODULE(AIProgram(Module.create())) is not None


def test_what_is_missing_is_named_with_the_version_that_has_it() -> None:
    gone = Private("coremltools", "9.0", "coremltools.models.utils", "_gone")
    with pytest.raises(DependencyMissing, match=r"coremltools has no _gone .*which 9\.0 has; pip install"):
        gone()
    with pytest.raises(DependencyMissing, match="has no _gone"):
        gone(object())


def test_the_versions_are_those_that_are_proven() -> None:
    proven = {name: said for one in targets().values() for name, said in one.capabilities.packages.proven.items()}
    for private in (*declared(), *OF_OBJECTS):
        assert private.package == "torch" or private.version in proven[private.package].split(" or ")


def private_names(path: Path) -> Iterator[str]:
    """Names that begin with an underscore and are no file's own, read of something that is not `self`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("mobileclip_deploy"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names = [] if node.attr in own or ast.unparse(node.value) == "super()" else [node.attr]
        else:
            continue
        yield from (name for name in names if name.startswith("_") and not name.endswith("__"))


def test_no_other_file_reads_a_private_name() -> None:
    others = [path for path in ROOM.rglob("*.py") if path.parent != ROOM / "targets" / "vendor_internals"]
    assert len(others) > 300
    found = {str(path.relative_to(ROOM)): names for path in others if (names := set(private_names(path)) - PUBLIC)}
    assert found == {}
