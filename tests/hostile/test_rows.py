"""What was made to do harm is answered in one line, soon, without taking the machine's memory or leaving anything."""

import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import pytest
from command_line import PROGRAM, Outcome, run
from exports import Exports
from hostile.table import Row, alarm
from hostile.test_fuzz import DOCUMENT_SEEDS, DOCUMENTS, READERS, SEEDS

SECONDS = 20  # of CPU time
PATIENCE = 120  # for what waits, on a busy machine
MEMORY = 2 << 30
ONNX_RUNTIME = "home/.cache"  # its own notes of the machine, in every process that loads it
# By a small process in between: the most memory of a child counts what its parent had when it was forked.
MEASURED = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
print(used.ru_maxrss // 1024, f"{used.ru_utime + used.ru_stime:.1f}", file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
ROWS: list[Row] = [
    row
    for file in sorted(Path(__file__).parent.glob("rows_*.py"))
    for row in importlib.import_module(f"hostile.{file.stem}").ROWS
]


def test_there_are_enough_rows_each_with_a_name_of_its_own() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS) >= 850
    by_seed = len(READERS) * len(SEEDS) + len(DOCUMENTS) * len(DOCUMENT_SEEDS)
    assert len(ROWS) + by_seed >= 1000


@pytest.mark.once(by=lambda given: given["row"].kind)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_one_line_answers(row: Row, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    for name in ("here", "home", "temporary"):
        (tmp_path / name).mkdir()
    for name, value in {"HOME": "home", "TMPDIR": "temporary", "XDG_CACHE_HOME": "home/.cache"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    for name, value in row.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", None)
    if row.bundle:
        exports.copy(*row.bundle.rsplit("-", 1), folder).rename(folder / "bundle")
    row.make(folder)
    monkeypatch.chdir(folder)
    before = present(tmp_path)
    outcome = alone(row) if row.alone else here(row)
    check(row, outcome)
    changed = {name for name, _ in before ^ present(tmp_path)}
    assert [name for name in sorted(changed) if row.code or not name.startswith("here/out")] == []


def check(row: Row, outcome: Outcome) -> None:
    """Whether what was printed is the row's one line, with the row's exit code."""
    printed = outcome.stdout + outcome.stderr
    assert outcome.code == row.code, printed
    assert "Traceback" not in printed
    assert [repr(one) for one in printed if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp")] == []
    if row.code == 0:
        assert row.line in printed
        return
    assert outcome.stdout == ""
    *progress, line = outcome.stderr.splitlines()
    assert [text for text in progress if not text.startswith("reading ")] == []  # of a stage that takes a second
    assert line.startswith("error: ")
    assert row.line in line
    assert len(line) < 600


def here(row: Row) -> Outcome:
    """The row's command in this process: what hangs is interrupted."""
    with alarm(PATIENCE):
        return run(*row.words)


def alone(row: Row) -> Outcome:
    """The row's command in a process of its own, which is held to time and memory."""
    with subprocess.Popen(
        [sys.executable, "-c", MEASURED, *PROGRAM, *row.words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limits,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    *printed, used = stderr.splitlines()
    megabytes, seconds = used.split()
    print(f"{megabytes} MB, {seconds} s of CPU time: {row}")
    assert int(megabytes) < row.megabytes
    return Outcome(process.returncode, stdout, "\n".join(printed))


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def present(folder: Path) -> set[tuple[str, tuple[int, ...]]]:
    """Everything below a folder: its path and kind; of a file also its size and when it was changed last."""
    return {
        (name, (state.st_mode, *((state.st_size, state.st_mtime_ns) if is_file else ())))
        for path in folder.rglob("*")
        for name in (str(path.relative_to(folder)),)
        if not name.startswith(ONNX_RUNTIME)
        for state, is_file in ((path.lstat(), not path.is_dir()),)
    }
