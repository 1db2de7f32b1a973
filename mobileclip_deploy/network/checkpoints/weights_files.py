"""Files of weights, and the format of each by its first bytes. Imports no torch, which takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mobileclip_deploy.base.files import check_file_destination
from mobileclip_deploy.errors import CheckpointError, UsageError, readable_reason
from mobileclip_deploy.network.model.variants import models_dir

BUILTIN = "nano"
# Prefix of a checkpoint on the hub; `hub` is imported only for such names.
HUB = "hf:"
CONFIG = "open_clip_config.json"
"""open_clip's file next to the weights that it uploads; it may also be next to a local checkpoint."""
MODEL_CONFIG = "config.json"
"""transformers' file of the model next to its weights."""
PREPROCESSOR = "preprocessor_config.json"
"""transformers' file of the preprocessing next to the weights."""
TOKENIZER_FILE = "tokenizer.json"
"""Vocabulary next to a checkpoint that has its own; also the metadata key that holds the file's text."""
VOCABULARY_FILE = "vocab.txt"
"""Pieces of a WordPiece vocabulary, one per line, if there is no tokenizer.json."""
LFS_POINTER = b"version https://git-lfs"
HEADER_LENGTH = 8


def builtin_checkpoint() -> Path:
    """Returns the trained checkpoint that comes with the package."""
    return models_dir() / BUILTIN / "weights.safetensors"


def checkpoint_file(path: Path) -> Path:
    """Returns the file of weights if `path` is a folder of transformers' `save_pretrained`, else `path`."""
    weights = path / "model.safetensors"
    return weights if (path / MODEL_CONFIG).is_file() and weights.is_file() else path


def check_folded_output(output: Path, force: bool) -> Path:
    """Returns the path of the report next to a folded checkpoint, after checking that both can be written.

    Raises:
        UsageError: the output is not a .safetensors, or exists without `force`.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"folded models are written as .safetensors, not {output.name}; rename the output")
    report = output.with_suffix(".report.json")
    for file in (output, report):
        check_file_destination(file, force)
    return report


def container_of(path: Path) -> Literal["safetensors", "zip", "pickle"]:
    """Identifies the container of a checkpoint file by its first bytes, whatever its name.

    Raises:
        CheckpointError: the file is missing, not a file, empty, or of another format.
    """
    head = _head(path)
    # First: the length of a header, which comes before its brace, may begin with a pickle's byte.
    if head[HEADER_LENGTH : HEADER_LENGTH + 1] == b"{":
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "pickle"
    if head.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull`")
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is not a safetensors file: it has no header; download or save it again")
    raise CheckpointError(f"{path} is neither a torch checkpoint nor a safetensors file; give one of the two")


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; give the checkpoint file in it (.pt or .safetensors)")
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a regular file; give a .pt or .safetensors file")
        with path.open("rb") as stream:
            head = stream.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}; check the path") from None
    except OSError as error:
        reason = readable_reason(error)
        raise CheckpointError(f"cannot read {path}: {reason}; check the path and its permissions") from error
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes); download or save it again")
    return head
