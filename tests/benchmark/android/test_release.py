"""The archive of ready runners: what it is made of, and how it comes from a release, over loopback."""

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from benchmark.android import harness
from benchmark.android.harness import SOURCE
from click.testing import CliRunner
from programs import serving

from mobileclip_deploy.base.files import content_sha256, file_sha256
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android import release
from mobileclip_deploy.benchmark.android.release import Release, pinned_release, released_runners, unpacked_runners
from mobileclip_deploy.benchmark.android.settings import find_runners
from mobileclip_deploy.benchmark.commands.benchmark import benchmark
from mobileclip_deploy.benchmark.doctor import Tool, tools
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.errors import RuntimeFailed, UsageError
from mobileclip_deploy.targets import get_target


@dataclass
class Server:
    """A server on loopback with one file; what was asked of it."""

    address: str
    path: str = ""
    content: bytes = b""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive with one program, and a cache that holds nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "mobileclip-bench").write_bytes(b"a program")
    written = {
        "schema_version": 1,
        "version": "7",
        "machine": "aarch64",
        "c_library": "glibc",
        "files": {"mobileclip-bench": content_sha256(b"a program")},
        "wheels": [],
        "debian_packages": {},
    }
    (folder / "runners.json").write_text(json.dumps(written))
    return harness.assembling().pack(folder, tmp_path / "runners.zip")


@pytest.fixture
def server(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server from which release.json's repository, which is named here, gives the archive."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            self.send_response(200 if self.path == found.path else 404)
            self.end_headers()
            self.wfile.write(found.content if self.path == found.path else b"")

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with serving(Handler) as address:
        found = Server(address, content=archive.read_bytes())
        found.path = "/somebody/a-fork/releases/download/android-runners-7/mobileclip-deploy-android-runners-7.zip"
        monkeypatch.setattr(release, "SERVER", found.address)
        pin(monkeypatch, archive, "somebody/a-fork")
        yield found


def pin(monkeypatch: pytest.MonkeyPatch, archive: Path, repository: str, sha256: str | None = None) -> None:
    pinned = Release(
        repository=repository, version="7", bytes=archive.stat().st_size, sha256=sha256 or file_sha256(archive)
    )
    monkeypatch.setattr(release, "pinned_release", lambda: pinned)


def listed() -> Tool:
    (found,) = [tool for tool in tools() if tool.name == "ready runners"]
    return found


def test_the_runners_come_from_the_named_release_once(server: Server) -> None:
    told: list[str] = []
    assert listed().path == "7 of somebody/a-fork, downloaded when a phone is first measured"
    folder = released_runners(told.append)
    assert server.asked == [server.path]
    assert (folder / "mobileclip-bench").read_bytes() == b"a program"
    assert re.fullmatch(r"fetching the runners: 0\.0 of 0\.0 MB", told[0])
    assert released_runners(told.append) == folder
    assert len(server.asked) == 1
    assert listed().path == f"{folder} (7 for )"
    (folder / "mobileclip-bench").write_bytes(b"damaged")
    assert (released_runners(silent) / "mobileclip-bench").read_bytes() == b"a program"
    assert len(server.asked) == 2


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(server: Server, archive: Path) -> None:
    for content in (archive.read_bytes()[:-1], archive.read_bytes() + b"x", bytes(archive.stat().st_size)):
        server.content = content
        with pytest.raises(RuntimeFailed, match="is not the expected file") as caught:
            released_runners(silent)
        assert f"of {archive.stat().st_size:,} with SHA-256" in str(caught.value)
        assert release.kept_release() is None


def test_a_server_that_cannot_give_the_archive_is_told_with_what_can_be_typed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.path = "/elsewhere"
    with pytest.raises(RuntimeFailed, match=r"cannot be fetched \(HTTP Error 404: .*\): try again, or build them"):
        released_runners(silent)
    monkeypatch.setattr(release, "SERVER", "http://127.0.0.1:1")
    with pytest.raises(RuntimeFailed, match=r"cannot be fetched .*Connection refused.*make android-runners"):
        released_runners(silent)


def test_while_no_repository_is_named_nothing_is_fetched(
    server: Server, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, archive, "")
    with pytest.raises(RuntimeFailed, match="no repository to fetch them from is configured") as caught:
        released_runners(silent)
    assert server.asked == []
    for line in ("make android-runners", 'docker run --rm --platform linux/amd64 -v "$PWD":/work', "`runners`"):
        assert line in str(caught.value)
        assert line in listed().remedy


def test_an_archive_at_hand_is_unpacked_once_and_what_is_none_is_refused(archive: Path, tmp_path: Path) -> None:
    folder = unpacked_runners(archive)
    before = (folder / "mobileclip-bench").stat().st_mtime_ns
    assert unpacked_runners(archive) == folder
    with pytest.raises(
        RuntimeFailed, match=rf"of version 7, and version {pinned_release().version} is needed: build them"
    ):
        find_runners(archive, {"onnxruntime": set()}, silent)
    assert (folder / "mobileclip-bench").stat().st_mtime_ns == before
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(RuntimeFailed, match=r"text\.zip is not an archive of runners"):
        unpacked_runners(tmp_path / "text.zip")
    with pytest.raises(RuntimeFailed, match=r"absent\.zip cannot be read"):
        unpacked_runners(tmp_path / "absent.zip")
    for name, said in (
        ("../elsewhere", "not an archive of runners"),
        ("mobileclip-bench", "the hash of a file in it differs"),
    ):
        contents = json.loads((tmp_path / "files" / "runners.json").read_text()) | {"files": {name: "0" * 64}}
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as opened:
            opened.writestr("runners.json", json.dumps(contents))
            opened.writestr(name, b"a program")
        with pytest.raises(RuntimeFailed, match=said):
            unpacked_runners(tmp_path / "bad.zip")
    assert not list(tmp_path.rglob("elsewhere"))
    whole = bytearray(archive.read_bytes())
    central = whole.index(b"PK\x01\x02")
    for offset, value in ((central + 8, 1), (30 + 12 + 9, 0xFF)):  # encrypted; other bytes in its place
        changed = whole.copy()
        changed[offset] ^= value
        (tmp_path / "bad.zip").write_bytes(changed)
        with pytest.raises(RuntimeFailed, match=r"bad\.zip (is not an archive of runners|is damaged)"):
            unpacked_runners(tmp_path / "bad.zip")


def test_runners_are_refused_where_no_android_phone_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`runners` are for Android phones, but `device` is host"):
        get_driver("host", runners=tmp_path)
    assert "--runners FILE" in CliRunner().invoke(benchmark, ["--help"]).output


def test_the_archive_depends_on_its_files_bytes_alone(archive: Path, tmp_path: Path) -> None:
    packed = harness.assembling().pack
    (tmp_path / "files" / "mobileclip-bench").touch()
    (tmp_path / "files" / "mobileclip-bench").chmod(0o700)
    assert packed(tmp_path / "files", tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_the_wheels_that_the_runners_are_built_with_are_those_that_are_proven() -> None:
    text = (SOURCE / "runners" / "wheels.txt").read_text(encoding="utf-8")
    pins = dict(
        re.findall(r"^([\w-]+)==(\S+) \\\n +--hash=sha256:[0-9a-f]{64} \\\n +--hash=sha256:[0-9a-f]{64}$", text, re.M)
    )
    targets = {"onnxruntime": "onnx", "executorch": "executorch", "ai-edge-litert": "litert"}
    assert pins == {name: get_target(target).capabilities.packages.proven[name] for name, target in targets.items()}


def test_the_pin_is_of_a_whole_archive() -> None:
    pinned = pinned_release()
    assert pinned.bytes > 5_000_000
    assert pinned.sha256 != "0" * 64
    assert pinned.address.endswith(f"/{harness.assembling().archive_name(harness.assembling().MACHINES['aarch64'])}")
