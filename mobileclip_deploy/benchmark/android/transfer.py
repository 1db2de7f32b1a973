"""Transfer of files to the phone. Pushes a file if its hash differs, whole or not at all, and removes other files."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from mobileclip_deploy.base.files import file_sha256, link_or_copy
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.benchmark.bounded import parsing_device_output
from mobileclip_deploy.errors import RuntimeFailed

INCOMING = ".incoming"
HASHING_SECONDS = 600
DAMAGED = 3


def synchronize(adb: Adb, folder: str, wanted: Mapping[str, Path], *, executable: bool = False) -> int:
    """Makes `folder` on the phone contain these files (relative name -> local file) and no others.

    Files are pushed into another folder, compared by hash there, and then renamed. So an interruption leaves no partial
    file under a name in use.

    Returns:
        Number of pushed files.

    Raises:
        RuntimeFailed: the phone is lost or full, or refuses.
    """
    local = {name: file_sha256(path) for name, path in wanted.items()}
    remote = remote_hashes(adb, folder)
    surplus = sorted(name for name in remote if name not in local)
    if surplus:
        adb.demand(f"cd {quoted(folder)} && rm -f -- {quoted(*surplus)}")
    changed = [name for name, digest in local.items() if remote.get(name) != digest]
    place(adb, folder, {name: wanted[name] for name in changed}, "755" if executable else "644")
    return len(changed)


def remote_hashes(adb: Adb, folder: str) -> dict[str, str]:
    """Returns relative name -> SHA-256 of every file below a folder of the phone. Creates the folder if needed."""
    script = f"mkdir -p -- {quoted(folder)} && cd {quoted(folder)} && find . -type f -exec sha256sum {{}} +"
    listing = adb.demand(script, HASHING_SECONDS)
    pairs = [line.split(None, 1) for line in listing.splitlines() if line.strip()]
    with parsing_device_output(f"the phone {adb.serial}"):
        return {name.strip().removeprefix("*").removeprefix("./"): digest for digest, name in pairs}


def place(adb: Adb, folder: str, files: Mapping[str, Path], mode: str = "644") -> None:
    """Pushes files (relative name -> local file) below a folder, each whole or not at all.

    All files go in one push, since over a slow connection every call takes seconds. adb compresses the push if the
    phone's adb can.

    Raises:
        RuntimeFailed: the phone is lost or full, or refuses, or a file arrived damaged.
    """
    if not files:
        return
    incoming = f"{folder}/{INCOMING}"
    parents = sorted({str(PurePosixPath(folder, name).parent) for name in files})
    adb.demand(f"rm -rf -- {quoted(incoming)} && mkdir -p -- {quoted(*parents)}")
    with temporary_folder() as stage:
        for index, local in enumerate(files.values()):
            link_or_copy(str(local), str(stage / str(index)))
        try:
            adb.push(stage, incoming)
        except RuntimeFailed:
            with suppress(RuntimeFailed):  # a lost phone keeps the files; the next run removes them
                adb.shell(f"rm -rf -- {quoted(incoming)}")
            raise
    script = [f"cd {quoted(incoming)} || exit {DAMAGED}"]
    for index, local in enumerate(files.values()):
        script.append(f'case "$(sha256sum <{index})" in {file_sha256(local)}*) ;; *) exit {DAMAGED};; esac')
    script.append(f"chmod {mode} *")
    script += [f"mv -f -- {index} {quoted(f'{folder}/{name}')}" for index, name in enumerate(files)]
    answer = adb.shell(
        f"( set -e\n{chr(10).join(script)} ); code=$?; rm -rf -- {quoted(incoming)}; exit $code", HASHING_SECONDS
    )
    if answer.code == DAMAGED:
        raise RuntimeFailed(f"a file arrived on the phone {adb.serial} damaged: change the cable and run again")
    if answer.code != 0:
        raise adb.failure(answer)
