"""The student: a text tower of the teacher's form with another vocabulary and context; and its checkpoint."""

from pathlib import Path

import torch

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.checkpoints.fitting import CandidateIdentity
from mobileclip_deploy.network.checkpoints.identity import identify
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.checkpoints.vocabulary import described
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.model.architecture.attention import TransformerBlock
from mobileclip_deploy.network.model.architecture.text import TextTransformer
from mobileclip_deploy.network.model.provenance import Distilled
from mobileclip_deploy.network.model.tokenizer import tokens_of
from mobileclip_deploy.network.model.variants import TOWERS, TokenizerSpec
from mobileclip_deploy.training.language.recipe import TowerRecipe

EMBEDDING_STD = 0.02
TEXT = "text."


def teacher_of(path: Path) -> Source:
    """Opens a checkpoint as a teacher of text towers.

    Raises:
        UsageError: it lacks a tower, is folded, or its text tower was distilled itself.
    """
    source = Source.of(load(path))
    named = source.provenance.file
    if set(source.model.towers) != set(TOWERS):
        raise UsageError(f"{named} has the {source.model.towers[0]} tower only; give the whole checkpoint")
    if is_folded(source.model):
        raise UsageError(f"{named} is folded; give the checkpoint in training form")
    if source.provenance.distilled is not None:
        raise UsageError(f"{named} was itself distilled; give its teacher, {source.provenance.distilled.source_file}")
    return source


def started(path: Path, source: Source) -> Source:
    """Opens a checkpoint that was distilled from the same teacher, to continue from.

    Raises:
        UsageError: it is another checkpoint's, or folded.
    """
    earlier = Source.of(load(path))
    distilled = earlier.provenance.distilled
    if distilled is None or distilled.source_weights != source.provenance.weights or is_folded(earlier.model):
        raise UsageError(
            f"{path} is not a checkpoint in training form with a text tower distilled from {source.provenance.file}"
        )
    return earlier


def student(source: Source, tokens: TokenizerSpec, recipe: TowerRecipe) -> TextTransformer:
    """Builds a text tower in training form and mode, of the recipe's form, with the vocabulary and context of `tokens`.

    With `begin` "teacher" it gets the teacher's layers, its first positions, and the row of each token that both
    vocabularies have. A smaller form gets evenly spread layers, with the first and the last among them. Other rows are
    the mean of all, with noise. A tower of another width or with other heads gets nothing from the teacher. With
    "random" everything is drawn except the layer scales.

    Raises:
        UsageError: the form is larger than the teacher's, or of an unknown variant.
    """
    teacher, variant = source.model.text, source.variant
    form = variant.with_text_form(recipe.form).text
    assert teacher is not None
    if form.width > variant.text.width or form.depth > variant.text.depth:
        raise UsageError(
            f"the text tower of {recipe.form} has {form.depth} layers of width {form.width}, and the teacher's "
            f"{variant.text.depth} of {variant.text.width}; `form` names a smaller one"
        )
    tower = TextTransformer(form, tokens, variant.embed_dim)
    torch.nn.init.normal_(tower.token_embedding.weight, std=EMBEDDING_STD)
    torch.nn.init.normal_(tower.positional_embedding, std=EMBEDDING_STD)
    alike = (form.width, form.heads, form.mlp_ratio) == (variant.text.width, variant.text.heads, variant.text.mlp_ratio)
    if recipe.begin == "teacher" and alike:
        _take(tower, teacher, tokens, variant.tokens)
    return tower.requires_grad_(True).train()


@torch.no_grad()
def _take(tower: TextTransformer, teacher: TextTransformer, tokens: TokenizerSpec, known: TokenizerSpec) -> None:
    for name, value in teacher.named_children():
        if name not in ("blocks", "token_embedding"):
            getattr(tower, name).load_state_dict(value.state_dict())
    for transformers in (True, False):  # the others are RepMixers
        mine, theirs = (
            [block for block in model.blocks if isinstance(block, TransformerBlock) == transformers]
            for model in (tower, teacher)
        )
        for index, block in enumerate(mine if theirs else ()):
            spread = round(index * (len(theirs) - 1) / max(len(mine) - 1, 1))
            block.load_state_dict(theirs[spread].state_dict())
    length = min(len(tower.positional_embedding), len(teacher.positional_embedding))
    tower.positional_embedding[:length] = teacher.positional_embedding[:length]
    table = teacher.token_embedding.weight
    rows = {token: row for row, token in enumerate(tokens_of(known))}
    shared = [(row, rows[token]) for row, token in enumerate(tokens_of(tokens)) if token in rows]
    new = tower.token_embedding.weight
    new.copy_(table.mean(dim=0) + EMBEDDING_STD * torch.randn_like(new))
    targets, sources = zip(*shared, strict=True)
    new[list(targets)] = table[list(sources)]


def write_checkpoint(teacher: Path, tower: TextTransformer, made: Distilled, tokens: TokenizerSpec, path: Path) -> None:
    """Writes the teacher's checkpoint with another text tower. Every other tensor keeps its bytes. The text tower gets
    the dtype of the teacher's, and the vocabulary goes into the metadata."""
    identity = identify(open_tensors(teacher))
    card = identity.variant.with_tokenizer(tokens).with_text_form(made.form)
    candidate = CandidateIdentity(card, identity.layout, identity.towers)
    file, stored_keys = identity.file, identity.candidate.expected
    dtype = file.read(stored_keys["text.projection.weight"].key).dtype
    keys = {
        ours: entry.key for ours, entry in stored_keys.items() if not ours.startswith(TEXT) and entry.key in file.shapes
    }
    tensors = {candidate.name(ours): file.read(key) for ours, key in keys.items()}
    for name, value in tower.state_dict().items():
        tensors |= candidate.stored(
            {f"{TEXT}{name}": value.cpu().to(dtype) if value.is_floating_point() else value.cpu()}
        )
    metadata = dict(file.metadata) | {"variant": candidate.variant.name, "layout": candidate.layout, "form": "training"}
    save_tensors(path, tensors, metadata | described(tokens, made))
