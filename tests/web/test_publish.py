"""`publish` against a hub on loopback, and what it uploaded opened again by commit, by branch and by lock."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run
from exports import Exports
from hub_server import HubServer
from huggingface_hub import ModelCard
from web.published import add_task_check, local_hub, publish

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.published import Lock, fetch_bundle
from mobileclip_deploy.base.files import file_sha256, files_of
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.web.hub_upload import compare_with_hub, upload
from mobileclip_deploy.web.publishing import CARD, repository_of

NAME = "owner/nano"
pytestmark = pytest.mark.slow


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with local_hub(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def bundles(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Copies of two verified bundles of nano, small enough to be changed."""
    folder = tmp_path_factory.mktemp("published")
    copies = [exports.copy(target, "fp16", folder) for target in ("onnx", "coreml")]
    for copy in copies:
        add_task_check(copy)
    return copies


def refused(*arguments: object) -> str:
    outcome = run(*map(str, arguments))
    assert outcome.code == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    return outcome.stderr


def test_nothing_is_uploaded_before_it_is_confirmed(hub: HubServer, bundles: list[Path]) -> None:
    document = publish(*bundles, "--to", f"hf:{NAME}")
    assert set(document["files"].values()) == {"new"}
    assert hub.commits == {}
    assert not list(Path.cwd().glob("*.lock.json"))


UNLISTED = (".DS_Store", ".env", ".git/config", "README.md", "modeling_evil.py", "pytorch_model.bin")


def test_files_that_nothing_lists_are_refused_by_name_or_left_out(
    hub: HubServer, bundles: list[Path], tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(bundles[1], tmp_path / "changed"))
    for name in UNLISTED:
        (changed / name).parent.mkdir(exist_ok=True)
        (changed / name).write_text("HF_TOKEN=hf_secret", encoding="utf-8")
    told = refused("publish", changed, "--to", f"hf:{NAME}", "--write")
    assert all(name in told for name in UNLISTED)
    assert "--leave-out" in told
    assert hub.commits == {}
    document = publish(changed, "--to", f"hf:{NAME}", "--write", "--leave-out")
    assert set(document["files"]) == {CARD, *(path.relative_to(bundles[1]).as_posix() for path in files_of(bundles[1]))}
    assert not any(b"hf_secret" in content for content in hub.commits[NAME][-1].values())
    assert Bundle.open(fetch_bundle(document["lock"], lambda _: None)).manifest == Bundle.open(bundles[1]).manifest


def test_nothing_leaves_before_its_lock_is_valid(hub: HubServer, bundles: list[Path], tmp_path: Path) -> None:
    hidden = shutil.copytree(bundles[1], tmp_path / ".hidden")
    told = refused("publish", bundles[0], hidden, "--to", f"hf:{NAME}", "--write")
    assert "'.hidden" in told
    refused("publish", bundles[0], "--to", "hf:owner/n\u00e4no", "--write")
    assert hub.commits == {}
    assert hub.objects == {}


def test_what_changes_after_it_was_hashed_is_not_sent(hub: HubServer, bundles: list[Path], tmp_path: Path) -> None:
    changed = Path(shutil.copytree(bundles[0], tmp_path / "changed"))
    files = repository_of([changed], name=NAME)
    comparison = compare_with_hub(files, NAME)
    files.sha256("MODEL_CARD.md")
    (changed / "MODEL_CARD.md").write_text("another", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"MODEL_CARD\.md changed while it was published"):
        upload(files, comparison, private=True, announce=lambda _: None)
    assert hub.commits == {}


def test_a_commit_is_opened_by_its_id_its_branch_and_its_lock(hub: HubServer, bundles: list[Path]) -> None:
    document = publish(*bundles, "--to", f"hf:{NAME}", "--write")
    commit = hub.commit_of(NAME)
    assert document["commit"] == commit
    lock = Lock.model_validate_json(Path(document["lock"]).read_bytes())
    assert (lock.commit, lock.bundles) == (commit, (".", "nano-coreml-fp16"))
    served = hub.commits[NAME][-1]
    assert {path for path in served if path != ".gitattributes"} == set(lock.files)
    notes: list[str] = []
    root = fetch_bundle(f"hf:{NAME}@{commit}", notes.append)
    assert Bundle.open(root).manifest == Bundle.open(bundles[0]).manifest
    assert not (root / "nano-coreml-fp16").exists()
    inner = fetch_bundle(f"hf:{NAME}@{commit}:nano-coreml-fp16", notes.append)
    assert Bundle.open(inner).manifest == Bundle.open(bundles[1]).manifest
    notes.clear()
    assert fetch_bundle(f"hf:{NAME}", notes.append) == root
    assert notes == [f"hf:{NAME} is commit {commit} today; give hf:{NAME}@{commit} to get the same files again"]
    with pytest.raises(UsageError, match="has several bundles"):
        fetch_bundle(document["lock"], notes.append)
    assert run("inspect", f"hf:{NAME}@{commit}", "--json").json
    # The same files again are no new commit; a changed one is.
    assert publish(*bundles, "--to", f"hf:{NAME}", "--write", "--force")["commit"] == commit
    assert len(hub.commits[NAME]) == 2


def test_a_lock_holds_the_files_to_their_hashes(hub: HubServer, bundles: list[Path]) -> None:
    document = publish(bundles[0], "--to", f"hf:{NAME}", "--write")
    hub.commits[NAME][-1]["tokenizer/merges.txt"] += b"\n"
    with pytest.raises(InvalidInput, match=r"merges\.txt is not the file in the lock"):
        fetch_bundle(document["lock"], lambda _: None)


def test_a_lock_holds_a_bundle_in_the_cache_to_its_hashes(hub: HubServer, bundles: list[Path]) -> None:
    lock = publish(bundles[0], "--to", f"hf:{NAME}", "--write")["lock"]
    folder = fetch_bundle(lock, lambda _: None)
    assert fetch_bundle(lock, lambda _: None) == folder
    merges, said = folder / "tokenizer" / "merges.txt", rf"merges\.txt is not the file in the lock; remove {folder}"
    content = merges.read_bytes()
    for spoil in (lambda: merges.write_bytes(content + b"\n"), merges.unlink):
        spoil()
        with pytest.raises(InvalidInput, match=said):
            fetch_bundle(lock, lambda _: None)
        merges.write_bytes(content)
    (folder / "extra.txt").write_text("not in the lock")
    with pytest.raises(InvalidInput, match=r"extra\.txt is not the file in the lock"):
        fetch_bundle(lock, lambda _: None)


def test_an_upload_hashes_each_file_once(hub: HubServer, bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_sha256(path)

    monkeypatch.setattr("mobileclip_deploy.web.publishing.file_sha256", counted)
    publish(bundles[0], "--to", f"hf:{NAME}", "--write")
    assert hashed
    assert len(hashed) == len(set(hashed))


def test_faults_of_the_hub_are_a_line_each(
    hub: HubServer, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "give hf:OWNER/NAME alone" in refused("publish", bundles[0], "--to", f"hf:{NAME}@main")
    publish(bundles[0], "--to", f"hf:{NAME}", "--write")
    hub.before_commit = {"other.txt": b"somebody else's"}
    assert "412" in refused("publish", bundles[1], "--to", f"hf:{NAME}", "--write", "--force")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    refused("publish", bundles[0], "--to", "hf:owner/second", "--write")
    assert "owner/second" not in hub.commits
    assert "no revision" in refused("inspect", f"hf:{NAME}@{'0' * 40}")
    assert "is not a bundle" in refused("inspect", f"hf:{NAME}@{hub.commit_of(NAME)}:elsewhere")


@pytest.mark.parametrize("answer", ["no", "unknown"])
def test_weights_that_must_not_be_passed_on_are_refused(bundles: list[Path], tmp_path: Path, answer: str) -> None:
    changed = shutil.copytree(bundles[0], tmp_path / "changed")
    manifest = json.loads((changed / "manifest.json").read_text(encoding="utf-8"))
    manifest["licence"]["redistribution"]["answer"] = answer
    (changed / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UsageError, match=f"may be passed on is '{answer}'"):
        repository_of([changed], name=NAME)


def test_an_agreement_that_has_to_go_along_is_required(bundles: list[Path], tmp_path: Path) -> None:
    changed = shutil.copytree(bundles[0], tmp_path / "changed")
    manifest = json.loads((changed / "manifest.json").read_text(encoding="utf-8"))
    manifest["variant"] = "mobileclip_s0"  # Apple's agreement is not packaged
    (changed / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UsageError, match="has no copy of the licence"):
        repository_of([changed], name=NAME)


def test_an_unproven_bundle_and_a_name_of_this_machine_are_refused(
    exports: Exports, bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="was not verified"):
        repository_of([exports.unverified("onnx", "fp16", "both").path], name=NAME)
    monkeypatch.setenv("HOME", str(tmp_path))
    changed = shutil.copytree(bundles[0], tmp_path / "changed")
    (changed / "MODEL_CARD.md").write_text(f"from {tmp_path}/weights.pt", encoding="utf-8")
    with pytest.raises(InvalidInput, match="of this machine"):
        repository_of([changed], name=NAME)


def test_the_card_has_what_was_measured(bundles: list[Path]) -> None:
    text = repository_of(bundles, name=NAME).files[CARD]
    assert isinstance(text, bytes)
    card = ModelCard(text.decode())
    assert (card.data.license, card.data.library_name) == ("cc-by-sa-4.0", "transformers.js")
    assert card.data.eval_results[0].metric_value == 68.18
    assert "| 68.2% | +0.05 ± 0.30 |" in card.text
    assert "In a product: yes" in card.text


def test_a_folder_is_written_in_place_of_an_upload(bundles: list[Path], tmp_path: Path) -> None:
    publish(bundles[1], "--to", tmp_path / "site", "--write")
    assert Bundle.open(tmp_path / "site").manifest == Bundle.open(bundles[1]).manifest
    assert "exists; replace it with --force" in refused("publish", bundles[1], "--to", tmp_path / "site", "--write")
