"""The archive of ready runners: fetched from the release that release.json pins, or a local file.

An archive is verified, and unpacked into the cache. release.json contains the GitHub repository (`owner/name`) with the
release, the runners' version, and size and SHA-256 of the archive. Without a repository nothing is fetched.
"""

import lzma
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from mobileclip_deploy.base.download import download
from mobileclip_deploy.base.files import cache_folder, file_sha256, replacing
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import LONGEST_TEXT, Sha256
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.ready import CONTENTS, Contents
from mobileclip_deploy.benchmark.job import Count, Frozen, Identifier
from mobileclip_deploy.errors import REASON, RuntimeFailed, reraising

SERVER = "https://github.com"
MOST_BYTES = 200 << 20
"""Maximum size of all files of an archive together; measured: 8 million bytes."""
HOW_TO_GET = (
    "build them in a checkout: on Debian `make android-runners`, on a Mac or Windows with Docker `docker run --rm "
    '--platform linux/amd64 -v "$PWD":/work -w /work debian:13 android_harness/runners/build.sh`; then add '
    "`runners` and the .zip in dist/. Or build the harness with the NDK (docs/devices.md)"
)


class Release(Frozen):
    """The archive that belongs to this version of the toolkit.

    Args:
        repository: `owner/name` on GitHub. Empty if the archive is not published.
        version: the runners' version, which is not the toolkit's.
        bytes: size of the archive.
    """

    repository: Annotated[str, Field(pattern=r"^([A-Za-z0-9-]+/[A-Za-z0-9._-]+)?$", max_length=LONGEST_TEXT)]
    version: Identifier
    bytes: Count
    sha256: Sha256

    @property
    def address(self) -> str:
        """URL of the archive."""
        file = f"mobileclip-deploy-android-runners-{self.version}.zip"
        return f"{SERVER}/{self.repository}/releases/download/android-runners-{self.version}/{file}"


@cache
def pinned_release() -> Release:
    """Reads release.json."""
    return parse_model(Release, Path(__file__).with_suffix(".json").read_bytes())


def kept_release() -> Path | None:
    """Returns the folder of the pinned release. None if the release was not fetched before."""
    folder = _folder(pinned_release().sha256)
    return folder if (folder / CONTENTS).is_file() else None


def released_runners(progress: Progress) -> Path:
    """Returns the folder of the pinned release's files. Fetches them if they are missing or damaged.

    Raises:
        RuntimeFailed: release.json names no repository, the server cannot be reached, or it sends another file.
    """
    release = pinned_release()
    folder = _folder(release.sha256)
    if _is_whole(folder):
        return folder
    if not release.repository:
        raise RuntimeFailed(
            "no runners for Android phones are installed, and no repository to fetch them from is configured: "
            f"{HOW_TO_GET}"
        )
    with temporary_folder() as place:
        archive = place / "runners.zip"
        _download(release, archive, progress)
        return _unpack(archive, folder)


def unpacked_runners(archive: Path) -> Path:
    """Returns the folder of an archive's files. Unpacks them into the cache if they are not there.

    Raises:
        RuntimeFailed: the file does not exist, is not an archive of runners, or is damaged.
    """
    with reraising(f"{archive} cannot be read ({REASON}): {HOW_TO_GET}", OSError, into=RuntimeFailed):
        folder = _folder(file_sha256(archive))
        return folder if _is_whole(folder) else _unpack(archive, folder)


def _folder(digest: str) -> Path:
    return cache_folder("android-runners") / f"runners-{digest[:16]}"


def _is_whole(folder: Path) -> bool:
    """Returns whether the folder contains all of the archive's files, undamaged."""
    try:
        contents = parse_model(Contents, (folder / CONTENTS).read_bytes())
        return all(file_sha256(folder / name) == digest for name, digest in contents.files.items())
    except (OSError, ValidationError):
        return False


def _download(release: Release, into: Path, progress: Progress) -> None:
    address, size = release.address, f"{release.bytes / 1e6:.1f} MB"
    try:
        count = download(
            address, into, release.bytes, lambda done: progress(f"fetching the runners: {done / 1e6:.1f} of {size}")
        )
    except OSError as error:
        raise RuntimeFailed(f"{address} cannot be fetched ({error}): try again, or {HOW_TO_GET}") from error
    if count != release.bytes or file_sha256(into) != release.sha256:
        raise RuntimeFailed(
            f"{address} is not the expected file ({count:,} bytes received, of {release.bytes:,} with SHA-256 "
            f"{release.sha256}): try again; if it happens again, do not use it and report it to the project"
        )


def _unpack(archive: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    message = f"{archive} is not an archive of runners ({REASON}): {HOW_TO_GET}"
    # zipfile raises RuntimeError for an encrypted member, and its compression module's errors for a damaged member.
    kinds = (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError, struct.error, zlib.error, lzma.LZMAError)
    with reraising(message, *kinds, into=RuntimeFailed), zipfile.ZipFile(archive) as opened:
        if sum(member.file_size for member in opened.infolist()) > MOST_BYTES:
            raise RuntimeFailed(f"{archive} has more than an archive of runners can have: {HOW_TO_GET}")
        contents = parse_model(Contents, opened.read(CONTENTS))
        with replacing(folder) as partial:
            partial.mkdir()
            for name in (CONTENTS, *contents.files):
                (partial / name).write_bytes(opened.read(name))
            if not _is_whole(partial):
                raise RuntimeFailed(
                    f"{archive} is damaged: the hash of a file in it differs from its {CONTENTS}. {HOW_TO_GET}"
                )
    return folder
