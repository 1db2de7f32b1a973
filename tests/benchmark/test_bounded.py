"""What a device says is read in bounds, and makes one error where it makes no sense."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from programs import script

from mobileclip_deploy.benchmark.android.adb import Adb
from mobileclip_deploy.benchmark.android.device import describe, snapshot
from mobileclip_deploy.benchmark.android.transfer import remote_hashes
from mobileclip_deploy.benchmark.bounded import parsing_device_output, run_bounded
from mobileclip_deploy.benchmark.ios import devices as listing_devices
from mobileclip_deploy.benchmark.ios import phone as device_calls
from mobileclip_deploy.benchmark.ios.building import App
from mobileclip_deploy.benchmark.ios.devicectl import devicectl
from mobileclip_deploy.benchmark.ios.phone import Phone
from mobileclip_deploy.errors import RuntimeFailed

FLOOD = "import sys\nwhile True: sys.{}.write('x' * 65536)"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_is_ended_at_its_bound(stream: str) -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeFailed, match="sent more than 1 MiB, more than expected"):
        run_bounded([sys.executable, "-c", FLOOD.format(stream)], 60, 1 << 20)
    assert time.monotonic() - started < 30


def test_what_is_within_its_bound_comes_whole_and_what_hangs_is_ended() -> None:
    done = run_bounded(["sh", "-c", "echo out; echo err >&2; exit 3"], 60)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    with pytest.raises(subprocess.TimeoutExpired):
        run_bounded(["sh", "-c", "sleep 600 & wait"], 0.5)  # its child holds the pipe


def phone(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> Adb:
    """A phone whose adb says what a script of the shell does."""
    script(folder / "adb", text)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return Adb("S1", "/data/local/tmp/x")


END = "echo mobileclip-shell-ended 0"
NEXT = "echo mobileclip-next-answer"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (END, "the phone S1 returned 1 results for 2 commands"),
        (f"{NEXT}; {END}", "invalid response from the phone S1 (IndexError"),
        (
            f"{NEXT}; echo x; echo MemTotal: {'9' * 5000} kB; {END}",
            "invalid response from the phone S1 (ValueError",
        ),
        (f"{NEXT}; echo x; echo MemTotal: {'9' * 30} kB; {END}", "invalid response from the phone S1 (ValidationE"),
        (f"{NEXT}; echo x; echo 0-{'9' * 20}; {END}", "invalid response from the phone S1 (ValidationError"),
        (f"{NEXT}; {NEXT}; {END}", "the phone S1 returned 3 results for 2 commands"),
        ("cat /dev/zero", "the device sent more than 16 MiB, more than expected"),
        ("cat /dev/zero >&2", "the device sent more than 16 MiB, more than expected"),
    ],
)
def test_odd_words_of_a_phone_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, line: str
) -> None:
    adb = phone(monkeypatch, tmp_path, said)
    with pytest.raises(RuntimeFailed) as caught:
        describe(adb)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", ["busy", "nan", "1e999", "9" * 5000])
def test_an_odd_state_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: str) -> None:
    with pytest.raises(RuntimeFailed, match="invalid response from the phone S1") as caught:
        snapshot(phone(monkeypatch, tmp_path, f"{NEXT}; {NEXT}; {NEXT}; {NEXT}; echo {load}; {END}"), None)
    assert "\n" not in str(caught.value)


def test_a_name_has_no_control_characters_and_a_listing_of_one_word_a_line_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = "printf '[ro.product.model]: [\\033[2JPixel%0900d]\\n' 1"
    found = describe(phone(monkeypatch, tmp_path, f"{model}; {NEXT}; echo aarch64; {END}")).device
    assert (found.model[:10], len(found.model)) == (" [2JPixel0", 200)
    with pytest.raises(RuntimeFailed, match="invalid response from the phone S1"):
        remote_hashes(phone(monkeypatch, tmp_path, f"echo word; {END}"), "/x")


@pytest.mark.parametrize(
    "listing",
    [
        {"devices": 3},
        {"devices": [3]},
        {"devices": [{"hardwareProperties": 3}]},
        {"devices": [{"hardwareProperties": {"platform": "iOS"}, "connectionProperties": ["paired"]}]},
        {
            "devices": [{"hardwareProperties": {"platform": "iOS"}, "deviceProperties": {"developerModeStatus": {}}}]
            * 2
            + [0]
        },
    ],
)
def test_an_odd_listing_of_iphones_is_one_line(monkeypatch: pytest.MonkeyPatch, listing: dict[str, Any]) -> None:
    monkeypatch.setattr(listing_devices, "devicectl", lambda *_, **__: listing)
    with pytest.raises(RuntimeFailed, match="invalid response from devicectl"):
        listing_devices.list_devices()


@pytest.mark.parametrize("content", ["[" * 100_000, "null", '{"result": 3}', "x" * 100, '{"error": {"domain": []}}'])
def test_an_odd_answer_of_devicectl_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    (tmp_path / "content").write_text(content)
    script(tmp_path / "xcrun", f'while [ "$1" != --json-output ]; do shift; done; cp {tmp_path}/content "$2"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeFailed) as caught:
        devicectl("list", "devices")
    assert "\n" not in str(caught.value)


def test_a_file_of_an_iphone_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def sends(*words: str, **_: Any) -> dict[str, Any]:
        with Path(words[words.index("--destination") + 1]).open("wb") as file:
            file.truncate(5 << 20)
        return {}

    monkeypatch.setattr(device_calls, "devicectl", sends)
    own = Phone("U1", App(Path("x"), "x"))
    with pytest.raises(RuntimeFailed, match=r"a\.jsonl on the device has more than 4 MiB: delete the app"):
        own.pull("Documents/a.jsonl", 4 << 20)
    assert own.pull("Documents/a.jsonl", 5 << 20) == bytes(5 << 20)


def test_an_error_of_ours_is_no_word_of_a_device() -> None:
    with pytest.raises(ZeroDivisionError), parsing_device_output("the phone"):
        raise ZeroDivisionError
