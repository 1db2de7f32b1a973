"""What `inspect` tells of a path: checkpoint, artifact or bundle."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from mobileclip_deploy.bundle import MANIFEST, Bundle
from mobileclip_deploy.bundle.manifest import TensorEntry
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.targets import Target, installed_target, targets

__all__ = ["inspect"]


def inspect(path: Path) -> dict[str, Any]:
    """Describe a checkpoint file, an artifact or a bundle; everything in the answer can be written as JSON.

    Raises:
        InvalidInput: it is none of them, or damaged.
    """
    if not path.exists():
        raise InvalidInput(f"no file or folder at {path}")
    if not path.is_file() and not path.is_dir():  # what reads an artifact would wait for a pipe
        raise InvalidInput(f"{path} is not a regular file")
    target = next((one for one in targets().values() if path.suffix and path.suffix in one.suffixes), None)
    if target is not None:
        return _artifact(path, target)
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            raise InvalidInput(f"{path} is a folder but not a bundle (no {MANIFEST}) nor an artifact")
        return _bundle(Bundle.open(path))
    return _checkpoint(path)


def _checkpoint(path: Path) -> dict[str, Any]:
    from mobileclip_deploy.checkpoints import identify, open_tensors
    from mobileclip_deploy.files import file_sha256
    from mobileclip_deploy.model.variants import load_variant

    file = open_tensors(path)
    identity = identify(file)
    variant = load_variant(identity.variant)
    return {
        "kind": "checkpoint",
        "layout": identity.layout,
        "variant": identity.variant,
        "towers": list(identity.towers),
        "form": "folded" if identity.layout == "folded" else "training",
        "tensors": len(file.shapes),
        "parameters": sum(prod(shape) for name, shape in file.shapes.items() if not _is_buffer(name)),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "licence": variant.licence.name,
        "notes": list(identity.notes),
    }


def _is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _artifact(path: Path, target: Target) -> dict[str, Any]:
    target.require_installed()
    if (told := target.inspect(path)) is not None:
        return told
    source, result = (TensorEntry.of(info).model_dump(exclude_none=True) for info in target.describe(path))
    operators, contents = target.operators(path), target.contents(path) or {}
    return {
        "kind": f"{target.name} artifact",
        "input": source,
        "output": result,
        "bytes": artifact_bytes(path),
        "operators": sum(operators.values()),
        "by_type": dict(sorted(operators.items(), key=lambda item: -item[1])),
        **{name: counts for name, counts in contents.items() if name != "operators"},
    }


def _bundle(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    towers = {
        tower: {
            "file": entry.file,
            **({"function": entry.function} if entry.function else {}),
            "precision": entry.precision,
            "bytes": entry.bytes,
            "operators": sum(
                installed_target(manifest.target, entry.function).operators(bundle.artifact(tower)).values()
            ),
        }
        for tower, entry in manifest.towers.items()
    }
    states = {check.status for check in bundle.parity}
    return {
        "kind": "bundle",
        "variant": manifest.variant,
        "target": manifest.target,
        "embedding_space": manifest.embedding_space,
        "checkpoint": manifest.checkpoint.file,
        "licence": manifest.checkpoint.licence,
        "towers": towers,
        **({"labels": len(manifest.classifier.labels)} if manifest.classifier is not None else {}),
        "parity": next((state for state in ("failed", "not run", "passed") if state in states), "not verified"),
        "environment": manifest.environment,
    }
