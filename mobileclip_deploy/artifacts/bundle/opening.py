"""A bundle on disk. Opening it reads the manifest, and checks every artifact against its hash.

A bundle is whole or absent: it is written to a folder next to its path, and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.manifest import MANIFEST, AttachmentEntry, Manifest, Measurements, TowerEntry
from mobileclip_deploy.base.arguments import checked
from mobileclip_deploy.base.files import (
    StrPath,
    artifact_bytes,
    artifact_sha256,
    check_bundle_destination,
    read_json,
    read_model,
    read_regular,
    replacing,
)
from mobileclip_deploy.base.files.json_text import RepeatedKey, check_keys
from mobileclip_deploy.base.files.names import is_below, with_fields, within
from mobileclip_deploy.base.files.staging import clear_leftovers
from mobileclip_deploy.base.files.writers import made_folder
from mobileclip_deploy.errors import REASON, InvalidInput, UsageError, reraising, suggestion
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check

# Limit of embedding dimension, tokens, pixels: no published one is above 1024.
LARGEST_SIZE = 4096
MOST_FILES = 10_000
# Limits of the files next to the artifacts: a tokenizer.json takes 2 MB.
TEXTS, TEXT_BYTES = {".json", ".md", ".txt"}, 8 << 20
VOCABULARY, VOCABULARY_BYTES = "tokenizer/tokenizer.json", 1 << 28
# Parsing a vocabulary takes 60 ms: `verify` does it, opening a bundle does not.
OPENED_BYTES = 1 << 16

FOREIGN = (".onnx", ".tflite", ".pte", ".mlpackage", ".mlmodel", ".aimodel", ".mlxfn")
"""Suffixes of models that other tools write, too."""
SEARCH_LOG = "smallest.json"
"""Log of a search for the smallest bundle, stored in the bundle that it found."""

ROUNDING = "rounding.safetensors"
"""Biases that learned rounding moved, float32, by tower and name; in the bundle if there are any towers."""

MERGES = "tokenizer/merges.txt"
AXES = "axes.safetensors"
"""The axes that both projections were cut to, float32 [D, N]; in a bundle of smaller embeddings."""
RELEVANCE = "relevance.safetensors"
"""Background pictures and the threshold of a match that was learned on them; in the bundle if requested."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    @checked
    def open(cls, path: StrPath) -> Bundle:
        """Reads and checks a bundle: manifest, and presence, size and hash of every artifact and attachment.

        Raises:
            InvalidInput: not a bundle, of another schema version, or changed since it was written.
        """
        bundle = cls.open_unchecked(path)
        checked: set[tuple[str, int, str]] = set()
        for tower, entry in bundle.manifest.towers.items():
            if (entry.file, entry.bytes, entry.sha256) not in checked:
                bundle._check_file(entry, bundle.artifact(tower))
            checked.add((entry.file, entry.bytes, entry.sha256))
        for attachment in bundle.manifest.attached_files:
            bundle._check_file(attachment, bundle._inside(attachment.file))
        bundle.check_keys(OPENED_BYTES)
        return bundle

    @classmethod
    @checked
    def open_unchecked(cls, path: StrPath) -> Bundle:
        """Reads a bundle without checking its artifacts against their hashes; fast at any size.

        Raises:
            InvalidInput: not a bundle, of another schema version, or with something in it that must not be read.
        """
        manifest = _read_manifest(Path(path))
        _check_files(Path(path))
        return cls(Path(path), _with_vocabulary(Path(path), manifest))

    @classmethod
    def of(cls, bundle: Bundle | StrPath) -> Bundle:
        """Returns a public function's argument as a bundle: an open one as it is, or the one at a path.

        Raises:
            InvalidInput: as `open`.
            UsageError: it is neither.
        """
        return bundle if isinstance(bundle, Bundle) else cls.open(bundle)

    def artifact(self, tower: TowerName) -> Path:
        """Returns the path of a tower's artifact.

        Raises:
            UsageError: the bundle does not have the tower.
            InvalidInput: the manifest points outside the bundle.
        """
        if tower not in self.manifest.towers:
            raise UsageError(f"{self.path} holds no {tower} tower; export again with `tower='both'`")
        return self._inside(self.manifest.towers[tower].file)

    def _inside(self, file: str) -> Path:
        return within(self.path, file)

    def _check_file(self, entry: TowerEntry | AttachmentEntry, path: Path) -> None:
        if not path.exists():
            raise InvalidInput(f"{self.path}: {entry.file} is missing; export the bundle again")
        if artifact_bytes(path) != entry.bytes or artifact_sha256(path) != entry.sha256:
            raise InvalidInput(f"{self.path}: {entry.file} is not the file that was exported; export the bundle again")

    def check_keys(self, largest: int = VOCABULARY_BYTES) -> None:
        """Refuses a JSON file of at most `largest` bytes in which an object has a key twice.

        Raises:
            InvalidInput: see there.
        """
        for path in sorted(self.path.rglob("*.json")):
            if path.is_file() and path.stat().st_size <= largest:
                with reraising(f"{path} cannot be used: {REASON}; export the bundle again", OSError, RepeatedKey):
                    check_keys(read_regular(path, largest))

    @property
    def four_bit(self) -> dict[str, frozenset[str]]:
        """Layers that a search stored at 4 bits, by tower (precision "mixed"); empty if no search wrote the bundle.

        Raises:
            InvalidInput: the search's log is damaged.
        """
        log = self.path / SEARCH_LOG
        if not log.exists():
            return {}
        message = f"{log} cannot be read: {REASON}; export the bundle again"
        with reraising(message, OSError, ValueError, LookupError, AttributeError, TypeError):
            chosen = read_json(log)["trials"][-1]["four_bit"]
            return {tower: frozenset(names) for tower, names in chosen.items()}

    @property
    def floats(self) -> Path:
        """File of the tensors that learned rounding changed, except the weights on grids."""
        rounding = self.manifest.rounding
        return self._inside(ROUNDING if rounding is None else rounding.floats.file)

    @property
    def axes(self) -> Path:
        """File of the axes that the embeddings of the checkpoint were cut to."""
        axes = self.manifest.axes
        return self._inside(AXES if axes is None else axes.file)

    @property
    def measurements(self) -> Measurements | None:
        """Measurements of the export. None for a bundle that was not verified, or of schema version 1.

        Raises:
            InvalidInput: the file is missing or damaged.
        """
        if self.manifest.measurements is None:
            return None
        return read_model(Measurements, self._inside(self.manifest.measurements), advice="; export the bundle again")

    @property
    def parity(self) -> tuple[Check, ...]:
        """Checks of the export, with their figures; empty if it was not verified."""
        measurements = self.measurements
        return self.manifest.parity if measurements is None else measurements.checks

    @property
    def golden(self) -> Path:
        """File of the stored inputs and reference embeddings."""
        return self.path / "golden.safetensors"

    @property
    def bytes(self) -> int:
        """Size of all artifacts."""
        return sum({entry.file: entry.bytes for entry in self.manifest.towers.values()}.values())


def _read_manifest(path: Path) -> Manifest:
    if path.suffix in FOREIGN and path.exists() and not (path / MANIFEST).exists():
        use = "check it with `audit` and `checkpoint`, or replace it with `export` and `like`"
        raise InvalidInput(f"{path} is a model's file, not a bundle (a folder that `export` wrote); {use}")
    if path.is_file():
        raise InvalidInput(f"{path} is a file, not a bundle (a folder that `export` wrote)")
    if path.exists():
        names = _names(path)
        problem = f"it has no {MANIFEST}" + (f"; give one of those in it, such as {path / names[0]}" if names else "")
    else:
        problem = f"no such folder{suggestion(path.name, _names(path.parent))}"
    manifest = read_model(Manifest, path / MANIFEST, f"{path} is not a bundle: {problem}")
    sizes = {
        "embed_dim": manifest.embed_dim,
        "preprocess.size": manifest.preprocess.size,
    }
    if manifest.tokenizer is not None:
        sizes["tokenizer.context_length"] = manifest.context_length
    for name, size in sizes.items():
        if not 0 < size <= LARGEST_SIZE:  # arrays of these sizes are allocated before anything is compared
            raise InvalidInput(f"{path}/{MANIFEST}: {name} is not from 1 to {LARGEST_SIZE}")
    return manifest


def bundles_in(folder: Path) -> list[Path]:
    """Returns the bundles in a folder, sorted by name. Unfinished ones are left out, as their names are hidden.

    Raises:
        OSError: the folder cannot be read.
    """
    return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".") and _holds_manifest(entry)]


def _holds_manifest(path: Path) -> bool:
    try:
        return (path / MANIFEST).is_file()
    except OSError:  # a folder without permission to read
        return False


def _names(folder: Path) -> list[str]:
    """Returns the names of the bundles in a folder, for a hint; empty if it cannot be read."""
    try:
        return [path.name for path in bundles_in(folder)]
    except OSError:
        return []


def _with_vocabulary(folder: Path, manifest: Manifest) -> Manifest:
    """Returns the manifest with the checkpoint's own vocabulary, read from tokenizer/merges.txt, or from
    tokenizer/tokenizer.json if it is not CLIP's kind."""
    tokens = manifest.tokenizer
    if tokens is None or not tokens.from_checkpoint:
        return manifest
    path = within(folder, MERGES if tokens.kind is None else VOCABULARY)
    message = f"{path} cannot be used: {REASON}; export the bundle again"
    with reraising(message, OSError, UnicodeDecodeError, InvalidInput):
        text = read_regular(path, VOCABULARY_BYTES).decode("utf-8")
        if tokens.kind is None:
            _, *merges = text.removesuffix("\n").split("\n")
            whole = tokens.with_merges(merges)
        else:
            whole = tokens.with_file(text)
    return with_fields(manifest, tokenizer=whole)


def _check_files(folder: Path) -> None:
    """Checks that everything in a bundle is a file or a folder of it.

    Later readers then never block, and copying, serving or sending a bundle publishes no other file of this machine. A
    hard link cannot be distinguished from the file itself. It does no harm: an archive or a download can only make hard
    links between its own files.

    Raises:
        InvalidInput: a pipe, a device, a link that leads out of the bundle, nowhere or in a circle, a text of many
            megabytes, or more files than a bundle has.
    """
    count = 0
    for parent, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        if count > MOST_FILES:
            raise InvalidInput(f"{folder} holds more than {MOST_FILES:,} files, and is not an exported bundle")
        for name in (*folders, *files):
            path = Path(parent, name)
            with reraising(f"{path} cannot be read: {REASON}; export the bundle again", OSError, RuntimeError):
                status = path.stat()
                leads_out = path.is_symlink() and not is_below(path, folder)
            if leads_out:
                raise InvalidInput(f"{path} is a link out of the bundle; if you trust it, copy the bundle with cp -RL")
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise InvalidInput(f"{path} is not a regular file; export the bundle again")
            most = VOCABULARY_BYTES if path.name == Path(VOCABULARY).name else TEXT_BYTES
            if path.suffix in TEXTS and status.st_size > most:
                raise InvalidInput(f"{path} is larger than the limit for such a file ({most:,} bytes)")


@contextlib.contextmanager
def staged_bundle(path: Path, force: bool) -> Iterator[Path]:
    """Yields a temporary folder next to `path`, which replaces `path` if the block succeeds, and is removed if it
    fails.

    Leftovers of killed processes in the parent folder are removed first.

    Raises:
        UsageError: see `check_bundle_destination`.
    """
    clear_leftovers(path.parent)  # restores a bundle that a killed export had set aside
    check_bundle_destination(path, MANIFEST, force)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(made_folder(path.parent))  # a failed export removes the folders it made, too
            staging = stack.enter_context(replacing(path))
            staging.mkdir()
        except OSError as error:
            reason = f"{path} cannot be written ({error.strerror})"
            raise UsageError(f"{reason}; choose another output with `output`") from error
        yield staging
