"""The weights of a converted file, each stored on its grid."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mobileclip_deploy.model.provenance import weight_sha256
from mobileclip_deploy.targets.depthwise import KERNEL, KERNEL_ROWS
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, pack_int4
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import ModelFile
from mobileclip_deploy.targets.litert.weights import in_torch_layout, output_axis, weight_place
from mobileclip_deploy.targets.storage import Storage, by_numbers, layers, require_all

__all__ = ["bfloat16", "placed_layers", "store_weights"]

Floats = npt.NDArray[np.float32]


def store_weights(
    editor: Editor, model: ModelFile, module: nn.Module, storage: Storage, stored: Collection[int] = ()
) -> None:
    """Store the weights of a float32 file as the storage says: halves are raised to float32 before an operator takes
    them; integers are taken as they are, with activations that the runtime rounds to int8 as it goes.

    Args:
        model: the file that `editor` changes.
        module: what was converted.
        stored: weights that are integers already.

    Raises:
        ExportError: a weight that is to be stored on a grid does not stand in the file.
    """
    found = placed_layers(model, module, storage)
    require_all(storage, [name for name, _ in found.values()])
    for place, (name, axis) in found.items():
        grid, values = storage[name], model.tensors[place].values
        assert values is not None
        if place in stored:
            continue
        if grid.kind == "integers" and grid.block is not None:
            integers, scales = _int4(values, grid)
            editor.store_int4(place, pack_int4(integers.reshape(-1), 0), scales, grid.block)
        elif grid.kind == "integers":
            eight, steps = int8_channels(values, axis)
            editor.store_int8(place, eight, steps.reshape(-1), axis)
        elif grid.bits == 16:
            editor.store_half(place, values.astype(np.float16))


def placed_layers(model: ModelFile, module: nn.Module, storage: Storage) -> dict[int, tuple[str, int]]:
    """Tensors of a float32 file that are weights of layers: place -> parameter, and the dimension of its outputs."""
    names = by_numbers(module, storage, floats=True) | _bands(module)
    found = {}
    for operator in model.operators:
        place = weight_place(model, operator)
        if place is None:
            continue
        values = in_torch_layout(operator, np.asarray(model.tensors[place].values))
        name = names.get(weight_sha256(values.reshape(len(values), -1)))
        if name is not None:
            found[place] = name, output_axis(operator)
    return found


def _bands(module: nn.Module) -> dict[str, str]:
    """`by_numbers` for 7 x 7 convolutions that may be written as three for each output of a group."""
    found = {}
    for layer in layers(module):
        conv = layer.module
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (KERNEL, KERNEL) and conv.groups == conv.in_channels:
            count = conv.out_channels // conv.groups
            for part, rows in product(range(count), KERNEL_ROWS):
                window = layer.weight.detach()[part::count, :, list(rows)]
                found[weight_sha256(window.flatten(1).numpy())] = layer.parameter
    return found


def _int4(rows: Floats, grid: Grid) -> tuple[npt.NDArray[np.int8], Floats]:
    """int4 [N, K] and scales [N, blocks]. XNNPACK keeps bfloat16 of a scale: the integers are those of that."""
    assert grid.block is not None
    scales = bfloat16(int4_blocks(rows, grid.block, positive=True)[1])
    steps = scales.repeat(grid.block, axis=1)[:, : rows.shape[1]]
    return np.clip(np.rint(rows / steps), -8, 7).astype(np.int8), scales


def bfloat16(values: Floats) -> Floats:
    """Numbers rounded to bfloat16, as float32."""
    return torch.from_numpy(values).bfloat16().float().numpy()
