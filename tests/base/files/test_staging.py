"""What a process that was killed leaves is removed by the next run, and what a living one uses never is."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from command_line import PROGRAM, run
from exports import Exports

from mobileclip_deploy.base.files import staging
from mobileclip_deploy.base.files.staging import (
    StagingLock,
    claimed,
    clear_leftovers,
    own_temporary_folder,
    temporary_folder,
)

# Holds a claim until it is killed, or its input ends.
HOLDER = """
import sys
from pathlib import Path
from mobileclip_deploy.base.files.staging import claimed
with claimed(Path(sys.argv[1])) as claim:
    claim.partial.mkdir()
    (claim.partial / "half").write_text("x")
    print("ready", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that is writing at `path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_another_process_is_writing_stays_until_it_is_killed_and_one_that_ends_well_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = holder(tmp_path / "b")
    before = names(tmp_path)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == before
    assert len(before) == 2
    assert caplog.records == []
    process.kill()
    process.communicate()
    assert names(tmp_path) == before
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []
    (record,) = caplog.records
    assert re.search(r"removed .*\.b\.partial-[0-9a-f]{8}, left by a run that was killed$", record.getMessage())
    process = holder(tmp_path / "b")
    process.communicate("")
    assert (process.returncode, names(tmp_path)) == (0, [])


def test_what_the_same_process_is_writing_stays(tmp_path: Path) -> None:
    with claimed(tmp_path / "b") as claim:
        claim.partial.write_text("x")
        clear_leftovers(tmp_path)
        assert claim.partial.exists()
        assert claim.lock.exists()
    assert names(tmp_path) == []


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = StagingLock(tmp_path / "b", "0123abcd")
    claim.lock.touch()
    claim.partial.touch()

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with claimed(tmp_path / "c") as mine:
        mine.partial.touch()
        clear_leftovers(tmp_path)
        assert mine.partial.exists()
    assert claim.partial.exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    claim = StagingLock(tmp_path / "b", "0123abcd")
    (tmp_path / "precious").write_text("x")
    claim.lock.symlink_to(tmp_path / "precious")
    claim.partial.symlink_to(tmp_path / "precious")
    clear_leftovers(tmp_path)
    assert (tmp_path / "precious").read_text() == "x"
    assert claim.partial.is_symlink()


def test_everything_temporary_is_in_one_folder_that_goes_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    with own_temporary_folder():
        left = Path(tempfile.mkdtemp(suffix=".mlpackage"))
        assert os.environ["TMPDIR"] == str(left.parent)
        assert left.parent.parent == tmp_path
        assert left.parent.stat().st_mode & 0o777 == 0o700
        with temporary_folder() as another:  # a socket's path in it has to be short
            assert another.parent == tmp_path
    assert names(tmp_path) == []
    assert tempfile.gettempdir() == str(tmp_path)
    assert "TMPDIR" not in os.environ


def test_every_temporary_folder_is_claimed_and_goes_with_a_killed_process_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(staging.__file__).parents[2]
    makers = re.compile(r"TemporaryDirectory|mkdtemp|NamedTemporaryFile|mkstemp")
    found = [file.name for file in package.rglob("*.py") if makers.search(file.read_text(encoding="utf-8"))]
    assert found == ["crashes.py"]  # whose report stays for its reader
    dies = "import os\nfrom mobileclip_deploy.base.files import staging\nwith staging.temporary_folder(): os._exit(9)"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", dies], env=environment).returncode == 9
    assert len(names(tmp_path)) == 2
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert names(tmp_path) == [folder.name, f"{folder.name}.lock"]
    assert names(tmp_path) == []


@pytest.mark.slow  # what a killed process leaves, above
def test_an_export_that_was_killed_at_any_moment_leaves_nothing_to_the_next(
    exports: Exports,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    checkpoint = str(exports.checkpoint)
    command = ("export", "--target", "coreml", "--checkpoint", checkpoint, "--tower", "image", "-o", str(out))
    moments = random.Random(15)
    for _ in range(2):
        running = subprocess.Popen([*PROGRAM, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not out.exists():  # the first seconds only import torch
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 4))
        running.send_signal(signal.SIGKILL)
        running.wait()
    left = [(folder, path.name) for folder in (temporary, out) if folder.exists() for path in folder.iterdir()]
    monkeypatch.setattr(tempfile, "tempdir", None)  # this process has asked for it before
    done = run(*command, "--no-verify", "--force")
    assert done.code == 0, done.stderr
    assert len(names(out)) == 1
    assert names(temporary) == []
    told = [line for line in caplog.messages if line.endswith(", left by a run that was killed")]
    assert len(told) == len({folder for folder, name in left if re.search(r"\.partial-\w+$", name)})
