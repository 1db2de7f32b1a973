"""Checkpoints from the Hugging Face hub: `hf:owner/name[@revision][:file]`, or a variant's usual repository.

Cache, resuming after a dropped connection, the token and offline mode are huggingface_hub's own, with its environment
variables (HF_HOME, HF_TOKEN, HF_HUB_OFFLINE, HF_ENDPOINT).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.base.files.names import is_below
from mobileclip_deploy.errors import CheckpointError, UsageError, import_optional
from mobileclip_deploy.network.checkpoints.weights_files import (
    CONFIG,
    HUB,
    INDEX_SUFFIX,
    MODEL_CONFIG,
    PREPROCESSOR,
    TOKENIZER_FILE,
)
from mobileclip_deploy.network.model.variants import Variant, load_variant, variant_cards

REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^:@\s]+))?(:(?P<file>[^\s]+))?")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# A web page sent in place of weights, by a network's login or by a false mirror.
PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
# Files taken from a repository if none is named, the preferred first; a lone .pt or .safetensors comes after these.
USUAL_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".bin")

Announce = Callable[[str], None]
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


def usual_source(variant: str) -> HubFile:
    """Returns the published file of a variant's checkpoint, from its card.

    Raises:
        UsageError: unknown variant, or its card names no source.
    """
    card = load_variant(variant)
    if not card.sources:
        raise UsageError(f"{card.name} is not published on the hub; give `checkpoint`")
    source = card.sources[0]
    return HubFile(source.repository, source.revision, source.file, source.sha256)


def fetch(
    source: HubFile, *, announce: Announce | None = None, progress: Progress | None = None, cache: Path | None = None
) -> Fetched:
    """Downloads a checkpoint, or takes it from the cache.

    Args:
        source: from `parse` or `usual_source`.
        announce: called with one line that names the licence of the weights, before anything is downloaded; raising
            there stops it.
        progress: called with bytes done and bytes in all (None when unknown).
        cache: a folder other than huggingface_hub's own.

    Raises:
        CheckpointError: hub unreachable, no such repository, revision or file, no access, disk full, a page for
            browsers instead of weights, a path outside of the cache, or another sha256 than expected. No partial file
            is kept.
        DependencyMissing: huggingface_hub is not installed.
    """
    hub = import_optional("huggingface_hub", "mobileclip-deploy[hub]")
    if announce is not None:
        announce(_licence(source))
    with quiet_hub():
        try:
            if source.file is None:
                source = replace(source, file=_usual_file(hub, source))
            path = _download(hub, source, cache, progress)
            for companion in _beside(source):
                with contextlib.suppress(hub.errors.EntryNotFoundError):
                    _download(hub, replace(source, file=companion), cache)
        except CheckpointError:
            raise
        except Exception as error:  # huggingface_hub passes on whatever its HTTP client and the disk raise
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                # Free the space again: before 2.0 huggingface_hub leaves its part, to resume later.
                for rest in (_folder(hub, source, cache) / "blobs").glob("*.incomplete"):
                    rest.unlink(missing_ok=True)
            raise CheckpointError(explain(hub, error, source)) from error
    commit = _commit(path, _folder(hub, source, cache), source)
    digest = file_sha256(path)
    _check(path, digest, source)
    return Fetched(path, source.repository, commit, digest)


def _download(hub: Any, source: HubFile, cache: Path | None, progress: Progress | None = None) -> Path:
    return Path(
        hub.hf_hub_download(
            source.repository,
            source.file,
            revision=source.revision,
            cache_dir=cache,
            endpoint=os.environ.get("HF_ENDPOINT"),
            tqdm_class=_bar(progress),
        )
    )


def _licence(source: HubFile) -> str:
    card = published_card(source)
    if card is None:
        return f"{source.repository}: its licence is not known to this package; read it on the repository's page"
    return f"{source.repository}: {card.licence.name}" + (f", {card.licence.url}" if card.licence.url else "")


def published_card(source: HubFile | Path) -> Variant | None:
    """Returns the variant that is published in the repository. None if no variant is, and for a local file."""
    repository = source.repository if isinstance(source, HubFile) else None
    return next((card for card in variant_cards() if repository in {s.repository for s in card.sources}), None)


def _beside(source: HubFile) -> Iterator[str]:
    """Yields names of files with data that the weights lack: preprocessing, activation, a vocabulary. An unknown
    repository may have any of them."""
    from mobileclip_deploy.network.checkpoints import siglip  # imports torch: a wrong reference is refused before it

    card = published_card(source)
    if card is None:
        yield CONFIG
    layouts = (
        ()
        if card is None
        else {published.layout for published in card.sources if published.repository == source.repository}
    )
    if card is None or siglip.NAME in layouts:
        yield from (MODEL_CONFIG, PREPROCESSOR)
    if card is None or card.tokenizer.kind is not None:
        yield TOKENIZER_FILE


def _usual_file(hub: Any, source: HubFile) -> str:
    card = published_card(source)
    if card is not None:
        return next(published.file for published in card.sources if published.repository == source.repository)
    if hub.constants.HF_HUB_OFFLINE:
        raise CheckpointError(f"{source}: its files cannot be listed offline; write {HUB}{source.repository}:FILE")
    files = _files(hub, source)
    for usual in USUAL_FILES:
        if usual in files:
            return usual
    if any(file.endswith(INDEX_SUFFIX) for file in files):
        raise CheckpointError(
            f"{source.repository} has a checkpoint in shards, which are not downloaded here; download them and their "
            "index into a folder, and give the folder"
        )
    candidates = [file for file in files if file.endswith(SUFFIXES)]
    if len(candidates) == 1:
        return candidates[0]
    raise CheckpointError(f"{source.repository} {_held(hub, source)}")


def _files(hub: Any, source: HubFile) -> list[str]:
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    return list(api.list_repo_files(source.repository, revision=source.revision))


def _held(hub: Any, source: HubFile) -> str:
    """Returns a message with the files that a repository has instead of the missing one."""
    try:
        files = _files(hub, source)
    except Exception:  # the message is part of an error, which it must not replace
        return f"could not be listed; look at its page, and write {HUB}{source.repository}:FILE"
    candidates = [file for file in files if file.endswith(SUFFIXES)]
    if not candidates:
        return "holds no .safetensors, .pt or .bin file; give another repository"
    return f"holds {', '.join(candidates[:6])}; write {HUB}{source.repository}:FILE"


def _bar(progress: Progress | None) -> type:
    """Returns a silent replacement of tqdm that reports to a function."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.reported, self.whole = options.get("initial") or 0, options.get("total")
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> None:
            self.reported += int(n or 0)
            if progress is not None:
                progress(self.reported, self.whole)

    return Bar


@contextmanager
def quiet_hub() -> Iterator[None]:
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


def explain(hub: Any, error: Exception, source: HubFile) -> str:
    """Returns an exception of huggingface_hub, its HTTP client or the disk as one line that says what to do."""
    errors, status = hub.errors, _status(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {source} was not kept; make room, or set HF_HOME to another disk"
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"no access to {source.repository}: accept its terms on its page, then set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{source.repository} has no revision {source.revision!r}; leave @revision out for the newest"
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return f"{source.repository} has no file {source.file!r}; it {_held(hub, source)}"
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


def _folder(hub: Any, source: HubFile, cache: Path | None) -> Path:
    """Returns the cache folder of a repository: .../snapshots/COMMIT/FILE, links to .../blobs/HASH."""
    return Path(cache or hub.constants.HF_HUB_CACHE) / f"models--{source.repository.replace('/', '--')}"


def _commit(path: Path, folder: Path, source: HubFile) -> str:
    """Returns the commit of a file in the cache.

    The hub names the commit and the blob in headers, and huggingface_hub makes paths of them unchecked.

    Raises:
        CheckpointError: the hub's headers lead out of the cache. The file is not used, and no link to it is kept.
    """
    name = Path(os.path.relpath(path, folder))
    if is_below(path, folder) and name.parts[0] == "snapshots" and COMMIT.fullmatch(name.parts[1]):
        return name.parts[1]
    if path.is_symlink():
        path.unlink()
    raise CheckpointError(
        f"{source}: the hub's response points outside the cache, to {path.resolve()}; set HF_ENDPOINT to a hub you "
        "trust"
    )


def _check(path: Path, digest: str, source: HubFile) -> None:
    """Checks a downloaded file. Large files are stored under their sha256, which shows damage in transfer or on
    disk."""
    stored = path.resolve()
    with stored.open("rb") as opened:
        is_page = PAGE.match(opened.read(4096)) is not None
    if is_page:
        stored.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"{source} was a web page instead of the file, and is removed; log in to the network, or look at "
            "HF_ENDPOINT"
        )
    if SHA256.fullmatch(stored.name) and stored.name != digest:
        stored.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise CheckpointError(f"{source} was damaged on the way or in the cache, and is removed; download it again")
    if source.sha256 is not None and source.sha256 != digest:
        raise CheckpointError(
            f"{source} changed on the hub: its sha256 is {digest}, not {source.sha256}; "
            "name the @revision you trust, or the new sha256"
        )
