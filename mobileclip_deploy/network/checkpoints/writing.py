"""Writing of checkpoints by torch, which has types that numpy lacks."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mobileclip_deploy.base.files.tensors import sort_metadata, written


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes named tensors: .safetensors with the metadata, any other suffix by `torch.save` without.

    Raises:
        InvalidInput: as `write_tensors`.
    """
    with written(path) as partial:
        if path.suffix == ".safetensors":
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial, dict(metadata))
            sort_metadata(partial)
        else:
            torch.save({name: value.clone() for name, value in tensors.items()}, partial)
