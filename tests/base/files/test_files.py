"""Where something is to be written is tried before anything is computed, and what is written is there whole or not."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import PROGRAM, run, strict_json

from mobileclip_deploy.base.files import (
    check_bundle_destination,
    check_file_destination,
    read_json,
    read_regular,
    replacing,
    write_whole,
)
from mobileclip_deploy.errors import DiskFull, ExportError, InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint

MARKER = "manifest.json"
NOBODY = 65534
Check = Callable[[Path], None]


def bundle(path: Path, force: bool = False) -> None:
    check_bundle_destination(path, MARKER, force)


def file(path: Path, force: bool = False) -> None:
    check_file_destination(path, force)


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """In the block no file can grow beyond `size` bytes: what a full disk does, without a disk of one's own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


both = pytest.mark.parametrize("check", [bundle, file])


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As an ordinary user: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def a_bundle(path: Path) -> Path:
    path.mkdir()
    (path / MARKER).write_text("{}")
    return path


@both
def test_what_is_not_there_yet_can_be_written_and_nothing_is_left_by_asking(check: Check, tmp_path: Path) -> None:
    check(tmp_path / "new" / "deeper" / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("check", "make"), [(bundle, a_bundle), (file, Path.touch)])
def test_what_exists_is_refused_without_force(check: Callable[..., None], make: Any, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(UsageError, match="`force=True`"):
        check(tmp_path / "x")
    check(tmp_path / "x", force=True)


def photos(path: Path) -> None:
    path.mkdir()
    (path / "holiday.jpg").write_text("x")


def link(path: Path) -> None:
    """To a bundle, which would stay: the link would be replaced."""
    path.symlink_to(a_bundle(path.with_name("b")))


@pytest.mark.parametrize(
    ("check", "make", "said"),
    [
        (bundle, photos, "not a bundle"),
        (bundle, link, "not a folder"),
        (bundle, Path.touch, "not a folder"),
        (file, Path.mkdir, "is a folder"),
    ],
)
def test_what_is_something_else_is_refused_even_with_force(
    check: Callable[..., None], make: Any, said: str, tmp_path: Path
) -> None:
    make(tmp_path / "x")
    with pytest.raises(UsageError, match=said):
        check(tmp_path / "x", force=True)


@both
def test_a_folder_that_is_a_file_is_refused(check: Check, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        check(tmp_path / "f" / "x")


@both
@pytest.mark.parametrize(("mode", "below"), [(0o555, "x"), (0, "deeper/x")], ids=["written", "looked into"])
def test_a_folder_that_cannot_be_written_or_looked_into_is_refused(
    check: Check, tmp_path: Path, mode: int, below: str
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(mode)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with unprivileged(), pytest.raises(UsageError, match="not writable"):
        check(locked / below)


@both
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_file_system_that_takes_no_files_is_refused_to_root_too(check: Check) -> None:
    with pytest.raises(UsageError, match="not writable"):
        check(Path("/proc/out"))


def kept(folder: Path) -> dict[str, str]:
    """Everything in a folder, hidden files too, with what is in them."""
    return {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}


def test_a_file_takes_its_place_when_it_is_complete_and_nothing_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with replacing(tmp_path / "f") as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert (tmp_path / "f").read_text() == "old"
    assert kept(tmp_path) == {"f": "new"}
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "f"):
        pass
    assert kept(tmp_path) == {"f": "old"}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_when_writing_fails(tmp_path: Path, failure: type[BaseException]) -> None:
    (tmp_path / "f").write_text("old")
    with pytest.raises(failure), replacing(tmp_path / "f") as partial:
        partial.write_text("half")
        raise failure
    assert kept(tmp_path) == {"f": "old"}


def test_a_folder_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "stale").write_text("old")
    with replacing(tmp_path / "d") as partial:
        partial.mkdir()
        (partial / "fresh").write_text("new")
    assert kept(tmp_path) == {"d/fresh": "new"}


def test_a_process_killed_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    program = """
import os, signal, sys
from pathlib import Path
from mobileclip_deploy.base.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "f")]).returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_text() == "old"
    assert len(kept(tmp_path)) == 3  # what was there, the half, and the lock
    write_whole(tmp_path / "g", "new")
    assert kept(tmp_path) == {"f": "old", "g": "new"}


def test_a_file_is_on_the_disk_before_it_takes_its_place_as_utf_8_with_its_own_line_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_when_synced = []
    monkeypatch.setattr(os, "fsync", lambda _: there_when_synced.append((tmp_path / "f").exists()))
    write_whole(tmp_path / "f", "ä\r\nb\n")
    assert there_when_synced == [False]
    assert (tmp_path / "f").read_bytes() == b"\xc3\xa4\r\nb\n"


@pytest.mark.parametrize("reader", [read_regular, read_json])
def test_a_pipe_a_folder_and_a_large_file_are_refused_at_once(reader: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidInput, match="not a regular file"):
            reader(path)
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(InvalidInput, match="larger than"):
        reader(tmp_path / "large")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("[" * 100_000, "nested"), ("9" * 5_000, "digits"), ('"\xff"', "utf-8"), ("{", "Expecting")],
)
def test_json_that_no_parser_takes_is_one_kind_of_error(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=complaint):
        read_json(tmp_path / "f")


def test_items_are_counted_before_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("[" + "[]," * 100_001 + "0]")
    with pytest.raises(InvalidInput, match="more items"):
        read_json(tmp_path / "f")


def test_a_refusal_names_the_option_that_chooses_another_place(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("{}")
    for path in (tmp_path / "there.json", tmp_path / "there.json" / "below.json"):
        with pytest.raises(UsageError, match="choose another output with `place`"):
            check_file_destination(path, False, "place")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_without_room_a_checkpoint_is_not_begun(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"x{suffix}"
    output.write_text("before")
    with room_for(100_000):
        found = run("convert", builtin_checkpoint(), "--layout", "apple", "-o", output, "--force", "--json")
    assert (found.code, found.stdout) == (2, "")
    told = strict_json(found.stderr.splitlines()[-1])["error"]
    assert (told["kind"], told["remedy"]) == ("disk_full", "make room there, or choose another place")
    assert str(tmp_path) in told["message"]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_without_room_in_an_exporter_nothing_is_left_and_what_fails_with_room_left_is_told_as_it_is(
    tmp_path: Path,
) -> None:
    def convert(path: Path) -> None:
        try:
            path.write_bytes(bytes(2000))
        except OSError as error:
            raise ExportError("the converter failed") from error

    with room_for(1000), pytest.raises(DiskFull, match="no room is left"), replacing(tmp_path / "out") as partial:
        partial.mkdir()
        convert(partial / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExportError), replacing(tmp_path / "out"):
        raise ExportError("an operator is unknown")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_result_that_cannot_be_printed_is_an_error_too(tmp_path: Path) -> None:
    # Of its own folder: in the shared one it would tell of the processes that other tests killed.
    given = {"env": os.environ | {"TMPDIR": str(tmp_path)}, "text": True, "check": False}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "variants"], stdout=full, stderr=subprocess.PIPE, **given)
    line = "error: no room is left on the disk of the output; make room there, or choose another place\n"
    assert (done.returncode, done.stderr) == (2, line)
