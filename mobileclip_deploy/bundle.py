"""The bundle: a folder with artifacts and a manifest that holds everything a later step needs."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mobileclip_deploy.destinations import check_bundle_destination
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.parity import Check
from mobileclip_deploy.precision import PRECISIONS
from mobileclip_deploy.provenance import Provenance, file_sha256
from mobileclip_deploy.targets.base import Attachment, TensorInfo
from mobileclip_deploy.towers import TowerName
from mobileclip_deploy.variants import Preprocess, TokenizerSpec

__all__ = [
    "MANIFEST",
    "Bundle",
    "ClassifierEntry",
    "Manifest",
    "TowerEntry",
    "artifact_bytes",
    "artifact_sha256",
    "staged_bundle",
]

MANIFEST = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorEntry(_Frozen):
    """An artifact's input or output. A dimension of 0 is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None
    colour: str | None = None
    normalised: bool | None = None

    @classmethod
    def of(cls, info: TensorInfo) -> TensorEntry:
        return cls(**asdict(info))


class AttachmentEntry(_Frozen):
    """A file beside an artifact. `tolerance`: by how much one value of an output may differ from those in the file."""

    file: str
    sha256: str
    bytes: int
    tolerance: float | None = None

    @classmethod
    def of(cls, attachment: Attachment, bundle: Path) -> AttachmentEntry:
        """Of a file inside a bundle that is being written."""
        path = attachment.path
        return cls(
            file=path.relative_to(bundle).as_posix(),
            sha256=artifact_sha256(path),
            bytes=artifact_bytes(path),
            tolerance=attachment.tolerance,
        )


class TowerEntry(_Frozen):
    """One artifact: `file` is relative to the bundle; a package's bytes and hash are those of the files in it.

    `function`: of the file, where it holds several (a Core ML package of both towers); its bytes and hash are then
    those of the whole file, in both entries. `contents`: delegates, operators outside of them and bytes by kind, for
    targets that tell. `attachments`: what was asked for beside the artifact, by kind (`bundled_program`, `etrecord`).
    """

    file: str
    function: str | None = None
    sha256: str
    bytes: int
    precision: str
    input: TensorEntry
    output: TensorEntry
    contents: dict[str, dict[str, int]] | None = None
    attachments: dict[str, AttachmentEntry] | None = None

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, name: str) -> str:
        if name not in PRECISIONS:
            raise ValueError(f"this version does not know the precision {name!r}")
        return name


class PreprocessEntry(Preprocess):
    """The variant's preprocessing, and where mean and std are applied: inside the graph."""

    where: Literal["graph"] = "graph"


class ClassifierEntry(_Frozen):
    """What a classifier tells apart, in the order of its probabilities; its bundle holds no text tower."""

    labels: tuple[str, ...] = Field(min_length=2)
    template: str


class Manifest(_Frozen):
    """manifest.json. `embedding_space`: embeddings of different ids must not be compared."""

    schema_version: Literal[1] = 1
    variant: str
    embedding_space: str
    checkpoint: Provenance
    target: str
    options: dict[str, str] = {}
    towers: dict[TowerName, TowerEntry] = Field(min_length=1)
    classifier: ClassifierEntry | None = None
    embed_dim: int
    logit_scale: float
    template: str
    tokenizer: TokenizerSpec
    preprocess: PreprocessEntry
    parity: tuple[Check, ...] = ()
    environment: dict[str, str]

    def to_json(self) -> str:
        """Stable text: the same manifest gives the same bytes."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read and check a bundle: manifest, and presence, size and hash of every artifact and of what is beside it.

        Raises:
            InvalidInput: not a bundle, of another schema version, or changed since it was written.
        """
        path = Path(path)
        bundle = cls(path, _read_manifest(path))
        checked: set[tuple[str, int, str]] = set()
        for tower, entry in bundle.manifest.towers.items():
            if (entry.file, entry.bytes, entry.sha256) not in checked:
                bundle._check_file(entry, bundle.artifact(tower))
            checked.add((entry.file, entry.bytes, entry.sha256))
            for attachment in (entry.attachments or {}).values():
                bundle._check_file(attachment, bundle._inside(attachment.file))
        return bundle

    def artifact(self, tower: TowerName) -> Path:
        """Path of a tower's artifact.

        Raises:
            UsageError: the bundle does not hold the tower.
            InvalidInput: the manifest points outside the bundle.
        """
        if tower not in self.manifest.towers:
            raise UsageError(f"{self.path} holds no {tower} tower; export it with --tower both")
        return self._inside(self.manifest.towers[tower].file)

    def _inside(self, file: str) -> Path:
        path = self.path / file
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise InvalidInput(f"{self.path}: {MANIFEST} points outside the bundle")
        return path

    def _check_file(self, entry: TowerEntry | AttachmentEntry, path: Path) -> None:
        if not path.exists():
            raise InvalidInput(f"{self.path}: {entry.file} is missing; export the bundle again")
        if artifact_bytes(path) != entry.bytes or artifact_sha256(path) != entry.sha256:
            raise InvalidInput(f"{self.path}: {entry.file} is not the file that was exported; export the bundle again")

    @property
    def golden(self) -> Path:
        """The stored inputs and reference embeddings."""
        return self.path / "golden.safetensors"

    @property
    def bytes(self) -> int:
        """Size of the artifacts together."""
        return sum({entry.file: entry.bytes for entry in self.manifest.towers.values()}.values())


def _read_manifest(path: Path) -> Manifest:
    try:
        data: Any = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return Manifest.model_validate(data)
    except FileNotFoundError:
        what = "no such folder" if not path.exists() else f"no {MANIFEST} in it"
        raise InvalidInput(f"{path} is not a bundle: {what}") from None
    except NotADirectoryError:
        raise InvalidInput(f"{path} is a file, not a bundle (a folder that `export` wrote)") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path}/{MANIFEST}: {where}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}/{MANIFEST} cannot be read: {error}") from error


def artifact_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a package."""
    return sum(file.stat().st_size for file in _files(path))


def artifact_sha256(path: Path) -> str:
    """Hash of a file; of a package, the hash over its files' relative names and hashes in order."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


@contextlib.contextmanager
def staged_bundle(path: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    What a killed process left behind is removed on the next export of the same bundle.

    Raises:
        UsageError: see `check_bundle_destination`.
    """
    _recover(path)
    check_bundle_destination(path, MANIFEST, force)
    absent = [folder for folder in path.absolute().parents if not folder.exists()]
    staging = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another output with -o") from error
        yield staging
        _take_place(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in absent:  # of a failed export not even the folders above it stay
            with contextlib.suppress(OSError):
                folder.rmdir()


def _take_place(staging: Path, path: Path) -> None:
    replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"
    try:
        if path.exists():
            path.rename(replaced)
        staging.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _recover(path: Path) -> None:
    """Clear away what a killed export left; a bundle that it had set aside and not yet replaced comes back."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*-*"):
        pid = folder.name.rpartition("-")[2]
        if not pid.isdigit() or _alive(int(pid)):
            continue
        if ".replaced-" in folder.name and not path.exists():
            folder.rename(path)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
