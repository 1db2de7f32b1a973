"""Files of weights, and the format of each by its first bytes. Imports no torch, which takes a second."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mobileclip_deploy.base.files import check_file_destination, content_sha256, file_sha256, read_json
from mobileclip_deploy.base.files.names import Name, PlainPath
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError, readable_reason, reraising
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
INDEX_SUFFIX = ".safetensors.index.json"
"""End of the name of the file that lists the shards of a checkpoint, as transformers and huggingface_hub write it."""
ADAPTER = "adapter_model.safetensors"
"""PEFT's file of the factors of an adapter; adapter_config.json is next to it."""
LFS_POINTER = b"version https://git-lfs"
HEADER_LENGTH = 8
INDEX_BYTES = 32 << 20


def builtin_checkpoint() -> Path:
    """Returns the trained checkpoint that comes with the package."""
    return models_dir() / BUILTIN / "weights.safetensors"


def checkpoint_file(path: Path) -> Path:
    """Returns the file of weights if `path` is a folder of `save_pretrained` (transformers, PEFT, sharded or not), else
    `path`."""
    weights = path / "model.safetensors"
    if (path / MODEL_CONFIG).is_file() and weights.is_file():
        return weights
    indices = sorted(path.glob(f"*{INDEX_SUFFIX}")) if path.is_dir() else []
    if len(indices) > 1:
        raise CheckpointError(
            f"{path} has {len(indices)} sharded checkpoints; give one of its {INDEX_SUFFIX[1:]} files"
        )
    return indices[0] if indices else path / ADAPTER if (path / ADAPTER).is_file() else path


class _ShardIndex(BaseModel, frozen=True):
    weight_map: Annotated[dict[Name, PlainPath], Field(min_length=1, max_length=100_000)]


def shard_files(index: Path) -> tuple[Path, ...]:
    """Returns the shards that an index lists, by name.

    Raises:
        CheckpointError: the index cannot be read, or a shard is missing.
    """
    with reraising(f"{index} is not an index of shards", InvalidInput, OSError, ValueError, into=CheckpointError):
        listed = _ShardIndex.model_validate(read_json(index, INDEX_BYTES))
    shards = tuple(index.parent / name for name in sorted(set(listed.weight_map.values())))
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise CheckpointError(
            f"{index} lists {len(shards)} shards, and {len(missing)} of them are missing ({missing[0]}, ...); put all "
            "shards next to it"
        )
    return shards


def checkpoint_sha256(path: Path) -> str:
    """Returns the SHA-256 of a checkpoint file; of an index of shards, that of the names and hashes of its shards."""
    if not path.name.endswith(INDEX_SUFFIX):
        return file_sha256(path)
    return content_sha256("".join(f"{shard.name}\0{file_sha256(shard)}\n" for shard in shard_files(path)).encode())


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


def container_of(path: Path) -> Literal["safetensors", "zip", "pickle", "shards"]:
    """Identifies the container of a checkpoint file by its first bytes, whatever its name.

    Raises:
        CheckpointError: the file is missing, not a file, empty, or of another format.
    """
    head = _head(path)
    if path.name.endswith(INDEX_SUFFIX):
        return "shards"
    # First: the length of a header, which comes before its brace, may begin with a pickle's byte.
    if head[HEADER_LENGTH : HEADER_LENGTH + 1] == b"{":
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "pickle"
    if head.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull`")
    if head.lstrip().startswith(b"<"):
        raise CheckpointError(
            f"{path} is a web page, not weights; download the file itself (on the hub its address has /resolve/, "
            "not /blob/; log in if a licence must be accepted)"
        )
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
