"""An output has one writer at a time, and a new output replaces nothing."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from base.files.writer_storm import kills, races
from command_line import refusal, run, spawn
from exports import Exports

from mobileclip_deploy.base.files import check_bundle_destination, check_file_destination, replacing
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.cache import EmbeddingStore

# Holds an output's lock until it is killed, or its input ends.
WRITER = """
import sys
from pathlib import Path
from mobileclip_deploy.base.files.writers import sole_writer
with sole_writer(Path(sys.argv[1]), "embed", force=False, update=True):
    print("ready", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_writer_is_refused_and_a_killed_one_is_followed(tmp_path: Path) -> None:
    output = tmp_path / "a" / "inc.mcdx"
    command = [sys.executable, "-c", WRITER, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "ready\n"
        assert names(tmp_path / "a") == [".inc.mcdx.partial.lock"]
        with pytest.raises(UsageError) as refused, sole_writer(output, "export", force=True):
            pass
        assert str(refused.value) == f"another `embed` writes {output}; run this again when it has ended"
        first.send_signal(signal.SIGKILL)
    (tmp_path / "a" / ".inc.mcdx.partial").write_text("what was embedded")
    with sole_writer(output, "embed", force=False):
        pass
    assert names(tmp_path / "a") == [".inc.mcdx.partial"]


def test_a_lock_that_was_left_by_a_kill_at_the_end_is_removed_by_the_next_run(tmp_path: Path) -> None:
    output, lock = tmp_path / "inc.mcdx", tmp_path / ".inc.mcdx.partial.lock"
    output.write_text("whole")
    for check in (check_file_destination, lambda path, force: check_bundle_destination(path, "manifest.json", force)):
        lock.write_text("embed\n")
        with pytest.raises(UsageError, match="exists"):
            check(output, False)
        assert names(tmp_path) == ["inc.mcdx"]
        with sole_writer(output, "embed", force=True), pytest.raises(UsageError, match="exists"):
            check(output, False)
        lock.unlink(missing_ok=True)


def write_file(path: Path, content: str) -> None:
    path.write_text(content)


def write_folder(path: Path, content: str) -> None:
    path.mkdir()
    (path / "x").write_text(content)


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("force", [False, True])
def test_what_appeared_meanwhile_is_replaced_only_where_force_says_so(
    tmp_path: Path, write: Callable[[Path, str], None], force: bool
) -> None:
    output = tmp_path / "out"
    refusing = nullcontext() if force else pytest.raises(UsageError, match="out exists; replace it with `force=True`")
    with refusing, sole_writer(output, "embed", force=force), replacing(output) as partial:
        write(partial, "new")
        write(output, "another's")
    content = (output / "x" if output.is_dir() else output).read_text()
    assert (content, names(tmp_path)) == ("new" if force else "another's", ["out"])


@pytest.mark.once
@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_an_output_is_written_where_the_disk_has_neither_locks_nor_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", unsupported)
    monkeypatch.setattr(os, "link", unsupported)
    with sole_writer(tmp_path / "out", "embed", force=False), replacing(tmp_path / "out") as partial:
        partial.write_text("new")
    with pytest.raises(UsageError, match="exists"), sole_writer(tmp_path / "out", "embed", force=False):
        pass
    assert names(tmp_path) == ["out"]


def test_a_mac_takes_no_second_lock_which_would_conflict_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has one list of a file's locks of both kinds, each with its owner: a process for fcntl's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("fcntl.fcntl", lambda *_: pytest.fail("a second lock"))
    with (
        sole_writer(tmp_path / "out", "embed", force=False),
        pytest.raises(UsageError, match="another `embed` writes"),
        sole_writer(tmp_path / "out", "export", force=False),
    ):
        pass
    assert names(tmp_path) == []


# The locks of fcntl, which SQLite takes; `cmd` 37 and 38 are those of a descriptor.
NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
int flock(int fd, int operation) { errno = NUMBER; return -1; }
static int refused(const char *name, int fd, int cmd, void *argument) {
    if (cmd == F_SETLK || cmd == F_SETLKW || cmd == 37 || cmd == 38) { errno = NUMBER; return -1; }
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, name))(fd, cmd, argument);
}
#define REPLACED(name) int name(int fd, int cmd, ...) { va_list words; va_start(words, cmd); \
    void *argument = va_arg(words, void *); va_end(words); return refused(#name, fd, cmd, argument); }
REPLACED(fcntl)
REPLACED(fcntl64)
"""


@pytest.mark.slow  # it compiles, and starts the program
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, whose loader replaces functions")
def test_a_disk_without_locks_is_named_before_anything_is_embedded(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "no_locks.c").write_text(NO_LOCKS.replace("NUMBER", str(errno.EOPNOTSUPP)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "no_locks.so", "no_locks.c", "-ldl"], cwd=tmp_path, check=True)
    (tmp_path / "texts.txt").write_text("a cat\n")
    output = tmp_path / "e" / "e.mcdx"
    words = ("embed", exports.bundle("onnx", "fp16").path, tmp_path / "texts.txt", "-o", output)
    without = spawn(*words, environment={"LD_PRELOAD": str(tmp_path / "no_locks.so")})
    assert "or its disk has no locks; choose a folder on another disk" in refusal(without)
    assert not output.parent.exists()


def test_a_name_that_is_too_long_for_what_is_kept_next_to_it_is_refused_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"\(File name too long\); choose another output"),
        sole_writer(tmp_path / ("n" * 240), "embed", force=False),
    ):
        pytest.fail("the work begins")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "arguments"),
    [
        ("e.mcdx", ("embed", "BUNDLE", "EMOJI", "-o", "e.mcdx", "--incremental")),
        *(
            pytest.param(output, arguments, marks=pytest.mark.slow)
            for output, arguments in (
                ("e.mcdx", ("embed", "BUNDLE", "EMOJI", "-o", "e.mcdx")),
                ("e.npy", ("embed", "BUNDLE", "EMOJI", "-o", "e.npy", "--force")),
                ("nano-onnx-fp32", ("export", "--target", "onnx", "--precision", "fp32", "-o", ".")),
                ("t/checkpoint.pt", ("train", "recipe.yaml", "-o", "t")),
                ("s/sweep.json", ("sweep", "sweep.toml", "-o", "s")),
                ("f.safetensors", ("reparameterize", "-o", "f.safetensors")),
                ("d", ("demo", "BUNDLE", "--static", "d")),
                ("r.json", ("benchmark", "BUNDLE", "--device", "host", "--json", "r.json", "--resume")),
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[:1] + value[-1:]),
)
def test_no_command_touches_what_another_is_writing(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = str(exports.bundle("onnx", "fp16").path)
    recipe = "version: 1\nvariant: nano\ndata: data\nsteps: 1\nbatch: 2\nlearning_rate: 0.1\ndistillation: 0\n"
    Path("recipe.yaml").write_text(recipe)
    shutil.copytree(models_dir() / "nano" / "evaluation", "data")
    Path("sweep.toml").write_text('version = 1\ntargets = ["onnx"]\n')
    with sole_writer(Path(output), "embed", force=True):
        if "/" not in output:
            EmbeddingStore(Path(f".{output}.partial"), {}).close()
        before = sorted(map(str, Path().rglob("*")))
        words = ({"BUNDLE": bundle, "EMOJI": "emoji"}.get(word, word) for word in arguments)
        assert f"another `embed` writes {output}; run this again" in refusal(run(*words))
        assert sorted(map(str, Path().rglob("*"))) == before


@pytest.mark.slow  # one kill and one second writer: above
def test_killed_and_racing_writers_leave_whole_outputs() -> None:
    found = kills(10, 1)
    assert found["as before"] + found["new"] == 10
    assert sum(races(10, 1).values()) == 30
