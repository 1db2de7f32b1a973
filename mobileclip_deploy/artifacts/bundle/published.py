"""Bundles on the Hugging Face hub: `hf:OWNER/NAME@COMMIT[:FOLDER]`, or the lock file that `publish` wrote."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mobileclip_deploy.artifacts.bundle.manifest import MANIFEST
from mobileclip_deploy.artifacts.bundle.opening import MOST_FILES, Bundle
from mobileclip_deploy.base.files import cache_folder, file_sha256, files_of, read_model, replacing
from mobileclip_deploy.base.files.names import PlainPath, Sha256, plain_path
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, UsageError, reraising
from mobileclip_deploy.network.checkpoints.hub_reader import (
    COMMIT,
    HubFile,
    commit_of,
    download,
    from_hub,
    listing,
    parse,
)
from mobileclip_deploy.network.checkpoints.weights_files import HUB

MOST_BYTES = 1 << 36
"""Limit of a downloaded bundle: the largest variant in float32 takes a tenth."""
OF_THE_HUB = ("README.md", ".gitattributes")
"""Files of a repository that are not part of the bundle at its root."""


class LockedFile(BaseModel, frozen=True, extra="forbid"):
    """A file of a commit."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Lock(BaseModel, frozen=True, extra="forbid"):
    """What `publish` uploaded: a commit, and each of its files with the hash. Paths are relative to the repository."""

    schema_version: Literal[1] = 1
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    bundles: Annotated[tuple[PlainPath | Literal["."], ...], Field(min_length=1, max_length=100)]
    files: Annotated[dict[PlainPath, LockedFile], Field(max_length=MOST_FILES)]


def fetch_bundle(reference: str, announce: Callable[[str], None]) -> Path:
    """Downloads a published bundle into this user's cache, once per commit, and returns its folder.

    Args:
        reference: `hf:OWNER/NAME@COMMIT[:FOLDER]`, or the path of a lock. A lock of several bundles needs `:FOLDER`
            of the first form.
        announce: receives one line on what is downloaded. Without @COMMIT, or with a branch, it names the commit.

    Raises:
        UsageError: the reference has another form, or the repository has several bundles.
        InvalidInput: the hub cannot be reached, the commit has no bundle there, or a file differs from the lock.
        DependencyMissing: huggingface_hub is not installed.
    """
    lock = None if reference.startswith(HUB) else read_model(Lock, Path(reference))
    if lock is not None:
        if len(lock.bundles) > 1:
            options = ", ".join(f"{HUB}{lock.repository}@{lock.commit}:{name}" for name in lock.bundles[:3])
            raise UsageError(f"{reference} has several bundles; give one of them: {options}")
        source = HubFile(lock.repository, lock.commit, None if lock.bundles[0] == "." else lock.bundles[0])
    else:
        source = parse(reference)
    if source.revision is None or not COMMIT.fullmatch(source.revision):
        source = replace(source, revision=commit_of(source))
        announce(f"{reference} is commit {source.revision} today; give {source} to get the same files again")
    folder = cache_folder("bundles") / source.repository.replace("/", "--") / str(source.revision)
    path = folder / "files" / source.file if source.file else folder / "root"
    if not path.is_dir():
        _download(source, path, lock, announce)
    elif lock is not None:
        _check(path, source, lock, f"remove {path} to download it again")
    return path


def _download(source: HubFile, path: Path, lock: Lock | None, announce: Callable[[str], None]) -> None:
    """Downloads a bundle's files to `path`: all of the repository, or of one folder in it.

    A bundle at the root is stored without the folders of others.
    """
    listed = listing(source)
    prefix = f"{source.file}/" if source.file else ""
    others = [name.removesuffix(MANIFEST) for name in listed if name.endswith(f"/{MANIFEST}")] if not prefix else []
    if f"{prefix}{MANIFEST}" not in listed:
        hint = "; give one of its bundles: " + ", ".join(f"{source}:{name[:-1]}" for name in others[:3])
        raise InvalidInput(f"{source} is not a bundle{hint if others else ': it has no ' + MANIFEST}")
    own = (name for name in listed if name.startswith(prefix) and not name.startswith(tuple(others)))
    names = [name for name in own if name not in OF_THE_HUB]
    with reraising(f"{source} is not a bundle: {REASON}", Malformed):
        for name in names:
            plain_path(name)
    size = sum(listed[name].bytes for name in names)
    if size > MOST_BYTES:
        raise InvalidInput(f"{source} is not a bundle: its files have {size:,} bytes")
    announce(f"downloading {len(names)} files of {source} ({size / 1e6:,.1f} MB)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as staging:
        staging.mkdir()
        for name in names:
            with from_hub(source) as api:
                stored = download(api, source, listed[name]).path
            target = staging / name.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, target)
        if lock is not None:
            _check(staging, source, lock, "publish again, or remove the lock")
        Bundle.open(staging)


def _check(folder: Path, source: HubFile, lock: Lock, remedy: str) -> None:
    """Refuses a bundle whose files are not exactly those of the lock."""
    prefix = f"{source.file}/" if source.file else ""
    expected = {name: file.sha256 for name, file in lock.files.items() if name.startswith(prefix)}
    for name in {*expected, *(prefix + file.relative_to(folder).as_posix() for file in files_of(folder))}:
        stored = folder / name.removeprefix(prefix)
        if name not in OF_THE_HUB and (not stored.is_file() or file_sha256(stored) != expected.get(name)):
            raise InvalidInput(f"{source}: {name} is not the file in the lock; {remedy}")
