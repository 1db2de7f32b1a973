"""The action that verifies bundles on every pull request: its step, run as a runner runs it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import yaml
from conversions import ROOT
from exports import Exports, rehash
from onnx import numpy_helper
from programs import script

from mobileclip_deploy.cli.verify import verify as verify_command

ACTION = ROOT / ".github" / "actions" / "verify"
DEFINED = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Ran:
    code: int
    summary: str
    outputs: str
    log: str


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder for the PATH, with the command as pip installs it."""
    code = "from mobileclip_deploy.cli import main\n\nmain()"
    return script(tmp_path / "bin" / "mobileclip-deploy", code, f"{sys.executable} -P").parent


def verify(tmp_path: Path, program: Path, **inputs: str) -> Ran:
    """Run the step with these inputs, as the action hands them over."""
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    given = {name: str(value.get("default", "")) for name, value in DEFINED["inputs"].items()} | inputs
    environment = os.environ | {name.upper(): value for name, value in given.items()}
    environment |= {
        "PATH": f"{program}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(outputs),
    }
    done = subprocess.run([ACTION / "verify.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    read = [file.read_text(encoding="utf-8") if file.exists() else "" for file in (summary, outputs)]
    return Ran(done.returncode, *read, done.stdout + done.stderr)


def test_inputs_go_by_the_environment_and_never_into_a_line_of_the_shell() -> None:
    steps = DEFINED["runs"]["steps"]
    assert [line for line in (one.get("run", "") for one in steps) if "${{" in line] == []
    assert {name.upper() for name in DEFINED["inputs"]} == {
        name for one in steps for name, value in one.get("env", {}).items() if "inputs." in value
    }


def test_its_defaults_are_values_of_the_command() -> None:
    options = {one.name: one for one in verify_command.params}
    for name, said in DEFINED["inputs"].items():
        if said.get("default") and name in options:
            assert options[name].type.convert(said["default"], None, None) == options[name].default, name


@pytest.mark.slow  # the step, once; that a fault ends it with 1 shows as much of it
def test_a_bundle_that_is_its_checkpoint_passes_with_a_summary(exports: Exports, tmp_path: Path, program: Path) -> None:
    bundle = exports.bundle("onnx", "fp32").path
    ran = verify(
        tmp_path, program, bundles=f"{bundle}\n", checkpoint=str(exports.checkpoint), checks="quick", junit="r/j.xml"
    )
    assert (ran.code, ran.outputs) == (0, "exit-code=0\n"), ran.log
    assert "nano-onnx-fp32" in ran.summary
    assert "passed" in ran.summary
    assert (tmp_path / "r/j.xml").is_file()


@pytest.mark.slow  # what is no bundle, below
def test_a_bundle_that_is_another_model_fails(exports: Exports, tmp_path: Path, program: Path) -> None:
    copied = exports.copy("onnx", "fp32", tmp_path / "out")
    file = copied / "onnx/vision_model.onnx"
    graph = onnx.load(file)
    weight = next(one for one in graph.graph.initializer if len(one.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.1, weight.name))
    onnx.save(graph, file)
    rehash(copied)
    ran = verify(tmp_path, program, bundles="out/*", checkpoint=str(exports.checkpoint), checks="quick")
    assert (ran.code, ran.outputs) == (1, "exit-code=1\n"), ran.log
    assert "failed" in ran.summary


@pytest.mark.parametrize("bundles", ["", "gone/*", "gone\n", "$(touch hacked)\n`touch hacked`; touch hacked", "--help"])
def test_what_is_no_bundle_ends_with_2_and_a_summary_and_runs_nothing(
    tmp_path: Path, program: Path, bundles: str
) -> None:
    ran = verify(tmp_path, program, bundles=bundles)
    assert (ran.code, ran.outputs) == (2, "exit-code=2\n")
    assert ran.summary
    assert not (tmp_path / "hacked").exists()
    assert "Invalid value" not in ran.log  # what the action gives where nothing is said is a value that there is


@pytest.mark.slow  # the command's own tests are in tests/verify/test_audit.py
def test_a_file_of_other_tools_is_judged_with_a_summary(exports: Exports, tmp_path: Path, program: Path) -> None:
    file = exports.bundle("onnx", "fp32").path / "onnx/vision_model.onnx"
    ran = verify(tmp_path, program, file=str(file), checkpoint=str(exports.checkpoint))
    assert (ran.code, ran.outputs) == (0, "exit-code=0\n"), ran.log
    assert "vision_model.onnx, image tower: the checkpoint's model" in ran.summary


def test_a_crash_is_told_as_no_verdict(tmp_path: Path) -> None:
    program = script(tmp_path / "bin" / "mobileclip-deploy", "raise SystemExit(70)", f"{sys.executable} -P").parent
    (tmp_path / "one").mkdir()
    ran = verify(tmp_path, program, bundles="one")
    assert (ran.code, ran.outputs) == (70, "exit-code=70\n")
    assert "no verdict of the bundles" in ran.summary
