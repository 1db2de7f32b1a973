"""Teachers: loaded, folded checkpoints that embed augmented images and captions. `SharedTeacher` is a teacher for other
processes: its weights are in a file on a shared disk, the rest travels with each task."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.errors import REASON, InvalidInput, UsageError, reraising
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.folding import fold, is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.training.reinforcement.augmentation import replay
from mobileclip_deploy.training.reinforcement.index import TeacherEntry

BATCH = 64


@dataclass(frozen=True)
class Teacher:
    """A folded checkpoint and its entry in the index."""

    model: MobileCLIP
    entry: TeacherEntry

    @classmethod
    def of(cls, model: MobileCLIP) -> Teacher:
        """Makes a teacher of a loaded checkpoint; a training form is folded in place.

        Raises:
            UsageError: it lacks a tower, or was not loaded from a file.
        """
        if model.provenance is None:
            raise UsageError("a teacher must be loaded from a checkpoint, so that the dataset can name it")
        if set(model.towers) != set(TOWERS):
            raise UsageError(f"teacher {model.provenance.file} has the {model.towers[0]} tower only; both are needed")
        if not is_folded(model):
            fold(model)
        entry = TeacherEntry(
            file=model.provenance.file,
            sha256=model.provenance.sha256,
            variant=model.variant.name,
            embed_dim=model.variant.embed_dim,
            image_size=model.variant.preprocess.size,
            scale=model.logit_factor,
            weights=model.provenance.weights,
        )
        return cls(model, entry)

    @torch.no_grad()
    def views(self, pixels: Tensor) -> Tensor:
        """Returns unit embeddings float32 [N, D] of images [N, 3, S, S] in [0, 1]. Images of another size are resized
        (bicubic), as in apple/ml-mobileclip-dr (scripts/gen.py at commit 418551d)."""
        spec = self.model.variant.preprocess
        parts = []
        for part in pixels.split(BATCH):
            if part.shape[-1] != spec.size:
                part = F.interpolate(part, size=(spec.size, spec.size), mode="bicubic")
            parts.append(self.model.encode_image(normalize(part, spec)))
        return self._unit(torch.cat(parts))

    @torch.no_grad()
    def texts(self, texts: Sequence[str], dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Returns unit embeddings [N, D] of texts. Equal texts are computed once."""
        different = list(dict.fromkeys(texts))
        if not different:
            return torch.empty(0, self.entry.embed_dim, dtype=dtype)
        ids = torch.from_numpy(encode(different, self.model.variant.tokens))
        embedded = self._unit(torch.cat([self.model.encode_text(part) for part in ids.split(BATCH)])).to(dtype)
        index_of = {text: index for index, text in enumerate(different)}
        return embedded[[index_of[text] for text in texts]]

    def _unit(self, embedded: Tensor) -> Tensor:
        if not torch.isfinite(embedded).all():
            raise InvalidInput(f"teacher {self.entry.file} has embeddings that are not finite; use another one")
        return F.normalize(embedded, dim=-1)


class Views:
    """A teacher's embeddings of augmented images that are added one after another; memory holds one batch at a time."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._waiting: list[Tensor] = []
        self._done: list[Tensor] = []

    def add(self, image: Image.Image, parameters: Tensor) -> None:
        """Adds the augmentations [K, P] of one RGB image."""
        spec = self.teacher.model.variant.preprocess
        self._waiting += replay(image, parameters, spec.size, spec.interpolation)
        while len(self._waiting) >= BATCH:
            self._embed(BATCH)

    def embeddings(self) -> Tensor:
        """Returns unit embeddings bfloat16 [N, D] of all added augmentations."""
        if self._waiting:
            self._embed(len(self._waiting))
        return torch.cat(self._done)

    def _embed(self, count: int) -> None:
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        # Channels last, as the views are and as the image tower is fastest.
        pixels = torch.stack(batch).contiguous(memory_format=torch.channels_last)
        self._done.append(self.teacher.views(pixels).to(torch.bfloat16))


@dataclass(frozen=True)
class SharedTeacher:
    """A teacher with meta tensors; the real ones are in `file`."""

    teacher: Teacher
    file: Path


def share(teacher: Teacher, file: Path) -> SharedTeacher:
    """Writes a teacher's tensors to a file, with the buffers that no checkpoint has.

    Raises:
        InvalidInput: the file cannot be written.
    """
    tensors = dict(_tensors(teacher.model))
    save_tensors(file, tensors, {})
    bare = {id(value): _bare(value) for value in tensors.values()}
    return SharedTeacher(replace(teacher, model=copy.deepcopy(teacher.model, bare)), file)


def _bare(value: Tensor) -> Tensor:
    empty = value.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


_LOADED: dict[Path, Teacher] = {}


def loaded(teacher: Teacher | SharedTeacher) -> Teacher:
    """Returns the teacher itself. A shared teacher is read once per process.

    Raises:
        InvalidInput: its file cannot be read here.
    """
    if isinstance(teacher, Teacher):
        return teacher
    file = teacher.file
    if file not in _LOADED:
        for other in [path for path in _LOADED if path.parent != file.parent]:
            del _LOADED[other]  # of an earlier run, in a process that serves many
        with reraising(f"the teacher's weights {file} cannot be read here ({REASON})", OSError):
            tensors = load_file(file)
        model = teacher.teacher.model.to_empty(device="cpu")
        for name, value in _tensors(model):
            value.data.copy_(tensors[name])
        _LOADED[file] = replace(teacher.teacher, model=model.eval().requires_grad_(False))
    return _LOADED[file]
