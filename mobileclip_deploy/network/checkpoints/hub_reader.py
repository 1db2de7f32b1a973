"""Files on the Hugging Face hub: references, listings of commits, and downloads.

Each download is held to the hub's own hash of it, and no word of the hub leads out of the cache. Cache, resuming after
a dropped connection, the token and offline mode are huggingface_hub's own, with its environment variables (HF_HOME,
HF_TOKEN, HF_HUB_OFFLINE, HF_ENDPOINT).
"""

import errno
import hashlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.base.files.names import Name, Sha256, is_below
from mobileclip_deploy.errors import (
    REASON,
    InvalidInput,
    MobileClipDeployError,
    UsageError,
    import_optional,
    reraising,
)
from mobileclip_deploy.network.checkpoints.weights_files import HUB

REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^:@\s]+))?(:(?P<file>[^\s]+))?")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# A web page sent in place of a file, by a network's login or by a false mirror.
PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
SUFFIXES = (".safetensors", ".pt", ".bin")
MOST_LISTED = 10_000
DISTRUST = "set HF_ENDPOINT to a hub you trust"

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class HubFile:
    """A file on the hub. Without `revision`, the newest; without `file`, the repository's usual one. `sha256`: its
    expected hash, if given."""

    repository: str
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repository}{revision}" + (f":{self.file}" if self.file else "")


@dataclass(frozen=True)
class Fetched:
    """A file in the local cache, with its provenance: `revision` is the commit."""

    path: Path
    repository: str
    revision: str
    sha256: str


class ListedFile(BaseModel, frozen=True):
    """A file in the hub's listing of a commit. A large one has a SHA-256, each has git's id."""

    path: Name
    bytes: Annotated[int, Field(ge=0, strict=True)]
    blob: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    sha256: Sha256 | None = None

    @property
    def key(self) -> str:
        """Hash that decides whether a content is this file's."""
        return self.sha256 or self.blob


def parse(text: str) -> HubFile:
    """Parses `hf:owner/name[@revision][:file]`.

    Raises:
        UsageError: it is not of that form.
    """
    match = REFERENCE.fullmatch(text)
    paths = [PurePosixPath(part) for part in match.group("repository", "revision", "file") if part] if match else []
    if match is None or not text.isprintable() or any(path.is_absolute() or ".." in path.parts for path in paths):
        raise UsageError(f"{text!r} is not a hub reference; write hf:owner/name, hf:owner/name@revision or ...:file")
    return HubFile(match["repository"], match["revision"], match["file"])


@contextmanager
def from_hub(source: HubFile) -> Iterator[Any]:
    """Yields huggingface_hub's client.

    Raises:
        InvalidInput: a request in the block failed.
        DependencyMissing: huggingface_hub is not installed.
    """
    hub = import_optional("huggingface_hub", "mobileclip-deploy[hub]")
    with _quiet():
        try:
            yield hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        except MobileClipDeployError:
            raise
        except Exception as error:  # huggingface_hub passes on whatever its HTTP client and the disk raise
            raise InvalidInput(_explain(hub, error, source)) from error


def commit_of(source: HubFile) -> str:
    """Returns the hub's commit of a revision.

    Raises:
        InvalidInput: as `from_hub`, or the hub's answer is not a commit.
    """
    with from_hub(source) as api:
        commit = str(api.model_info(source.repository, revision=source.revision).sha)
    return checked_commit(commit, source)


def checked_commit(commit: str, source: HubFile) -> str:
    """Returns the hub's word for a commit.

    Raises:
        InvalidInput: it is not one.
    """
    if not COMMIT.fullmatch(commit):
        raise InvalidInput(f"{source}: the hub's commit {commit[:60]!r} is not valid; {DISTRUST}")
    return commit


def listing(source: HubFile) -> dict[str, ListedFile]:
    """Returns the files of a commit, by path.

    Raises:
        InvalidInput: as `from_hub`, or the listing is not valid.
    """
    with from_hub(source) as api:
        tree = api.list_repo_tree(source.repository, revision=source.revision, recursive=True)
        entries = list(islice(tree, MOST_LISTED + 1))
        files = [
            {"path": entry.path, "bytes": entry.size, "blob": entry.blob_id, "sha256": entry.lfs and entry.lfs.sha256}
            for entry in entries
            if hasattr(entry, "size")
        ]
    if len(entries) > MOST_LISTED:
        raise InvalidInput(f"{source} has more than {MOST_LISTED:,} files; give another repository")
    with reraising(f"{source}: the hub's list of files is not valid ({REASON}); {DISTRUST}", ValidationError):
        listed = {file.path: file for file in map(ListedFile.model_validate, files)}
    if len(listed) < len(files) or any(
        str(above) in listed for name in listed for above in PurePosixPath(name).parents
    ):
        raise InvalidInput(f"{source}: the hub's list of files has a name twice; {DISTRUST}")
    return listed


def download(
    api: Any,
    source: HubFile,
    listed: ListedFile | None = None,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Downloads a file, or takes it from the cache. It is what the listing says, or else what the hub's name for it in
    the cache says.

    Raises:
        InvalidInput: it is another file or a web page, which is removed, or it is not in the cache.
        Exception: of huggingface_hub; see `from_hub`.
    """
    import huggingface_hub as hub

    root = Path(cache or hub.constants.HF_HUB_CACHE)
    if listed is not None and not (root / _folder(source) / "snapshots" / str(source.revision) / listed.path).exists():
        # huggingface_hub makes paths of these words, so they are looked at before it does.
        url = hub.hf_hub_url(source.repository, listed.path, revision=source.revision, endpoint=api.endpoint)
        told = hub.get_hf_file_metadata(url, endpoint=api.endpoint)
        if told.commit_hash != source.revision or not re.fullmatch(r"[\w-]+", str(told.etag)):
            raise InvalidInput(f"{source}: the hub's response does not fit {listed.path[:60]!r}; {DISTRUST}")
    try:
        path = Path(
            hub.hf_hub_download(
                source.repository,
                str(source.file) if listed is None else listed.path,
                revision=source.revision,
                cache_dir=cache,
                endpoint=api.endpoint,
                tqdm_class=_bar(progress, None if listed is None else listed.bytes),
            )
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            # Free the space again: before 2.0 huggingface_hub leaves its part, to resume later.
            for rest in (root / _folder(source) / "blobs").glob("*.incomplete"):
                rest.unlink(missing_ok=True)
        raise
    commit = _commit(path, root, source)
    return Fetched(path, source.repository, commit, _check(path, source, listed))


def git_id(stream: BufferedReader | BytesIO, size: int) -> str:
    """Returns git's id of a file of `size` bytes."""
    start = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return hashlib.file_digest(stream, lambda: start).hexdigest()


def _bar(progress: Progress | None, most: int | None) -> type:
    """Returns a silent replacement of tqdm that reports to a function. It ends a download of more than `most` bytes."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.reported, self.whole = options.get("initial") or 0, options.get("total")
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> None:
            self.reported += int(n or 0)
            if most is not None and self.reported > most:
                raise InvalidInput(f"the hub sends more than the {most:,} bytes that it lists; {DISTRUST}")
            if progress is not None:
                progress(self.reported, self.whole)

    return Bar


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences huggingface_hub's own comments on errors, which are raised here in one line.

    Uses the library's own switch: it sets its logger's level itself when it is first used, later than a plain logger
    would.
    """
    from huggingface_hub.utils import logging as hub_logging

    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub_logging.set_verbosity(level)


def _explain(hub: Any, error: Exception, source: HubFile) -> str:
    """Returns an exception of huggingface_hub, its HTTP client or the disk as one line that says what to do."""
    errors, status = hub.errors, _status(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {source} was not kept; make room, or set HF_HOME to another disk"
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"no access to {source.repository}: accept its terms on its page, then set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{source.repository} has no revision {source.revision!r}; leave @revision out for the newest"
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return f"{source.repository} has no file {source.file!r}; it {held(source)}"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"no repository {source.repository}, or a private one; check the name, or set HF_TOKEN"
    if status is not None:
        return f"the hub answered {status} for {source}; try again later"
    if hub.constants.HF_HUB_OFFLINE:
        return f"{source} is not in the cache, and offline mode is on; download it once online"
    if isinstance(error, errors.HFValidationError):
        return f"{source} is not a valid repository name; check it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{source} could not be written to the cache ({os.strerror(error.errno)}); set HF_HOME elsewhere"
    reason = (str(error.__cause__ or error).strip().splitlines() or [""])[0][:120]
    return (
        f"the hub cannot be reached for {source} ({reason or type(error).__name__}); check the network, or HF_ENDPOINT"
    )


def _status(error: BaseException | None) -> int | None:
    """Returns the HTTP status of the hub's answer. huggingface_hub wraps that error after a vain look into the
    cache."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__
    return None


def held(source: HubFile) -> str:
    """Returns a message with the files that a repository has instead of the missing one."""
    try:
        files = listing(source)
    except InvalidInput:  # the message is part of an error, which it must not replace
        return f"could not be listed; look at its page, and write {HUB}{source.repository}:FILE"
    candidates = [file for file in files if file.endswith(SUFFIXES)]
    if not candidates:
        return "holds no .safetensors, .pt or .bin file; give another repository"
    return f"holds {', '.join(candidates[:6])}; write {HUB}{source.repository}:FILE"


def _folder(source: HubFile) -> str:
    """Returns the cache folder of a repository: .../snapshots/COMMIT/FILE, links to .../blobs/HASH."""
    return f"models--{source.repository.replace('/', '--')}"


def _commit(path: Path, root: Path, source: HubFile) -> str:
    """Returns the commit of a file in the cache.

    The hub names the commit and the blob in headers, and huggingface_hub makes paths of them unchecked. A blob may
    itself be a link, to the store that all repositories of the cache share.

    Raises:
        InvalidInput: the hub's headers lead out of the cache, or name another commit than the requested one. The file
            is not used, and no link to it is kept.
    """
    folder = root / _folder(source)
    name = Path(os.path.relpath(path, folder))
    blobs = (path.parent / path.readlink()).parent.resolve() if path.is_symlink() else None
    commit = name.parts[1] if name.parts[0] == "snapshots" else ""
    expected = source.revision if source.revision and COMMIT.fullmatch(source.revision) else commit
    if (
        COMMIT.fullmatch(commit)
        and commit == expected
        and blobs in (None, (folder / "blobs").resolve())
        and is_below(path, root)
    ):
        return commit
    if path.is_symlink():
        path.unlink()
    raise InvalidInput(f"{source}: the hub's response points outside the cache, to {path.resolve()}; {DISTRUST}")


def _check(path: Path, source: HubFile, listed: ListedFile | None) -> str:
    """Checks a downloaded file, and returns its SHA-256. Its name in the cache is its hash, which shows damage in
    transfer or on disk."""
    stored, digest = path.resolve(), file_sha256(path)
    blob = path.parent / path.readlink() if path.is_symlink() else None
    key = listed.key if listed is not None else blob.name if blob is not None else ""
    with stored.open("rb") as opened:
        actual = git_id(opened, stored.stat().st_size) if COMMIT.fullmatch(key) else digest
        opened.seek(0)
        is_page = PAGE.match(opened.read(4096)) is not None
    is_damaged = actual != key and (listed is not None or SHA256.fullmatch(key) or COMMIT.fullmatch(key))
    if is_damaged or (is_page and listed is None):
        for part in (stored, blob, path):
            if part is not None:
                part.unlink(missing_ok=True)
        problem, remedy = "damaged on the way or in the cache", "download it again"
        if is_page:
            problem, remedy = "a web page instead of the file", "log in to the network, or look at HF_ENDPOINT"
        file = "" if listed is None else f": {listed.path}"
        raise InvalidInput(f"{source}{file} was {problem}, and is removed; {remedy}")
    return digest
