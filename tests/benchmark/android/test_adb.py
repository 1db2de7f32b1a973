"""What adb says when something is wrong, and what a user is told."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import script

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android.adb import Adb, DeviceLost, find_adb, listed_devices, quoted
from mobileclip_deploy.benchmark.android.driver import AndroidDriver
from mobileclip_deploy.benchmark.android.settings import AndroidSettings, find_runners
from mobileclip_deploy.errors import RuntimeFailed, UsageError

NASTY = (
    "it's",
    'a "b"',
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "& | < >",
    "new\nline",
    "-rf",
    "",
    "*",
    "~",
)
Scripted = Callable[[str], None]


@pytest.fixture
def adb_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """An adb on PATH that runs a shell script."""

    def write(text: str) -> None:
        script(tmp_path / "adb", text)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return write


def listing(*rows: str) -> str:
    return "printf '* daemon started successfully\\nList of devices attached\\n'; " + "".join(
        f"printf '{row}\\n'; " for row in rows
    )


def failing(errors: str, code: int = 1) -> str:
    ready = listing("S1\\tdevice")
    return f'case "$*" in devices) {ready};; *) echo {quoted(errors)} >&2; exit {code};; esac'


@pytest.mark.parametrize("word", NASTY)
def test_a_quoted_word_reaches_the_shell_as_it_is(word: str, tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-c", f"printf %s {quoted(word)}"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == word
    assert list(tmp_path.iterdir()) == []


def test_without_adb_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(RuntimeFailed, match=r"adb is not installed: .*apt-get install adb"):
        listed_devices()
    assert AndroidDriver().discover()[0].state == "missing"
    studio = script(tmp_path / "home/Android/Sdk/platform-tools/adb.exe", "exit 1")
    assert find_adb() == str(studio)
    script(tmp_path / "platform-tools/adb", "echo List of devices attached")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert listed_devices() == ()
    assert [(one.device, one.state) for one in AndroidDriver().discover()] == [("android", "none connected")]


@pytest.mark.parametrize(
    ("row", "state", "remedy"),
    [
        ("S1\\tunauthorized", "unauthorized", "accept 'Allow USB debugging'"),
        ("S1\\toffline", "offline", "adb reconnect offline"),
        (
            "S1\\tno permissions (missing udev rules? user is in the plugdev group)",
            "no permissions",
            "udev|sdk-platform",
        ),
        ("S1\\trecovery", "recovery", "adb reboot"),
        ("S1\\tsomething new", "something", "replug the phone"),
    ],
)
def test_a_phone_that_is_not_ready_comes_with_its_remedy(adb_that: Scripted, row: str, state: str, remedy: str) -> None:
    adb_that(listing(row))
    (found,) = AndroidDriver().discover()
    assert (found.device, found.state) == ("android:S1", state)
    assert found.remedy is not None
    with pytest.raises(RuntimeFailed, match=remedy):
        AndroidDriver()._serial()
    with pytest.raises(RuntimeFailed, match=f"the phone S1 is {state}: "):
        AndroidDriver("S1")._serial()


def test_it_must_be_clear_which_phone_is_meant(adb_that: Scripted) -> None:
    adb_that(listing("S1\\tdevice", "S2\\tdevice"))
    with pytest.raises(RuntimeFailed, match="2 Android phones are connected: choose one with `device='android:S1'`"):
        AndroidDriver()._serial()
    assert AndroidDriver("S2")._serial() == "S2"
    with pytest.raises(RuntimeFailed, match="no Android device S3; connected: S1, S2"):
        AndroidDriver("S3")._serial()
    adb_that(listing())
    with pytest.raises(RuntimeFailed, match="no Android phone is connected: plug one in"):
        AndroidDriver()._serial()
    adb_that(listing("S1\\tunauthorized", "S2\\tdevice"))
    assert AndroidDriver()._serial() == "S2"


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("adb: device 'S1' not found", DeviceLost, "the phone S1 is disconnected: replug it"),
        ("error: device offline", DeviceLost, "the phone S1 is offline: replug"),
        ("error: device unauthorized.", DeviceLost, "does not trust this computer: unlock"),
        ("error: closed", DeviceLost, r"the connection to the phone S1 broke \(adb: error: closed\): replug it"),
        (
            "adb: error: failed to copy: remote No space left on device",
            RuntimeFailed,
            "the phone S1 is full: make room",
        ),
        ("mkdir: /x: Read-only file system", RuntimeFailed, "MOBILECLIP_ANDROID_FOLDER"),
        ("mkdir: /x: Permission denied", RuntimeFailed, r"may not use /x \(a managed phone\?\)"),
        ("* failed to start daemon", RuntimeFailed, "adb kill-server"),
    ],
)
def test_every_failure_is_one_line_with_a_remedy(
    adb_that: Scripted, tmp_path: Path, said: str, kind: type[RuntimeFailed], told: str
) -> None:
    adb_that(failing(said))
    adb = Adb("S1", "/x")
    for call in (lambda: adb.demand("true"), lambda: adb.push(tmp_path / "adb", "/x/y")):
        with pytest.raises(RuntimeFailed, match=told) as caught:
            call()
        assert isinstance(caught.value, kind)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 3


def test_a_server_that_does_not_answer_is_told_from_a_phone_that_does_not(adb_that: Scripted) -> None:
    adb_that("echo 'cannot connect to daemon' >&2; exit 1")
    with pytest.raises(RuntimeFailed, match=r"adb's server does not respond .*: type: adb kill-server"):
        listed_devices()
    adb_that("exec sleep 600")
    with pytest.raises(DeviceLost, match="the phone S1 did not respond within 0 s: replug it"):
        Adb("S1", "/x").shell("true", patience=0.2)


def test_the_exit_code_of_a_command_is_not_adbs(adb_that: Scripted) -> None:
    adb_that('while [ "$1" != shell ]; do shift; done; sh -c "$2"')
    answer = Adb("S1", "/x").shell("printf 'no newline'; echo complaint >&2; exit 3")
    assert (answer.code, answer.output, answer.errors) == (3, "no newline", "complaint\n")
    with pytest.raises(RuntimeFailed, match=r"refused a command \(adb: complaint\)"):
        Adb("S1", "/x").demand("echo complaint >&2; exit 3")


def test_a_push_is_waited_for_by_the_rate_that_was_measured(adb_that: Scripted, tmp_path: Path) -> None:
    """100 kB a second: the constant of old, 0.5 MB, would have ended it."""
    adb_that('case "$3" in push) sleep 0.5;; esac; echo mobileclip-shell-ended 0')
    adb, model = Adb("X", "/x"), tmp_path / "model"
    model.write_bytes(bytes(4 << 20))
    patience: list[float] = []
    push = adb._push
    adb._push = lambda local, remote, seconds: (patience.append(seconds), push(local, remote, seconds))[0]  # type: ignore[assignment,method-assign]
    adb.push(model, "/x/model")
    probe, whole = patience
    assert probe > 60
    assert 60 + 30 < whole < 60 + 120  # five times what 4 MiB take at half a second for 256 KiB


def test_settings_that_make_no_sense_are_refused() -> None:
    for folder in ("relative", "/", "/a\nb"):
        with pytest.raises(UsageError, match="MOBILECLIP_ANDROID_FOLDER"):
            AndroidSettings.of({"MOBILECLIP_ANDROID_FOLDER": folder})
    for seconds in ("soon", "-1", "nan", "inf"):
        with pytest.raises(UsageError, match="MOBILECLIP_ANDROID_COOLING_SECONDS"):
            AndroidSettings.of({"MOBILECLIP_ANDROID_COOLING_SECONDS": seconds})
    with pytest.raises(UsageError, match="MOBILECLIP_ANDROID_FIXED_PERFORMANCE='yes' is neither 1 nor 0"):
        AndroidSettings.of({"MOBILECLIP_ANDROID_FIXED_PERFORMANCE": "yes"})
    assert AndroidSettings.of({}).folder == "/data/local/tmp/mobileclip-deploy"


def test_what_is_missing_of_the_harness_is_said_with_the_way_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # none were fetched
    needed: dict[str, frozenset[str]] = {"onnxruntime": frozenset()}
    with pytest.raises(RuntimeFailed, match=r"lacks mobileclip-bench, mobileclip-bench-onnxruntime: build them as"):
        find_runners(tmp_path, needed, silent)
    for name in ("mobileclip-bench", "mobileclip-bench-onnxruntime"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    with pytest.raises(RuntimeFailed, match=r"lacks libonnxruntime\.so: copy the one of the onnxruntime-android AAR"):
        find_runners(tmp_path, needed, silent)
    (tmp_path / "libonnxruntime.so").touch()
    with pytest.raises(RuntimeFailed, match="is not a 64-bit ELF program"):
        find_runners(tmp_path, needed, silent)
    arm = b"\x7fELF\x02\x01" + bytes(10) + b"\x03\x00\xb7\x00"
    (tmp_path / "mobileclip-bench").write_bytes(arm)
    assert find_runners(tmp_path, needed, silent).machine == "aarch64"
    assert [path.name for path in find_runners(tmp_path, needed, silent).files][-1] == "libonnxruntime.so"
    with pytest.raises(
        RuntimeFailed, match=r"no repository .* is configured: build them in a checkout: .*make android"
    ):
        find_runners(Path("ready"), needed, silent)
