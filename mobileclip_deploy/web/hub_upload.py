"""Upload of a repository to the Hugging Face hub as one commit, and comparison of its files with the hub's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mobileclip_deploy.artifacts.bundle.published import Lock, LockedFile
from mobileclip_deploy.base.files import write_whole
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import REASON, InvalidInput, import_optional, reraising
from mobileclip_deploy.network.checkpoints.hub_reader import (
    HubFile,
    ListedFile,
    checked_commit,
    commit_of,
    from_hub,
    git_id,
    listing,
)
from mobileclip_deploy.web.publishing import CARD, Repository

REGULAR_BYTES = 10 << 20
"""The hub takes larger files by their SHA-256 alone."""
State = Literal["new", "changed", "same", "removed"]


@dataclass(frozen=True)
class HubComparison:
    """State of each path against the newest commit of the hub's repository. `parent` is that commit, None if the
    repository does not exist. Files elsewhere in the repository are kept."""

    repository: str
    parent: str | None
    states: dict[str, State] = field(repr=False)

    @property
    def is_current(self) -> bool:
        """True if an upload would change nothing."""
        return set(self.states.values()) <= {"same"}


def compare_with_hub(files: Repository, repository: str) -> HubComparison:
    """Compares files with the hub's newest commit, by hash.

    Raises:
        InvalidInput: the hub cannot be reached, or refuses.
        DependencyMissing: huggingface_hub is not installed.
    """
    try:
        commit = commit_of(HubFile(repository))
    except InvalidInput as error:
        if not _is_missing(error):
            raise
        return HubComparison(repository, None, dict.fromkeys(sorted(files.files), "new"))
    stored = listing(HubFile(repository, commit))
    states: dict[str, State] = {}
    for name in sorted(files.files):
        states[name] = "new" if name not in stored else "same" if _is_same(files, name, stored[name]) else "changed"
    folders = tuple(f"{folder}/" for folder in files.bundles if folder != ".")
    states |= {name: "removed" for name in stored if name.startswith(folders) and name not in files.files}
    return HubComparison(repository, commit, states)


def write_lock(path: Path, lock: Lock) -> None:
    write_whole(path, lock.model_dump_json(indent=2) + "\n")


def upload(files: Repository, comparison: HubComparison, *, private: bool, announce: Callable[[str], None]) -> Lock:
    """Uploads what is new or changed as one commit on top of the compared one, and returns its lock.

    The token is huggingface_hub's own: HF_TOKEN, or the one that `hf auth login` stored.

    Raises:
        InvalidInput: no access, another commit came in between, the card is not valid for the hub, or the hub's files
            differ from ours after the upload.
    """
    hub = import_optional("huggingface_hub", "mobileclip-deploy[hub]")
    repository, source = comparison.repository, HubFile(comparison.repository)
    lock = _lock(files, repository)
    card = hub.ModelCard(files.read(CARD).decode(), ignore_metadata_errors=False)
    with from_hub(source) as api:
        _validate(hub, api.endpoint, card)
    operations = [
        hub.CommitOperationDelete(name) if state == "removed" else _addition(hub, files, name)
        for name, state in comparison.states.items()
        if state != "same"
    ]

    announce(f"uploading {len(operations)} files to {repository}")
    commit = comparison.parent
    if not comparison.is_current:
        with from_hub(source) as api:
            if comparison.parent is None:
                api.create_repo(repository, private=private)
            info = api.create_commit(
                repository,
                operations,
                commit_message="Publish bundles that mobileclip-deploy verified",
                parent_commit=comparison.parent,
            )
        commit = checked_commit(str(info.oid), source)
    if differing := [name for name, state in compare_with_hub(files, repository).states.items() if state != "same"]:
        raise InvalidInput(f"{repository}: {differing[0]} on the hub is not the uploaded file; publish again")
    return with_fields(lock, commit=commit)


def _lock(files: Repository, repository: str) -> Lock:
    """Returns the lock of files that are not uploaded yet: its commit is zero.

    Raises:
        InvalidInput: the repository, a folder or a file has a name that no lock can hold.
    """
    hashes = {name: LockedFile(bytes=files.size(name), sha256=files.sha256(name)) for name in sorted(files.files)}
    with reraising(f"{repository} cannot be published ({REASON}); rename it", ValidationError):
        return Lock(repository=repository, commit="0" * 40, bundles=files.bundles, files=hashes)


def _addition(hub: Any, files: Repository, name: str) -> Any:
    """Returns the upload of a file. The hub itself holds a large one to its hash, a smaller one is in memory.

    Raises:
        InvalidInput: the file is not the one that was hashed.
    """
    content = files.read(name) if files.size(name) <= REGULAR_BYTES else str(files.files[name])
    operation = hub.CommitOperationAdd(name, content)
    if operation.upload_info.sha256.hex() != files.sha256(name):
        raise InvalidInput(f"{name} changed while it was published; publish again")
    return operation


def _is_missing(error: InvalidInput) -> bool:
    from huggingface_hub.errors import RepositoryNotFoundError

    return isinstance(error.__cause__, RepositoryNotFoundError)


def _validate(hub: Any, endpoint: str, card: Any) -> None:
    """Sends the card to the hub's own validation."""
    body = {"repoType": "model", "content": str(card)}
    response = hub.utils.get_session().post(
        f"{endpoint}/api/validate-yaml", json=body, headers={"Accept": "text/plain"}
    )
    if response.status_code == 400:
        raise InvalidInput(f"the hub refuses the card's metadata: {response.text[:200]}")
    response.raise_for_status()


def _is_same(files: Repository, name: str, listed: ListedFile) -> bool:
    """Compares a file with the hub's: large files by SHA-256, others by git's id."""
    size = files.size(name)
    if size != listed.bytes or listed.sha256 is not None:
        return size == listed.bytes and files.sha256(name) == listed.sha256
    return git_id(BytesIO(files.read(name)), size) == listed.blob
