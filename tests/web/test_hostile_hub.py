"""Bundles of a hub that is damaged, false or in the hands of somebody else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from hub_server import COMMIT, HubServer
from web.published import local_hub

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.published import fetch_bundle
from mobileclip_deploy.base.files import files_of
from mobileclip_deploy.errors import InvalidInput

NAME = "owner/nano"
pytestmark = pytest.mark.slow


@pytest.fixture
def hub(exports: Exports, tmp_path: Path) -> Iterator[HubServer]:
    """A hub of nano's image tower."""
    bundle = exports.unverified("onnx", "fp16", "image").path
    with local_hub(tmp_path / "a" / "b" / "c") as server:
        files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files_of(bundle)}
        server.commits[NAME] = [files]
        yield server


def refusal(reference: str, folder: Path) -> str:
    """The one line that refuses a bundle, of which nothing is left out of the caches, nor in the cache of bundles."""
    with pytest.raises(InvalidInput) as caught:
        fetch_bundle(reference, lambda _: None)
    assert "\n" not in caught.value.line
    inside = folder / "a" / "b" / "c"
    assert [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(inside / "hub")] == []
    return caught.value.line


@pytest.mark.parametrize("name", ["manifest.json", "onnx/vision_model_fp16.onnx"])
@pytest.mark.parametrize("start", [b"<!DOCTYPE html><p>Log in", b"\0"], ids=["a page", "damaged"])
def test_a_wrong_download_is_removed_and_the_next_one_is_right(
    name: str, start: bytes, hub: HubServer, tmp_path: Path
) -> None:
    hub.sent = {name: start.ljust(len(hub.commits[NAME][0][name]))}
    told = refusal(f"hf:{NAME}@{COMMIT}", tmp_path)
    assert f": {name} was " in told
    assert "log in to the network" in told if start != b"\0" else told.endswith("removed; download it again")
    hub.sent = {}
    assert Bundle.open(fetch_bundle(f"hf:{NAME}@{COMMIT}", lambda _: None)).manifest.variant == "nano"


def entry(**fields: Any) -> Callable[[Any], Any]:
    """Other fields of the first entry of a listing; None takes one away."""

    def change(answer: Any) -> Any:
        if isinstance(answer, list):
            answer[0] = {name: value for name, value in (answer[0] | fields).items() if value is not None}
        return answer

    return change


def commit(sha: Any) -> Callable[[Any], Any]:
    return lambda answer: answer | {"sha": sha} if isinstance(answer, dict) else answer


def listed(change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    return lambda answer: change(answer) if isinstance(answer, list) else answer


ANSWERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a commit that leads out": (commit("../../.."), "commit '../../..' is not valid"),
    "no commit": (commit(None), "commit 'None' is not valid"),
    "a commit that moves the cursor": (commit("\x1b[2J"), r"commit '\x1b[2J' is not valid"),
    "a path that leads out": (entry(path="../../out"), "is not a plain path"),
    "no path": (entry(path=None), "path"),
    "a path that is a number": (entry(path=3), "list of files is not valid"),
    "a size that is a text": (entry(size="12"), "list of files is not valid"),
    "a size below zero": (entry(size=-1), "list of files is not valid"),
    "a size that no disk has": (entry(size=1 << 60), "its files have 1,152,921"),
    "a hash that leads out": (entry(oid="../../out"), "list of files is not valid"),
    "one name twice": (listed(lambda files: files * 2), "has a name twice"),
    "a file that is a folder": (entry(path="onnx"), "has a name twice"),
    "names without end": (listed(lambda files: files[:1] * 20_000), "more than 10,000 files"),
    "no listing": (listed(lambda files: {"a": 1}), "cannot be reached"),
}
HEADERS: dict[str, dict[str, str]] = {
    "a blob that leads out": {"ETag": '"../../../../out"'},
    "a blob at the root": {"ETag": '"/out"'},
    "another commit": {"X-Repo-Commit": "1" * 40},
    "a commit that leads out": {"X-Repo-Commit": "../../../out"},
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_a_hub_answers_is_checked(case: str, hub: HubServer, tmp_path: Path) -> None:
    hub.edit, said = ANSWERS[case]
    assert said in refusal(f"hf:{NAME}", tmp_path)


@pytest.mark.parametrize("case", HEADERS)
def test_no_header_of_a_hub_leads_out(case: str, hub: HubServer, tmp_path: Path) -> None:
    hub.headers = HEADERS[case]
    assert "set HF_ENDPOINT to a hub you trust" in refusal(f"hf:{NAME}@{COMMIT}", tmp_path)


def test_more_bytes_than_were_listed_are_not_read(hub: HubServer, tmp_path: Path) -> None:
    name = next(iter(hub.commits[NAME][0]))
    hub.sent, hub.headers = {name: bytes(1 << 20)}, {"X-Linked-Size": str(1 << 20)}
    assert "sends more than" in refusal(f"hf:{NAME}@{COMMIT}", tmp_path)
