"""What has to lie on the phone: pushed where its hash differs, whole or not at all; what is not needed is removed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.benchmark.bounded import understood
from mobileclip_deploy.errors import RuntimeFailed

PART = ".part"
HASHING_SECONDS = 600
DAMAGED = 3


def synchronize(adb: Adb, folder: str, wanted: Mapping[str, Path], *, executable: bool = False) -> int:
    """Make `folder` on the phone hold these files (relative name -> local file) and no others.

    A file is pushed under another name, its hash compared there, and then renamed: an interruption leaves no half file
    under a name that is used.

    Returns:
        How many files were pushed.

    Raises:
        RuntimeFailed: the phone is lost, full or refuses.
    """
    local = {name: file_sha256(path) for name, path in wanted.items()}
    remote = remote_hashes(adb, folder)
    surplus = sorted(name for name in remote if name not in local)
    if surplus:
        adb.demand(f"cd {quoted(folder)} && rm -f -- {quoted(*surplus)}")
    changed = [name for name, digest in local.items() if remote.get(name) != digest]
    parents = sorted({str(PurePosixPath(folder, name).parent) for name in changed})
    if parents:
        adb.demand(f"mkdir -p -- {quoted(*parents)}")
    for name in changed:
        place(adb, wanted[name], f"{folder}/{name}", "755" if executable else "644")
    return len(changed)


def remote_hashes(adb: Adb, folder: str) -> dict[str, str]:
    """Relative name -> SHA-256 of every file below a folder of the phone, which is created if it is not there."""
    script = f"mkdir -p -- {quoted(folder)} && cd {quoted(folder)} && find . -type f -exec sha256sum {{}} +"
    listing = adb.demand(script, HASHING_SECONDS)
    pairs = [line.split(None, 1) for line in listing.splitlines() if line.strip()]
    with understood(f"the phone {adb.serial}"):
        return {name.strip().removeprefix("*").removeprefix("./"): digest for digest, name in pairs}


def place(adb: Adb, local: Path, remote: str, mode: str = "644") -> None:
    """Push a file into a folder that is there, whole or not at all.

    Raises:
        RuntimeFailed: the phone is lost, full or refuses, or the file arrived damaged.
    """
    part, digest = remote + PART, file_sha256(local)
    try:
        adb.push(local, part)
    except RuntimeFailed:
        with suppress(RuntimeFailed):  # a phone that is gone keeps the part; the next run removes it
            adb.shell(f"rm -f -- {quoted(part)}")
        raise
    whole = f"chmod {mode} {quoted(part)} && mv -f -- {quoted(part)} {quoted(remote)}"
    script = (
        f'case "$(sha256sum <{quoted(part)})" in {digest}*) {whole};; *) rm -f -- {quoted(part)}; exit {DAMAGED};; esac'
    )
    answer = adb.shell(script, HASHING_SECONDS)
    if answer.code == DAMAGED:
        raise RuntimeFailed(f"{local.name} arrived on the phone {adb.serial} damaged: change the cable and run again")
    if answer.code != 0:
        raise adb.failure(answer)
