"""Cells of a sweep, one per bundle: their list, their requirements, and their export, in any process."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from pydantic import BaseModel

from mobileclip_deploy.artifacts.bundle.manifest import MANIFEST
from mobileclip_deploy.artifacts.towers.calibration import PROMPT_FILES, calibration_digest, files_digest
from mobileclip_deploy.base.files import file_sha256, read_json, write_whole
from mobileclip_deploy.base.files.names import Sha256
from mobileclip_deploy.benchmark.sweep.result import Row, row_of
from mobileclip_deploy.benchmark.sweep.specification import HUB, CheckpointChoice, Specification
from mobileclip_deploy.errors import CheckpointError, DependencyMissing, InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.export.contents import package_versions
from mobileclip_deploy.export.door import export_plan
from mobileclip_deploy.export.plan import plan_export
from mobileclip_deploy.export.request import CompactRequest, ExportRequest, Writing, asked_compact, choose
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.checkpoints.identity import Identity, identify
from mobileclip_deploy.network.checkpoints.preprocessing import chosen_preprocess
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint, checkpoint_file, checkpoint_sha256
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.precision import parse_precisions, precision_label
from mobileclip_deploy.network.model.variants import TOWERS, Variant, load_variant
from mobileclip_deploy.pictures.image_sources import read_image
from mobileclip_deploy.targets import Target, get_target, named_targets, names_all

RECORDS = "cells"
SMALLER = ("embedding_size", "fit", "captions")
"""Fields of a checkpoint's choice that `SweepCell.identity` leaves out: `SweepCell.content` covers their contents."""
OWN_BYTES, WEIGHT_BYTES, PIXEL_BYTES = 2_000_000_000, 28, 2_000
"""Bytes of memory of a process with the converters' packages; per weight (float32, float64, folded, twin, converted);
and per pixel of an image. docs/sweep.md has the measurements."""


@dataclass(frozen=True)
class SweepCell:
    """One bundle to export.

    Attributes:
        content: SHA-256 of the checkpoint, or its name on the hub, and of the files that its axes are fitted to.
        named: name of the set of options in the specification; `options` are those that the target has.
        judged: digest of the contents of `dataset` and `calibration`; see `with_contents`.
    """

    checkpoint: str
    choice: CheckpointChoice
    content: str
    target: str
    precision: str
    named: str | None
    options: dict[str, str | bool]
    dataset: str | None
    calibration: str | None
    judged: str = ""

    @property
    def row(self) -> Row:
        return Row(checkpoint=self.checkpoint, target=self.target, precision=self.precision, options=self.named)

    @property
    def folder(self) -> str:
        """Folder of the bundle, relative to the sweep's folder."""
        return self.checkpoint if self.named is None else f"{self.checkpoint}/{self.named}"

    @property
    def identity(self) -> str:
        """Hash of everything that decides the result: contents, not paths, and the packages' versions."""
        recipe = asdict(self) | {"choice": self.choice.model_dump(exclude={"file", *SMALLER})}
        del recipe["dataset"], recipe["calibration"]
        recipe["versions"] = package_versions(get_target(self.target))
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()

    @property
    def record(self) -> str:
        """File of the row."""
        label = "-".join(part for part in (self.checkpoint, self.target, self.precision, self.named) if part)
        safe = "".join(character if character.isalnum() or character in "._-" else "-" for character in label)
        return f"{RECORDS}/{safe}-{self.identity[:8]}.json"


def list_cells(specification: Specification) -> tuple[list[SweepCell], list[str]]:
    """Returns a cell for every valid combination, and a note for each of the others.

    Raises:
        UsageError: a target, precision, variant or option is unknown, an option belongs to no target, or nothing is
            left.
        InvalidInput: a checkpoint is missing or cannot be read.
        DependencyMissing: a target's packages are not installed.
    """
    chosen, notes = _targets(specification)
    calibration = None if specification.calibration is None else Path(specification.calibration)
    requested = [parse_precisions(text, TOWERS) for text in specification.precisions or ()]
    pairs: list[tuple[str, str, str | None, dict[str, str | bool]]] = []
    sets: list[tuple[str | None, dict[str, str | bool]]] = [*specification.options.items()]
    for named, options in sets or [(None, {})]:
        matched: set[str] = set()
        for target in chosen:
            of_target = {name: value for name, value in options.items() if name in _option_names(target)}
            matched |= set(of_target)
            if options and not of_target:
                continue
            for precisions in requested or [parse_precisions(target.capabilities.storing.default_precision, TOWERS)]:
                if not target.has(precisions):
                    notes.append(f"{target.label} has no {precision_label(precisions)}: left out.")
                    continue
                text = ",".join(f"{tower}={name}" for tower, name in precisions.items())
                label = text if len(set(precisions.values())) > 1 else precisions["image"]
                request = ExportRequest(
                    targets=(target.label,), precisions=(label,), options=of_target, calibration=calibration
                )
                # A backend of a target may be a bundle of its own.
                pairs += [(item.label, label, named, of_target) for item, _ in choose(request).pairs]
        if unknown := [name for name in options if name not in matched]:
            names = sorted({name for target in chosen for name in _option_names(target)})
            raise UsageError(
                f"options.{named}: none of {', '.join(item.label for item in chosen)} has an option {unknown[0]!r}; "
                f"known: {', '.join(names)}"
            )
    cells = []
    for name, choice in specification.checkpoints.items():
        content = _content(name, choice) + _fitted(choice)
        judged = (specification.dataset, specification.calibration)
        cells += [SweepCell(name, choice, content, *pair, *judged) for pair in pairs]
    if not cells:
        raise UsageError(f"nothing is left to sweep over: {' '.join(notes)}")
    return cells, list(dict.fromkeys(notes))


def _targets(specification: Specification) -> tuple[list[Target], list[str]]:
    every = names_all(specification.targets)
    chosen, notes = [], []
    for target in named_targets(specification.targets):
        try:
            target.require_installed(converters=True)
        except DependencyMissing as error:
            if not every:
                raise
            notes.append(f"Left out: {error}")
            continue
        chosen.append(target)
    return chosen, notes


def _option_names(target: Target) -> set[str]:
    return {field.name for field in fields(target.options)}


def _content(name: str, choice: CheckpointChoice) -> str:
    """Returns an identifier of a checkpoint's content, computed before the sweep begins."""
    if choice.download or (choice.file or "").startswith(HUB):
        if choice.variant is None:
            raise UsageError(f'checkpoints.{name}: name its network, as in variant = "mobileclip_s0"')
        load_variant(choice.variant)
        return choice.file or choice.variant
    variant_of(choice)
    if choice.preprocess is None:
        try:
            chosen_preprocess(_identity(choice), None)
        except CheckpointError as error:
            raise CheckpointError(
                f'checkpoints.{name}: {_file(choice)} does not record its mean and std; add preprocess = "openai" or '
                '"card", with which it was trained'
            ) from error
    pixels = Path(choice.preprocess or "")
    return checkpoint_sha256(_file(choice)) + (f"-{file_sha256(pixels)}" if pixels.is_file() else "")


def _compact(choice: CheckpointChoice) -> CompactRequest | None:
    return asked_compact(*(getattr(choice, name) for name in SMALLER))


def _fitted(choice: CheckpointChoice) -> str:
    """Returns an identifier of the pictures and captions that axes are fitted to; empty for full embeddings."""
    request = _compact(choice)
    if request is None:
        return ""
    files = [*image_files(request.pictures), *(request.pictures / name for name in PROMPT_FILES)]
    digest = files_digest(request.pictures, [file for file in files if file.is_file()])
    captions = b"" if request.captions is None else file_sha256(request.captions).encode()
    return f"-e{request.size}-{hashlib.sha256(digest + captions).hexdigest()}"


def _file(choice: CheckpointChoice) -> Path:
    return builtin_checkpoint() if choice.file is None else checkpoint_file(Path(choice.file))


def variant_of(choice: CheckpointChoice) -> Variant:
    """Returns the card of a checkpoint. For a file, it is identified from tensor names and shapes."""
    if choice.download or (choice.file or "").startswith(HUB):
        assert choice.variant is not None
        return load_variant(choice.variant)
    if choice.file is None and choice.variant is not None:
        load_model(choice.variant)  # refuses a variant without its weights
    return _identity(choice).variant


def _identity(choice: CheckpointChoice) -> Identity:
    return identify(open_tensors(_file(choice)), None if choice.variant is None else load_variant(choice.variant))


def cell_memory(cell: SweepCell) -> int:
    """Returns an upper bound of the memory, in bytes, of the process that exports a cell: measurements with a margin
    (docs/sweep.md)."""
    card = variant_of(cell.choice)
    weights = card.parameters_image + card.parameters_text
    size = cell.choice.image_size or card.preprocess.size
    return OWN_BYTES + WEIGHT_BYTES * weights + PIXEL_BYTES * size * size


def with_contents(cells: Sequence[SweepCell], specification: Specification) -> list[SweepCell]:
    """Returns the cells with the digest of their dataset and calibration data.

    Raises:
        InvalidInput: a file of the dataset or of the calibration cannot be read.
    """
    digest = hashlib.sha256()
    if specification.dataset is not None:
        dataset = read_dataset(Path(specification.dataset))
        digest.update(json.dumps(asdict(replace(dataset, images=(), rows=(), skipped=()))).encode())
        for image in dataset.images:
            digest.update(hashlib.sha256(read_image(image)).digest())
    if specification.calibration is not None:
        digest.update(calibration_digest(Path(specification.calibration)).encode())
    return [replace(cell, judged=digest.hexdigest()) for cell in cells]


class Record(BaseModel, frozen=True):
    """Record of an exported cell: its row, its identity, and the SHA-256 of the bundle's manifest, if there is one."""

    identity: Sha256
    manifest: Sha256 | None
    row: Row


def kept(cell: SweepCell, folder: Path) -> Row | None:
    """Returns the row of a cell that was exported before and whose own bundle is still there. Returns None for a cell
    to export: also after an error, or if another recipe has replaced the bundle."""
    try:
        past = Record.model_validate(read_json(folder / cell.record))
    except (OSError, ValueError, InvalidInput):
        return None
    manifest = _manifest_sha256(past.row, folder)
    if manifest is None or (past.identity, past.manifest) != (cell.identity, manifest) or past.row.state == "error":
        return None
    return past.row.model_copy(update={"latency": {}})


def _manifest_sha256(row: Row, folder: Path) -> str | None:
    manifest = None if row.bundle is None else folder / row.bundle / MANIFEST
    return file_sha256(manifest) if manifest is not None and manifest.is_file() else None


def make_cell(cell: SweepCell, folder: Path, one_thread: bool) -> Row:
    """Exports and verifies a cell's bundle, and records its row."""
    if one_thread:
        import torch

        torch.set_num_threads(1)  # sums of float32 depend on how many threads share them
    choice = cell.choice
    model = load_model(
        choice.variant,
        choice.file,
        download=choice.download,
        image_size=choice.image_size,
        preprocess=choice.preprocess,
    )
    request = ExportRequest(
        targets=(cell.target,),
        precisions=(cell.precision,),
        output=folder / cell.folder,
        options=cell.options,
        calibration=None if cell.calibration is None else Path(cell.calibration),
        writing=Writing(force=True, allow_failing=True),
        dataset=None if cell.dataset is None else Path(cell.dataset),
        compact=_compact(choice),
    )
    written = export_plan(plan_export(choose(request), Source.of(model)))[0]
    row = row_of(cell.row, written, f"{cell.folder}/{written.bundle.path.name}")
    return record(cell, row, folder)


def record(cell: SweepCell, row: Row, folder: Path) -> Row:
    """Writes a cell's row to a file next to the bundles."""
    path = folder / cell.record
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Record(identity=cell.identity, manifest=_manifest_sha256(row, folder), row=row)
    write_whole(path, made.model_dump_json(indent=1) + "\n")
    return row
