"""The text tower that is taught, of the teacher's form with another vocabulary and context; and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mobileclip_deploy.checkpoints import open_clip
from mobileclip_deploy.checkpoints.fitting import Candidate
from mobileclip_deploy.checkpoints.identity import identify
from mobileclip_deploy.checkpoints.loading import load
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.checkpoints.vocabulary import described, image_sha256
from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.folding import is_folded
from mobileclip_deploy.model.architecture.text import TextTransformer
from mobileclip_deploy.model.provenance import Distilled
from mobileclip_deploy.model.tokenizer import tokens_of
from mobileclip_deploy.model.variants import TOWERS, TokenizerSpec

__all__ = ["check_teacher", "distilled_from", "started", "student", "write_checkpoint"]

EMBEDDING_STD = 0.02
TEXT = "text."


def check_teacher(source: Source) -> None:
    """Refuse a checkpoint whose text tower cannot be taught again.

    Raises:
        UsageError: it lacks a tower, is folded, or its text tower was distilled itself.
    """
    named = source.provenance.file
    if set(source.model.towers) != set(TOWERS):
        raise UsageError(f"{named} has the {source.model.towers[0]} tower alone; give the whole checkpoint")
    if is_folded(source.model):
        raise UsageError(f"{named} is folded; give the checkpoint in training form")
    if source.provenance.distilled is not None:
        raise UsageError(f"{named} was distilled itself; give {source.provenance.distilled.source_file}, its teacher")


def started(path: Path, source: Source) -> Source:
    """A checkpoint that was distilled from the same teacher, to go on from.

    Raises:
        UsageError: it is another checkpoint's, or folded.
    """
    found = Source.of(load(path))
    told = found.provenance.distilled
    if told is None or told.source_weights != source.provenance.weights or is_folded(found.model):
        raise UsageError(
            f"{path} is no checkpoint in training form whose text tower was distilled from {source.provenance.file}"
        )
    return found


def student(source: Source, tokens: TokenizerSpec, begin: str) -> TextTransformer:
    """A text tower in training form and training mode: the teacher's form, `tokens` its vocabulary and context.

    Args:
        begin: "teacher", with all its layers, its first positions, and the row of each token that both vocabularies
            have (other rows are the mean of all, with noise); "random", drawn anew but for the layer scales.
    """
    teacher, variant = source.model.text, source.variant
    assert teacher is not None
    assert variant.text is not None
    tower = TextTransformer(variant.text, tokens, variant.embed_dim)
    torch.nn.init.normal_(tower.token_embedding.weight, std=EMBEDDING_STD)
    torch.nn.init.normal_(tower.positional_embedding, std=EMBEDDING_STD)
    if begin == "teacher":
        _take(tower, teacher, tokens, variant.tokens)
    return tower.requires_grad_(True).train()


@torch.no_grad()
def _take(tower: TextTransformer, teacher: TextTransformer, tokens: TokenizerSpec, known: TokenizerSpec) -> None:
    state = teacher.state_dict()
    own = ("token_embedding.weight", "positional_embedding")
    tower.load_state_dict({name: value for name, value in state.items() if name not in own}, strict=False)
    length = min(len(tower.positional_embedding), len(teacher.positional_embedding))
    tower.positional_embedding[:length] = teacher.positional_embedding[:length]
    table = teacher.token_embedding.weight
    rows = {token: row for row, token in enumerate(tokens_of(known))}
    shared = [(row, rows[token]) for row, token in enumerate(tokens_of(tokens)) if token in rows]
    new = tower.token_embedding.weight
    new.copy_(table.mean(dim=0) + EMBEDDING_STD * torch.randn_like(new))
    mine, theirs = zip(*shared, strict=True)
    new[list(mine)] = table[list(theirs)]


def write_checkpoint(teacher: Path, tower: TextTransformer, made: Distilled, tokens: TokenizerSpec, path: Path) -> None:
    """The teacher's checkpoint with another text tower: every other tensor with the bytes that it has there, the text
    tower in the dtype that the teacher's has, and the vocabulary in the metadata."""
    identity = identify(open_tensors(teacher))
    own = Candidate(identity.variant.with_tokenizer(tokens), identity.layout, identity.towers)
    tensors: dict[str, Tensor] = {}
    state = tower.state_dict()
    for ours, entry in identity.candidate.expected.items():
        if not ours.startswith(TEXT) and entry.key in identity.file.shapes:
            tensors[_name(entry.key, own)] = identity.file.read(entry.key)
    for ours, entry in own.expected.items():
        if not ours.startswith(TEXT):
            continue
        value = state[ours.removeprefix(TEXT)].detach().cpu()
        found = identity.candidate.expected[ours].key
        dtype = identity.file.read(found).dtype if found in identity.file.shapes else value.dtype
        tensors[_name(entry.key, own)] = (entry.convert.theirs(value) if value.dim() else value).to(dtype).contiguous()
    told = dict(identity.file.metadata) | {"variant": own.variant.name, "layout": own.layout, "form": "training"}
    write_tensors(path, tensors, told | described(tokens, made))


def _name(key: str, candidate: Candidate) -> str:
    return open_clip.file_name(key, candidate.definition) if candidate.layout == open_clip.NAME else key


def distilled_from(source: Source, languages: tuple[str, ...]) -> Distilled:
    """What the checkpoint says of its teacher."""
    own, origin = image_sha256(source.model.state_dict()), source.provenance
    assert own is not None
    assert origin.weights is not None
    return Distilled(
        languages=languages,
        source_file=origin.file,
        source_sha256=origin.sha256,
        source_weights=origin.weights,
        image_sha256=own,
    )
