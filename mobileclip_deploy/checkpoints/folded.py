"""Our own layout: folded models as safetensors, named as our modules are, with their provenance in the metadata."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import save_file

from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.checkpoints.keymap import KeyMap, Rule
from mobileclip_deploy.errors import CheckpointError, UsageError
from mobileclip_deploy.folding import is_folded
from mobileclip_deploy.provenance import Provenance
from mobileclip_deploy.variants import Variant, load_variant

__all__ = ["NAME", "TOWERS", "keymap", "provenance", "recognises", "save"]

NAME = "folded"
LENGTH = struct.Struct("<Q")
TOWERS = {"image": "image.", "text": "text."}
METADATA = "mobileclip_deploy"


def recognises(keys: Iterable[str]) -> bool:
    """Whether the keys are of this layout."""
    return any(key.startswith(("image.", "text.blocks.", "text.final_norm.")) for key in keys)


def keymap(variant: Variant) -> KeyMap:
    """Our keys are our keys."""
    return KeyMap([Rule(r"^", "")])


def provenance(metadata: Mapping[str, str], path: Path) -> Provenance:
    """The source checkpoint that a folded file names in its metadata.

    Raises:
        CheckpointError: the metadata is missing, malformed, or names what this version does not know.
    """
    text = metadata.get(METADATA)
    if text is None:
        raise CheckpointError(f"{path} has this package's keys but not its metadata; write it with `reparameterize`")
    try:
        source = Provenance.model_validate_json(text)
        load_variant(source.variant).for_layout(source.layout)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: damaged metadata ({error.errors()[0]['msg']}); write it again with `reparameterize`"
        ) from error
    except UsageError as error:
        raise CheckpointError(f"{path} was written by another version of this package: {error}") from error
    return source


def save(model: MobileCLIP, path: Path) -> None:
    """Write a folded model; the file appears whole or not at all.

    Beside the provenance as JSON, the metadata says `variant`, `source_sha256` and `folded` for whoever reads the
    file without this package.

    Raises:
        CheckpointError: the model is not folded, or has no provenance (it was not loaded by this package).
        OSError: the folder is missing or not writable.
    """
    if model.provenance is None:
        raise CheckpointError("only models that were loaded from a checkpoint can be saved: provenance is unknown")
    if not is_folded(model):
        raise CheckpointError("only folded models are saved in this layout; fold it first")
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {
        METADATA: json.dumps(model.provenance.model_dump(), sort_keys=True),
        "variant": model.provenance.variant,
        "source_sha256": model.provenance.sha256,
        "folded": "true",
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=metadata)
        _sort_metadata(Path(temporary))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _sort_metadata(path: Path) -> None:
    """Put the metadata in order, in place: safetensors writes it in an order that changes from run to run."""
    with path.open("r+b") as stream:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        stream.seek(LENGTH.size)
        stream.write(text.ljust(length))
