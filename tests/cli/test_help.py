"""Help: quick, with an example for every command, and no library of the field imported for it."""

import os
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from command_line import PROGRAM, run

from mobileclip_deploy.cli import cli

COMMANDS = list(cli.commands)
HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "pydantic",
    "coremltools",
    "onnx",
    "onnxruntime",
    "executorch",
    "open_clip",
    "rich.console",
)
BUDGET = 0.5


def cpu_seconds(arguments: list[str]) -> float:
    """CPU time of a child process, its own and the system's for it."""
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command: str) -> None:
    found = run(command, "--help")
    assert (found.code, found.stderr) == (0, "")
    assert "Example" in found.stdout
    assert f"  mobileclip-deploy {command}" in found.stdout


def test_the_help_lists_every_command_and_exit_code_and_the_version_is_the_packages() -> None:
    text = run("--help").stdout
    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []
    assert "Exit codes: 0 done; 1 a gate failed; 2 wrong use or bad input; 3" in text
    assert "..." not in text.partition("Commands:")[2]
    parts = run("export", "--help").stdout.split("\nOptions")
    headings = {part.partition(":\n")[0]: part for part in parts[1:]}
    assert next(iter(headings)) == ""
    assert "--deployment-target" in headings[" of Core ML and ExecuTorch"]
    assert "--backend" in headings[" of ExecuTorch"]
    found = run()
    assert (found.code, "Commands:" in found.stdout + found.stderr) == (2, True)
    assert run("-V").stdout == run("--version").stdout
    assert run("-V").stdout.strip().endswith(version("mobileclip-deploy"))


def test_an_example_names_only_options_that_there_are() -> None:
    options = {
        name: {option for parameter in command.get_params(click.Context(command)) for option in parameter.opts}
        for name, command in cli.commands.items()
    }
    lines = [line for command in cli.commands.values() for line in (command.help or "").splitlines()]
    examples = [line.split("mobileclip-deploy ")[1].split() for line in lines if "mobileclip-deploy " in line]
    assert len(examples) > len(options)
    given = [(name, word) for name, *words in examples for word in words if word.startswith("-")]
    assert [(name, word) for name, word in given if word not in options[name]] == []


def test_help_answers_in_half_a_second_of_cpu_time() -> None:
    assert min(cpu_seconds([*PROGRAM, "--help"]) for _ in range(3)) < BUDGET


@pytest.mark.parametrize("arguments", [["--version"], ["nonsense"], ["--help"]], ids=" ".join)
def test_nothing_heavy_is_imported_for_it(arguments: list[str]) -> None:
    program = f"""
import sys
from mobileclip_deploy.cli import main
try:
    main()
finally:
    print("HEAVY", sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_nothing_heavy_is_imported_for_the_help_of_any_command() -> None:
    program = f"""
import contextlib, io, sys
from mobileclip_deploy.cli import cli
heavy = []
for name in cli.commands:
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main([name, "--help"], standalone_mode=False)
    if found := set({HEAVY!r}) & set(sys.modules):
        sys.exit(f"{{name}} --help imports {{sorted(found)}}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
