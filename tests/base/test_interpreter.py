"""Python is started in one place, and no process of ours runs files of the current folder."""

import ast
import os
import shutil
from pathlib import Path

import pytest
from command_line import spawn
from exports import Exports
from planted import plant, ran
from programs import output

from mobileclip_deploy.base.interpreter import python, safe_children

PACKAGE = Path(__file__).parents[2] / "mobileclip_deploy"
# What starts processes of Python by itself.
STARTERS = {"DataLoader", "LocalCluster", "ProcessPoolExecutor", "multiprocessing"}


def names(file: Path) -> set[str]:
    """Every name that a file's code speaks of, as `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found |= {node.attr, f"{ast.unparse(node.value)}.{node.attr}"}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            found |= {part for one in node.names for part in one.name.split(".")} | set((module or "").split("."))
            found |= {f"{module}.{one.name}" for one in node.names}
    return found


def test_python_is_started_in_one_place() -> None:
    spoken = {file.relative_to(PACKAGE).as_posix(): names(file) for file in PACKAGE.rglob("*.py")}
    assert {file for file, said in spoken.items() if "sys.executable" in said} == {"base/interpreter.py"}
    starters = {file for file, said in spoken.items() if said & STARTERS}
    assert starters == {"training/trainer/running.py", "base/scheduling/cluster.py"}
    assert all("safe_children" in spoken[file] for file in starters)
    assert {file for file, said in spoken.items() if "os.execv" in said} == {"base/interpreter.py"}
    assert not [file for file, said in spoken.items() if said & {"os.system", "runpy", "os.posix_spawn"}]


def test_a_process_looks_where_this_one_does_and_not_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "planted")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(tmp_path / "own"), "relative"]))
    look = "import subprocess, sys; import numpy, mobileclip_deploy; print(mobileclip_deploy.__file__, sys.path[:2])"
    grandchild = f"{look}; subprocess.run([sys.executable, '-c', 'import numpy'], check=True)"
    command, environment = python("-c", grandchild, variables={"OWN": "1"})
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(PACKAGE.parent), str(tmp_path / "own")]
    assert environment["OWN"] == "1"
    assert output(*command, env=environment, cwd=tmp_path / "planted").startswith(str(PACKAGE / "__init__.py"))
    assert ran(tmp_path / "planted") == ""


def test_variables_are_as_they_were_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with safe_children(), safe_children():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert "PYTHONSAFEPATH" not in os.environ


def test_inspecting_a_bundle_from_within_runs_nothing_of_it(exports: Exports, tmp_path: Path) -> None:
    pytest.importorskip("coreai.authoring", reason="needs coreai-core: pip install 'mobileclip-deploy[coreai]'")
    source = exports.unverified("coreai", "fp32", "text").path
    bundle = plant(Path(shutil.copytree(source, tmp_path / source.name)))
    done = spawn("inspect", ".", cwd=bundle)
    assert (done.code, ran(bundle)) == (0, ""), done.stderr
