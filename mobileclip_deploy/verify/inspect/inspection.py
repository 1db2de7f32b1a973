"""Inspection of a path: checkpoint, artifact, bundle or folder of bundles."""

import contextlib
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle
from mobileclip_deploy.artifacts.bundle.manifest import TensorEntry
from mobileclip_deploy.artifacts.bundle.opening import bundles_in
from mobileclip_deploy.base.files import StrPath, artifact_bytes, check_there
from mobileclip_deploy.base.files.names import INDEX_SUFFIX
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import CheckpointError, InvalidInput
from mobileclip_deploy.network.checkpoints.weights_files import (
    checkpoint_file,
    checkpoint_sha256,
    container_of,
    shard_files,
)
from mobileclip_deploy.network.model.licences import Answer, LicenceUse
from mobileclip_deploy.network.model.precision import precision_label
from mobileclip_deploy.network.model.variants import TowerName, load_variant
from mobileclip_deploy.parity.report import outcome
from mobileclip_deploy.targets import Target, installed_target, target_of
from mobileclip_deploy.targets.inspection import PackageInspection
from mobileclip_deploy.verify.audit.opening import OpenedFile, Port, foreign_target

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class _Inspection(BaseModel):
    model_config = ConfigDict(frozen=True)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON, without those that are None."""
        return self.model_dump(mode="json", exclude_none=True)


class CheckpointInspection(_Inspection):
    """A file of trained weights. `uses`: uses that its licence allows. `notes`: assumptions, and ignored parts.
    `options`: options that `export` needs for this file."""

    kind: Literal["checkpoint"] = "checkpoint"
    layout: str
    variant: str
    towers: tuple[str, ...]
    form: Literal["training", "folded"]
    tensors: int
    parameters: int
    bytes: int
    sha256: str
    licence: str
    uses: dict[LicenceUse, Answer] | None = None
    notes: tuple[str, ...]
    options: tuple[str, ...] = ()


class ArtifactInspection(_Inspection):
    """An artifact of a target. Operators by type, `contents` by kind, and `facts` in words if the target has them."""

    kind: str
    input: TensorEntry
    output: TensorEntry
    bytes: int
    operators: int
    by_type: dict[str, int]
    contents: dict[str, dict[str, int]]
    facts: dict[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        record = super().as_dict()
        return record | record.pop("contents")


class FileInspection(_Inspection):
    """A model's file with other inputs and outputs than exports have: its ports (a free dimension is 0), operators, and
    the runtime that loads it."""

    kind: str
    engine: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    bytes: int
    operators: tuple[str, ...]


class TowerInspection(_Inspection):
    """A tower of a bundle: its file, its function in a shared file, its number of operators, and further facts from its
    target in words."""

    file: str
    function: str | None = None
    precision: str
    bytes: int
    operators: int
    facts: dict[str, str] | None = None


class BundleInspection(_Inspection):
    """A bundle. `uses`: uses that the licence of its weights allows, if recorded. `labels`: number of a classifier's
    labels. `parity`: result of the checks of its export."""

    kind: Literal["bundle"] = "bundle"
    variant: str
    target: str
    embedding_space: str
    checkpoint: str
    licence: str
    uses: dict[LicenceUse, Answer] | None = None
    towers: dict[TowerName, TowerInspection]
    labels: int | None = None
    parity: Literal["failed", "not run", "undecided", "passed", "not verified"]
    environment: dict[str, str]


class ListedBundle(_Inspection):
    """A bundle in a folder, from its manifest. `fault`: error that prevents reading it; then all other fields are
    None."""

    name: str
    variant: str | None = None
    target: str | None = None
    precision: str | None = None
    bytes: int | None = None
    embedding_space: str | None = None
    parity: Literal["failed", "not run", "undecided", "passed", "not verified"] | None = None
    fault: str | None = None


class FolderInspection(_Inspection):
    """A folder with bundles, by name. Their artifacts are not read."""

    kind: Literal["folder"] = "folder"
    bundles: tuple[ListedBundle, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Faults of the bundles that cannot be read."""
        return tuple(bundle.fault for bundle in self.bundles if bundle.fault is not None)


Inspection = (
    CheckpointInspection | ArtifactInspection | PackageInspection | FileInspection | BundleInspection | FolderInspection
)


def inspect(path: StrPath, variant: str | None = None, *, progress: Progress = silent) -> Inspection:
    """Inspects a checkpoint file, an artifact, a bundle or a folder of bundles.

    Its `kind` names the type, and `as_dict` returns the form for JSON.

    Args:
        variant: name of a checkpoint's variant, if several fit.

    Raises:
        InvalidInput: it is none of them, or damaged; or a checkpoint of another variant.
        UsageError: unknown variant, or an artifact of a target that this package no longer has.
    """
    path = Path(path)
    check_there(path)
    progress(f"reading {path.name}")
    if not path.is_file() and not path.is_dir():  # reading an artifact would block on a pipe
        raise InvalidInput(f"{path} is not a regular file")
    if (target := target_of(path)) is not None:
        return _artifact(path, target)
    if path.suffix == INDEX_SUFFIX:
        raise InvalidInput(f"{path} is an index of embeddings; query it with `mobileclip-deploy search`")
    if path.is_dir() and (weights := checkpoint_file(path)) == path:
        if (path / MANIFEST).is_file():
            return _bundle(Bundle.open(path))
        if bundles := bundles_in(path):
            return FolderInspection(bundles=tuple(map(_listed, bundles)))
        raise InvalidInput(
            f"{path} is a folder, but neither a bundle (it has no {MANIFEST}) nor an artifact nor a folder of bundles; "
            "give one of them, or a checkpoint"
        )
    return _checkpoint(weights if path.is_dir() else path, variant)


def _checkpoint(path: Path, variant: str | None) -> CheckpointInspection:
    container = container_of(path)  # refused before torch is imported

    from mobileclip_deploy.network.checkpoints.identity import identify
    from mobileclip_deploy.network.checkpoints.loading import read_weight
    from mobileclip_deploy.network.checkpoints.preprocessing import OPENAI, chosen_preprocess
    from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors

    file = open_tensors(path)
    identity = identify(file, None if variant is None else load_variant(variant))
    for name, entry in identity.candidate.expected.items():
        read_weight(identity.file, entry, name)  # NaN is refused here, too
    options = () if variant is None else ("--variant", variant)
    notes = identity.notes
    try:
        chosen_preprocess(identity, None)
    except CheckpointError as error:  # nothing records it: the user must know
        options, notes = (*options, "--preprocess", OPENAI), (*notes, str(error))
    if identity.towers == ("image",):
        options = (*options, "--tower", "image")
    if identity.head is not None:
        options = (*options, "--labels", "NAMES.txt")
    return CheckpointInspection(
        layout=identity.layout,
        variant=identity.variant.name,
        towers=identity.towers,
        form="folded" if identity.layout == "folded" else "training",
        tensors=len(file.shapes),
        parameters=sum(prod(shape) for name, shape in file.shapes.items() if not name.endswith(BUFFERS)),
        bytes=sum(part.stat().st_size for part in (shard_files(path) if container == "shards" else (path,))),
        sha256=checkpoint_sha256(path),
        licence=identity.variant.licence.name,
        uses=identity.variant.licence.uses_of_copy(),
        notes=notes,
        options=options,
    )


def _artifact(path: Path, target: Target) -> ArtifactInspection | PackageInspection | FileInspection:
    target.require_installed()
    artifact = target.open(path)
    if (inspection := artifact.inspection) is not None:
        return inspection
    try:
        source, result = (TensorEntry.of(info) for info in artifact.ports)
    except InvalidInput:
        if foreign_target(path) is None:
            raise
        with contextlib.closing(OpenedFile(path)) as file:
            return FileInspection(
                kind=f"{target.name} file",
                engine=file.engine,
                inputs=file.inputs,
                outputs=file.outputs,
                bytes=artifact_bytes(path),
                operators=tuple(sorted(file.operators)),
            )
    operators, contents = artifact.operators, artifact.contents or {}
    return ArtifactInspection(
        kind=f"{target.name} artifact",
        input=source,
        output=result,
        bytes=artifact_bytes(path),
        operators=sum(operators.values()),
        by_type=dict(sorted(operators.items(), key=lambda item: -item[1])),
        contents={name: counts for name, counts in contents.items() if name != "operators"},
        facts=artifact.facts or None,
    )


def _bundle(bundle: Bundle) -> BundleInspection:
    manifest, target = bundle.manifest, installed_target(bundle.manifest.target)
    towers: dict[TowerName, TowerInspection] = {}
    for tower, entry in manifest.towers.items():
        artifact = target.open(bundle.artifact(tower), entry.function)
        # The manifest lists them, which `verify` checks: to read a file takes packages that running it does not.
        operators = (entry.contents or {}).get("operators") or artifact.operators
        towers[tower] = TowerInspection(
            file=entry.file,
            function=entry.function,
            precision=entry.precision,
            bytes=entry.bytes,
            operators=sum(operators.values()),
            facts=artifact.facts or None,
        )
    return BundleInspection(
        variant=manifest.variant,
        target=manifest.target,
        embedding_space=manifest.embedding_space,
        checkpoint=manifest.checkpoint.file,
        licence=manifest.checkpoint.licence,
        uses=None if manifest.licence is None else manifest.licence.uses(),
        towers=towers,
        labels=None if manifest.classifier is None else len(manifest.classifier.labels),
        parity=outcome(bundle.parity),
        environment=manifest.environment,
    )


def _listed(path: Path) -> ListedBundle:
    try:
        bundle = Bundle.open_unchecked(path)
        parity = outcome(bundle.parity)
    except InvalidInput as error:
        return ListedBundle(name=path.name, fault=str(error))
    manifest = bundle.manifest
    return ListedBundle(
        name=path.name,
        variant=manifest.variant,
        target=manifest.target,
        precision=precision_label({tower: entry.precision for tower, entry in manifest.towers.items()}),
        bytes=bundle.bytes,
        embedding_space=manifest.embedding_space,
        parity=parity,
    )
