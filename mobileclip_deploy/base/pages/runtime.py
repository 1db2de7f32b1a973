"""onnxruntime-web: the files of one release, identified by hash, fetched once by npm or from its registry, and
cached."""

import os
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

from mobileclip_deploy.base.download import download
from mobileclip_deploy.base.files import cache_folder, file_sha256, replacing
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import RuntimeFailed, readable_reason

RUNTIME, VERSION = "onnxruntime-web", "1.30.0"
LICENCE = Path(__file__).with_name("onnxruntime-web.LICENSE.txt")
"""Licence of ONNX Runtime, which npm's package leaves out."""
# The plain build, and the one with WebGPU. The third one, "jsep", is not used: it computes wrong outputs without an
# error (nano's cosine was 0.645).
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
NPM_SECONDS = 600
LARGEST = 100_000_000
"""Limit on the bytes of the package's archive; it has 33 million."""
HOW = (
    f"install npm (Debian: apt-get install npm), name npm's registry in NPM_CONFIG_REGISTRY, or unpack the npm package "
    f"{RUNTIME}@{VERSION} and name its folder in MOBILECLIP_ONNXRUNTIME_WEB"
)


def runtime_folder(progress: Progress) -> Path:
    """Returns the folder with `FILES`: the one that MOBILECLIP_ONNXRUNTIME_WEB names, or this user's cache.

    Raises:
        RuntimeFailed: the package cannot be fetched, or a file is not from that release.
    """
    custom = os.environ.get("MOBILECLIP_ONNXRUNTIME_WEB")
    if custom:
        folder = Path(custom) / "dist" if (Path(custom) / "dist").is_dir() else Path(custom)
        _check(folder, f"MOBILECLIP_ONNXRUNTIME_WEB={custom}: ", "name a folder of that release, or unset the variable")
        return folder
    folder = cache_folder("browser") / f"{RUNTIME}-{VERSION}"
    if not folder.is_dir():
        _fetch(folder, progress)
    _check(folder, "", f"delete {folder}, and it is fetched again")
    return folder


def _fetch(folder: Path, progress: Progress) -> None:
    npm = shutil.which("npm")
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "").rstrip("/")
    if not (npm or registry):
        raise RuntimeFailed(f"{RUNTIME} {VERSION} is missing: {HOW}")
    progress(f"fetching {RUNTIME} {VERSION} {'with npm' if npm else f'from {registry}'}, once")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder() as folder_of_archive, replacing(folder) as partial:
        partial.mkdir()
        _unpack(_packed(npm, folder_of_archive) if npm else _downloaded(registry, folder_of_archive), partial)
        _check(partial, "from npm: ", "try again")


def _unpack(package: Path, folder: Path) -> None:
    try:
        with tarfile.open(package) as archive:
            for name in FILES:
                member = archive.extractfile(f"package/dist/{name}")
                if member is None:
                    raise KeyError(name)
                (folder / name).write_bytes(member.read())
    except KeyError as error:
        raise RuntimeFailed(f"{RUNTIME} {VERSION} from npm holds no dist/{name}: try again, or {HOW}") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = readable_reason(error)
        raise RuntimeFailed(f"npm's {RUNTIME} {VERSION} is damaged ({reason}): try again") from error


def _packed(npm: str, place: Path) -> Path:
    """Fetches the package's archive by npm, with the user's registry, proxy and certificates."""
    command = [npm, "pack", f"{RUNTIME}@{VERSION}", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=NPM_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailed(f"npm fetched no {RUNTIME} within {NPM_SECONDS} s: try again, or {HOW}") from error
    archives = list(place.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeFailed(f"npm cannot fetch {RUNTIME} {VERSION} ({errors[-1]}): is its registry reachable?")
    return archives[0]


def _downloaded(registry: str, place: Path) -> Path:
    """Fetches the package's archive from the user's registry, without npm. The caller checks its files against
    `FILES`."""
    path = place / f"{RUNTIME}.tgz"
    try:
        download(f"{registry}/{RUNTIME}/-/{path.stem}-{VERSION}.tgz", path, LARGEST)
    except OSError as error:
        raise RuntimeFailed(f"{registry} does not serve {RUNTIME} {VERSION} ({error}): {HOW}") from error
    return path


def _check(folder: Path, prefix: str, remedy: str) -> None:
    for name, digest in FILES.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != digest:
            raise RuntimeFailed(f"{prefix}{file} is missing or not from {RUNTIME} {VERSION}; {remedy}")
