"""Fetching from the hub: against a server on loopback that speaks its protocol, with everything that goes wrong."""

import errno
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hub_server import COMMIT, HubServer

from mobileclip_deploy.errors import CheckpointError, DependencyMissing, UsageError
from mobileclip_deploy.network.checkpoints.hub import fetch, usual_source
from mobileclip_deploy.network.checkpoints.hub_reader import HubFile, parse
from mobileclip_deploy.network.model.variants import load_variant, variant_names

REPOSITORY = "apple/MobileCLIP2-S0"
FILE = "mobileclip2_s0.pt"
CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SOURCE = HubFile(REPOSITORY, None, FILE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one repository, and an environment without anyone's own settings."""
    server = HubServer(REPOSITORY, {FILE: CONTENT, "README.md": b"hello"})
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits longer before each new attempt
    yield server
    server.close()


def refusal(source: HubFile, cache: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch(source, cache=cache)
    text = str(caught.value)
    assert "\n" not in text
    assert not list(cache.rglob("*.incomplete"))
    assert not [path for path in cache.rglob("*") if path.name == FILE]
    return text


class TestReferences:
    """How a place on the hub is written."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("hf:apple/MobileCLIP2-S0", HubFile("apple/MobileCLIP2-S0")),
            ("hf:apple/MobileCLIP2-S0@v1.0", HubFile("apple/MobileCLIP2-S0", "v1.0")),
            ("hf:a/b:dir/model.pt", HubFile("a/b", None, "dir/model.pt")),
            (f"hf:a/b@{COMMIT}:x.pt", HubFile("a/b", COMMIT, "x.pt")),
            ("hf:a/b@refs/pr/4", HubFile("a/b", "refs/pr/4")),
        ],
    )
    def test_parsed(self, text: str, expected: HubFile) -> None:
        assert parse(text) == expected
        assert str(expected) == text

    @pytest.mark.parametrize(
        "text",
        [
            "hf:",
            "hf:apple",
            "hf:a/b/c",
            "hf:a/b@",
            "hf:a/b:",
            "hf:a/b:../x",
            "hf:a/b:/x",
            "hf:a b/c",
            "hf:../..",
            "hf:a/..",
            "hf:a/b@../../x",
            "hf:a/b@/x",
            "hf:a/b@\x1b",
        ],
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not a hub reference; write hf:owner/name"):
            parse(text)

    @pytest.mark.parametrize("name", [name for name in variant_names() if load_variant(name).sources])
    def test_every_variant_has_a_usual_source(self, name: str) -> None:
        source = usual_source(name)
        assert parse(f"hf:{source.repository}:{source.file}") == HubFile(source.repository, None, source.file)

    @pytest.mark.parametrize("name", ["nano", "tinyclip_8m_16"])
    def test_a_variant_that_is_not_published(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"{name} is not published on the hub"):
            usual_source(name)


class TestDownloads:
    """What works."""

    def test_usual_source_of_a_variant(self, server: HubServer, tmp_path: Path) -> None:
        said: list[str] = []
        steps: list[tuple[int, int | None]] = []
        fetched = fetch(
            usual_source("mobileclip2_s0"),
            announce=said.append,
            progress=lambda done, total: steps.append((done, total)),
            cache=tmp_path,
        )
        assert fetched.path.read_bytes() == CONTENT
        assert (fetched.repository, fetched.revision, fetched.sha256) == (REPOSITORY, COMMIT, DIGEST)
        assert steps[-1] == (len(CONTENT), len(CONTENT))
        licence = load_variant("mobileclip2_s0").licence
        assert said == [f"{REPOSITORY}: {licence.name}, {licence.url}"]

    def test_the_licence_is_said_before_anything_is_asked_for(self, server: HubServer, tmp_path: Path) -> None:
        class Declined(Exception):
            pass

        def decline(line: str) -> None:
            raise Declined

        with pytest.raises(Declined):
            fetch(HubFile(REPOSITORY), announce=decline, cache=tmp_path)
        assert server.requests == []

    def test_once_cached_it_is_not_asked_for_again_offline_or_of_a_hub_that_is_gone(
        self, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch(SOURCE, cache=tmp_path)
        before = len([request for request in server.requests if request[0] == "GET"])
        fetch(SOURCE, cache=tmp_path)
        assert len([request for request in server.requests if request[0] == "GET"]) == before
        asked = len(server.requests)
        with monkeypatch.context() as patched:
            patched.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
            assert fetch(HubFile(REPOSITORY), cache=tmp_path).sha256 == DIGEST
        assert len(server.requests) == asked
        server.close()
        assert fetch(SOURCE, cache=tmp_path).sha256 == DIGEST

    def test_revision(self, server: HubServer, tmp_path: Path) -> None:
        assert fetch(HubFile(REPOSITORY, COMMIT, FILE), cache=tmp_path).revision == COMMIT

    def test_dropped_connection_is_resumed(
        self, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        server.drops = 1
        assert fetch(SOURCE, cache=tmp_path).sha256 == DIGEST
        ranges = [headers.get("Range") or headers.get("range") for method, _, headers in server.requests]
        assert any(value and value.startswith("bytes=") for value in ranges)

    def test_a_blob_may_be_in_the_store_that_all_repositories_share(self, server: HubServer, tmp_path: Path) -> None:
        fetch(SOURCE, cache=tmp_path)
        (blob,) = (tmp_path / "models--apple--MobileCLIP2-S0" / "blobs").iterdir()
        shared = tmp_path / "blobs" / "ab" / f"ab{'0' * 62}"  # where huggingface_hub has what Xet downloads
        shared.parent.mkdir(parents=True)
        blob.rename(shared)
        blob.symlink_to(shared)
        assert fetch(SOURCE, cache=tmp_path).sha256 == DIGEST

    def test_token_of_the_environment(self, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server.gated = True
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert fetch(SOURCE, cache=tmp_path).sha256 == DIGEST
        # Only those for the file: in each process huggingface_hub asks first, once, who else calls it.
        asked = [headers for _, path, headers in server.requests if "/resolve/" in path]
        names = [{name.lower(): value for name, value in headers.items()} for headers in asked]
        assert [one["authorization"] for one in names] == ["Bearer hf_secret"] * 2

    @pytest.mark.parametrize(
        ("files", "chosen"),
        [
            (["a.bin", "open_clip_model.safetensors"], "open_clip_model.safetensors"),
            (["config.json", "best.pt"], "best.pt"),
        ],
    )
    def test_file_of_an_unknown_repository(
        self, server: HubServer, tmp_path: Path, files: list[str], chosen: str
    ) -> None:
        server.commits = {"someone/tuned": [dict.fromkeys(files, CONTENT)]}
        said: list[str] = []
        assert fetch(HubFile("someone/tuned"), announce=said.append, cache=tmp_path).path.name == chosen
        assert "licence is not known" in said[0]

    def test_nothing_is_printed(self, server: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        server.drops = 1
        fetch(SOURCE, cache=tmp_path)
        assert capfd.readouterr() == ("", "")


Change = Callable[[HubServer], object]


def holding(*names: str) -> Change:
    """The hub with another repository, of these files."""

    def change(server: HubServer) -> None:
        server.commits = {"someone/tuned": [dict.fromkeys(names, b"")]}

    return change


def answering(**how: Any) -> Change:
    return lambda server: vars(server).update(how)


TUNED = HubFile("someone/tuned")
# What is asked for, how the hub is, and what is said.
REFUSED: dict[str, tuple[HubFile, Change, str]] = {
    "unreachable": (HubFile(REPOSITORY), HubServer.close, f"the hub cannot be reached for hf:{REPOSITORY}"),
    "unreachable for an unknown one": (TUNED, HubServer.close, "the hub cannot be reached for hf:someone/tuned"),
    "a wrong revision": (
        HubFile(REPOSITORY, "v9"),
        answering(),
        f"{REPOSITORY} has no revision 'v9'; leave @revision out",
    ),
    "a missing file": (
        HubFile(REPOSITORY, None, "x.pt"),
        answering(),
        f"{REPOSITORY} has no file 'x.pt'; it holds {FILE}; write hf:{REPOSITORY}:FILE",
    ),
    "no weights": (TUNED, holding("README.md"), "holds no .safetensors, .pt or .bin file"),
    "several weights": (TUNED, holding("a.pt", "b.pt"), "holds a.pt, b.pt; write hf:someone/tuned:FILE"),
    "no such repository": (
        HubFile("apple/MobileCLIP9", None, FILE),
        answering(),
        "no repository apple/MobileCLIP9, or a private one",
    ),
    "gated": (HubFile(REPOSITORY), answering(gated=True), "accept its terms on its page, then set HF_TOKEN"),
    "401": (HubFile(REPOSITORY), answering(status=401), "set HF_TOKEN"),
    "403": (HubFile(REPOSITORY), answering(status=403), "HF_TOKEN"),
    "500": (HubFile(REPOSITORY), answering(status=500), "answered 500"),
}


class TestRefusals:
    """What goes wrong: one line each, and nothing half-kept."""

    @pytest.mark.parametrize("case", REFUSED)
    def test_it_is_told(self, server: HubServer, tmp_path: Path, case: str) -> None:
        source, change, said = REFUSED[case]
        change(server)
        assert said in refusal(source, tmp_path)

    def test_offline_and_not_cached(self, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        text = refusal(HubFile(REPOSITORY), tmp_path)
        assert "not in the cache, and offline mode is on" in text
        assert "write hf:someone/tuned:FILE" in refusal(TUNED, tmp_path)
        assert server.requests == []

    def test_file_that_changed_on_the_hub(self, server: HubServer, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=f"changed on the hub: its sha256 is {DIGEST}, not {'0' * 64}"):
            fetch(HubFile(REPOSITORY, None, FILE, sha256="0" * 64), cache=tmp_path)

    def test_damaged_on_the_way(self, server: HubServer, tmp_path: Path) -> None:
        server.sent = {FILE: bytes(len(CONTENT))}
        assert "was damaged on the way or in the cache, and is removed" in refusal(SOURCE, tmp_path)
        server.sent = {}
        assert fetch(SOURCE, cache=tmp_path).sha256 == DIGEST

    def test_disk_full(self, server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(url: str, temp_file: Any, **options: Any) -> None:
            temp_file.write(CONTENT[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
        assert "the disk is full: hf:apple/MobileCLIP2-S0:mobileclip2_s0.pt was not kept" in refusal(SOURCE, tmp_path)

    def test_cache_that_cannot_be_written(self, server: HubServer, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file where the folder should be")
        with pytest.raises(CheckpointError, match="could not be written to the cache"):
            fetch(SOURCE, cache=tmp_path / "cache")

    def test_library_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(DependencyMissing, match=r"pip install 'mobileclip-deploy\[hub\]'"):
            fetch(HubFile(REPOSITORY))


class TestAHubThatIsHostile:
    """What it answers becomes paths in the cache, and weights."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"ETag": '"../../../out"'},
            {"ETag": '"../../../key"'},
            {"X-Repo-Commit": "../../../out"},
            {"X-Repo-Commit": "main"},
        ],
        ids=str,
    )
    def test_an_answer_that_leads_out_of_the_cache_is_refused(
        self, server: HubServer, tmp_path: Path, headers: dict[str, str]
    ) -> None:
        (tmp_path / "key").write_text("a secret")
        server.headers = headers
        with pytest.raises(CheckpointError, match="HF_ENDPOINT") as told:
            fetch(SOURCE, cache=tmp_path / "cache")
        assert "\n" not in str(told.value)
        assert (tmp_path / "key").read_text() == "a secret"
        assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]

    @pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n<p>Log in", b"\xef\xbb\xbf \n<!-- a -->\n<HTML lang=en>"])
    def test_a_page_in_place_of_weights_is_not_kept(self, server: HubServer, tmp_path: Path, page: bytes) -> None:
        server.commits[REPOSITORY][0][FILE] = page
        assert "was a web page instead of the file, and is removed" in refusal(SOURCE, tmp_path)
        assert page not in [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
