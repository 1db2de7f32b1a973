"""An image tower that takes a picture as a camera gives it, 32-bit BGRA, in place of float32 pixels.

Apple's converter makes no inputs that are images, but its program format has them: so a tower is converted with bytes
as its input, and that input's type is changed then. Apple's runtime on Linux takes no images; there the change is
undone in memory, so that all but the one operation `image_to_tensor`, which gives the picture's bytes, is run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.coreai.asset import IMAGE, Asset, operations, tensor_type
from mobileclip_deploy.targets.coreai.editing import declare
from mobileclip_deploy.targets.foreign.coreai import MODULE, mlir

TO_TENSOR = "coreai.image_to_tensor"


class FromBytes(nn.Module):
    """An image tower behind a picture's bytes: uint8 [S, S, 4] in the order blue, green, red, alpha."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        planes = x.permute(2, 0, 1)  # first of all: slices of bytes would have a last axis of 1
        answers: Tensor = self.tower(torch.cat((planes[2:3], planes[1:2], planes[0:1])).float()[None] / 255)
        return answers


def blank(pixels: Tensor) -> Tensor:
    """Bytes of a picture of the size of `pixels` [1, 3, S, S], to convert with."""
    return torch.zeros(*pixels.shape[2:], 4, dtype=torch.uint8)


def bytes_of(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """RGB pixels [3, S, S] in [0, 1] as a picture's bytes [S, S, 4], opaque."""
    planes = np.rint(pixels * 255).astype(np.uint8)
    alpha = np.full_like(planes[:1], 255)
    return np.ascontiguousarray(np.concatenate([planes[::-1], alpha]).transpose(1, 2, 0))


def take_image(program: Any) -> None:
    """Change the only input of a converted program from bytes [S, S, 4] to a picture of that size."""
    ir = mlir()

    module = MODULE(program)
    (graph,) = [operation for operation in module.body.operations if "priv" not in operation.attributes]
    (argument,) = graph.regions[0].blocks[0].arguments
    with module.context, ir.Location.unknown():
        given, (height, width, _) = argument.type, tensor_type(argument).shape
        kind = ir.FourCCAttr.get_enum(enum_value=ir.FourCC.BGRA32)
        users = [(use.owner, use.operand_number) for use in argument.uses]
        argument.set_type(ir.ImageType.get(fourcc_attr=kind, height=height, width=width))
        first = ir.InsertionPoint(next(iter(operations(graph))))
        made: Any = ir.Operation.create(TO_TENSOR, results=[given], operands=[argument], ip=first)
        for owner, place in users:
            owner.operands[place] = made.results[0]
    declare(graph, module)


def give_bytes(asset: Asset, function: Any) -> bool:
    """Undo `take_image` in an opened asset; say whether the function took a picture."""
    (argument, *others) = function.regions[0].blocks[0].arguments
    if others or not tensor_type(argument).dtype.startswith(IMAGE):
        return False
    for operation in [one for one in operations(function) if one.name == TO_TENSOR]:
        given = operation.results[0].type
        operation.results[0].replace_all_uses_with(argument)
        operation.operation.erase()
        argument.set_type(given)
    declare(function, asset.module)
    return True
