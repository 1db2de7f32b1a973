"""How commands end: errors as a line or as JSON, signals, and what --quiet leaves."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import pytest
from command_line import PROGRAM, refusal, run, strict_json

from mobileclip_deploy import errors
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base import crashes
from mobileclip_deploy.cli.ending import reporting_errors
from mobileclip_deploy.targets import targets
from mobileclip_deploy.verify.reports import several

KNOWN = ", ".join([*targets(), "all"])


def told(stderr: str) -> dict[str, object]:
    """The error that stands in the last line of stderr."""
    document = strict_json(stderr.splitlines()[-1])
    assert document["schema_version"] == 1
    assert document.keys() == {"schema_version", "error"}
    return document["error"]


@pytest.mark.parametrize(
    ("arguments", "kind", "message", "remedy"),
    [
        (["inspect", "gone", "--json"], "invalid_input", "no file or folder at gone", None),
        (
            ["export", "--json", "--target", "onxn"],
            "usage_error",
            f"unknown target 'onxn', did you mean onnx?; known: {KNOWN}",
            f"known: {KNOWN}",
        ),
        (["benchmark", "gone", "--json", "-"], "invalid_input", "gone is not a bundle: no such folder", None),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_errors_are_json_where_the_result_is(
    arguments: list[str], kind: str, message: str, remedy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert (found.code, found.stdout) == (2, "")
    assert told(found.stderr) == {"kind": kind, "message": message, "remedy": remedy, "exit_code": 2}
    assert len(found.stderr.splitlines()) == 1


def test_an_unknown_option_is_an_error_like_the_others() -> None:
    found = told(run("verify", "--json", "--colour").stderr)
    assert (found["kind"], found["exit_code"]) == ("usage_error", 2)
    assert str(found["message"]).startswith("No such option '--colour'; see ")
    assert str(found["remedy"]).endswith("mobileclip-deploy verify --help")


@pytest.mark.parametrize("arguments", [["benchmark", "gone", "--json", "file"], ["inspect", "--", "--json"]])
def test_errors_are_a_line_where_no_json_is_asked_for(arguments: list[str]) -> None:
    refusal(run(*arguments))


def test_a_current_folder_that_was_removed_is_refused_before_torch_ends_the_process(tmp_path: Path) -> None:
    gone = f'cd {tmp_path}; mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    done = subprocess.run(["sh", "-c", gone, "sh", *PROGRAM, "embed", "a", "b", "-o", "c.npy"], capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: the current folder was removed; change to another one, and run this again\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("unable to mmap 13269426 bytes from file <a>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_said_in_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, reporting_errors():
        raise error
    assert ended.value.code == 3
    assert "not enough memory; end other programs" in capsys.readouterr().err


def test_every_error_has_a_kind_of_its_own() -> None:
    classes = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MobileClipDeployError)
    ]
    assert len({one.kind for one in classes}) == len(classes)
    assert errors.DependencyMissing("one\n  line; pip install it").as_dict() == {
        "kind": "dependency_missing",
        "message": "one line; pip install it",
        "remedy": "pip install it",
        "exit_code": 2,
    }


@pytest.mark.parametrize("place", [0, 1, 2])
def test_quiet_may_stand_anywhere(place: int) -> None:
    words = ["inspect", "gone"]
    words.insert(place, "--quiet")
    assert refusal(run(*words)) == "error: no file or folder at gone"


SLOW = """
import os, sys, tempfile, time, click
from pathlib import Path
from mobileclip_deploy import cli
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.cli.output import progress
from mobileclip_deploy.base.files import replacing

@click.command()
@click.option("--json", is_flag=True)
def slow(json):
    with progress() as update, replacing(Path(os.environ["OUT"]) / "file") as partial:
        partial.write_text("half")
        Path(tempfile.gettempdir(), "package").mkdir()
        try:  # around what says that a signal may come
            update("writing")
            time.sleep(60)
        except KeyboardInterrupt as error:
            if os.environ.get("MADE") == "an error":  # as torch.onnx does
                raise ExportError("Failed to export the model. \x1b[96mThis is step 1/3\x1b[0m") from error
            if os.environ.get("MADE") == "a note":  # as a benchmark does, which keeps its rounds
                error.add_note("what is done is kept; go on with `json=True`")
            if os.environ.get("MADE") != "nothing":  # as what is called from C++ may
                raise

cli.cli.add_command(cli.add_quiet(slow))
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize(
    ("options", "made"), [([], "an error"), (["--json"], "nothing"), (["--json"], "itself"), ([], "a note")]
)
def test_a_signal_cleans_up_and_ends_with_one_line_whatever_a_converter_makes_of_it(
    tmp_path: Path, number: signal.Signals, code: int, message: str, options: list[str], made: str
) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "out").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "OUT": str(tmp_path / "out"), "MADE": made}
    program = [PROGRAM[0], "-c", SLOW, "slow", *options]
    running = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr.readline() == "writing\n"
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (code, "")
    (line,) = stderr.strip().splitlines()
    if options:
        assert told(line) == {
            "kind": message,
            "message": f"{message}: nothing half-written was left behind",
            "remedy": None,
            "exit_code": code,
        }
    elif made == "a note":
        assert line == f"error: {message}: what is done is kept; go on with --json"
    else:
        assert line == f"error: {message}: nothing half-written was left behind"
    # What was dropped let the command finish.
    assert [file.name for file in (tmp_path / "out").iterdir()] == (["file"] if made == "nothing" else [])
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_second_sigterm_ends_a_process_at_once() -> None:
    program = """
import time
from mobileclip_deploy.cli.ending import SigTerm, ended_by_signals
with ended_by_signals():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except SigTerm:
        print("cleaning", flush=True)
        time.sleep(60)
"""
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ)
    for line in ("ready\n", "cleaning\n"):
        assert running.stdout.readline() == line
        running.send_signal(signal.SIGTERM)
    assert running.wait(30) == -signal.SIGTERM
    running.stdout.close()


CRASHING = """
import sys, click
from mobileclip_deploy import cli

@click.command()
@click.option("--json", is_flag=True)
def crash(json):
    raise ZeroDivisionError("one\\n\\x1b[2Jtwo")

cli.cli.add_command(cli.add_quiet(crash))
cli.main()
"""


def crash(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TMPDIR": str(folder)}
    return subprocess.run([PROGRAM[0], "-c", CRASHING, "crash", *options], env=environment, **TEXT)


TEXT: dict[str, Any] = {"capture_output": True, "text": True, "check": False}


def test_a_crash_is_no_failed_gate_but_one_line_with_a_report_for_its_user_alone(tmp_path: Path) -> None:
    done = crash(tmp_path)
    (report,) = tmp_path.iterdir()
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == (
        "error: internal error, not a verdict on your files (ZeroDivisionError: one \\x1b[2Jtwo); report it to the "
        f"project, with the file {report}\n"
    )
    assert report.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in report.read_text()
    document = told(crash(tmp_path, "--json").stderr)
    assert (document["kind"], document["exit_code"]) == ("internal_error", 70)


def test_a_crash_without_a_place_for_its_report_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashes, "system_temporary", lambda: tmp_path / "gone")
    error = crashes.crashed(ZeroDivisionError())
    assert error.line == "internal error, not a verdict on your files (ZeroDivisionError); report it to the project"


@pytest.mark.parametrize("bundles", [("a",), ("a", "b")])
def test_a_crash_is_an_error_for_junit_and_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundles: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crashes, "system_temporary", lambda: tmp_path)
    monkeypatch.setattr(Bundle, "open_unchecked", mock.Mock())
    monkeypatch.setattr(several, "verify_bundle", mock.Mock(side_effect=ZeroDivisionError))
    Path("j.xml").write_text("a pass of yesterday")
    found = run("verify", *bundles, "--junit", "j.xml")
    assert found.code == 70
    suites = list(ElementTree.parse("j.xml").iter("testsuite"))
    assert [(one.get("errors"), one.get("failures")) for one in suites] == [("1", "0")] * len(bundles)
    assert all("internal error" in (one.get("message") or "") for one in ElementTree.parse("j.xml").iter("error"))


@pytest.mark.parametrize(
    ("words", "streams", "code"),
    [
        ("variants --json", ">&- 2>&-", 0),
        ("variants --json", "<&- >&-", 0),
        ("inspect gone", "2>/dev/full", 2),
        ("inspect gone", "2>&-", 2),
        ("crash", "2>/dev/full", 70),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_streams_that_cannot_be_written_change_no_exit_code(
    tmp_path: Path, words: str, streams: str, code: int
) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    program = [PROGRAM[0], "-c", CRASHING, *words.split()]
    done = subprocess.run(["sh", "-c", f'exec "$@" {streams}', "sh", *program], env=environment, **TEXT)
    assert (done.returncode, done.stdout + done.stderr) == (code, "")


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = """
import os, sys
from mobileclip_deploy.cli.terminal import prepare_streams
prepare_streams()
with open(sys.argv[1], "w") as file:
    assert file.fileno() > 2
    os.write(1, b"what C++ prints")
    os.write(2, b"what C++ prints")
    print("a result"), print("a note", file=sys.stderr), sys.stdin.read()
"""
    file = tmp_path / "file"
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program, str(file)]
    assert subprocess.run(command, check=False).returncode == 0
    assert file.read_text() == ""
