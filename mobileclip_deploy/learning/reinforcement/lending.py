"""Teachers for other processes: weights in a file on the disk that all see, the rest travels with each task."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.errors import InvalidInput, worded
from mobileclip_deploy.learning.reinforcement.teachers import Teacher

__all__ = ["Lent", "borrowed", "lend"]


@dataclass(frozen=True)
class Lent:
    """A teacher whose tensors, of no size here, stand in a file."""

    teacher: Teacher
    file: Path


def lend(teacher: Teacher, file: Path) -> Lent:
    """Write a teacher's tensors, buffers included that no checkpoint has.

    Raises:
        InvalidInput: the file cannot be written.
    """
    tensors = dict(_tensors(teacher.model))
    write_tensors(file, tensors, {})
    bare = {id(value): _bare(value) for value in tensors.values()}
    return Lent(replace(teacher, model=copy.deepcopy(teacher.model, bare)), file)


def _bare(value: Tensor) -> Tensor:
    empty = value.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


_BORROWED: dict[Path, Teacher] = {}


def borrowed(teacher: Teacher | Lent) -> Teacher:
    """The teacher itself; one that was lent is read once in a process.

    Raises:
        InvalidInput: its file cannot be read here.
    """
    if isinstance(teacher, Teacher):
        return teacher
    file = teacher.file
    if file not in _BORROWED:
        for other in [one for one in _BORROWED if one.parent != file.parent]:
            del _BORROWED[other]  # of a run before, in a process that serves many
        try:
            tensors = load_file(file)
        except OSError as error:
            raise InvalidInput(f"the teacher's weights {file} cannot be read here ({worded(error)})") from error
        model = teacher.teacher.model.to_empty(device="cpu")
        for name, value in _tensors(model):
            value.data.copy_(tensors[name])
        _BORROWED[file] = replace(teacher.teacher, model=model.eval().requires_grad_(False))
    return _BORROWED[file]
