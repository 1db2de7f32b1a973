"""Identification of an open checkpoint: its layout, its variant, its towers, and notes for the user."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from mobileclip_deploy.errors import CheckpointError, UsageError, listed
from mobileclip_deploy.network.checkpoints import folded, open_clip, siglip, transformers
from mobileclip_deploy.network.checkpoints.finetuned import plain_tower
from mobileclip_deploy.network.checkpoints.fitting import (
    POSITIONS,
    TABLE,
    CandidateIdentity,
    closest,
    find_layout,
    find_towers,
    fitting,
)
from mobileclip_deploy.network.checkpoints.tensor_files import TensorFile
from mobileclip_deploy.network.checkpoints.vocabulary import TOKENIZER, with_file_beside, with_vocabulary
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.scores import TrainedHead
from mobileclip_deploy.network.model.variants import TOWERS, Variant, load_variant

# A hub cache puts a file three folders below the one that names its repository.
PARENTS = 4


def choose(
    fits: Sequence[CandidateIdentity], path: Path, hints: Sequence[str] = ()
) -> tuple[CandidateIdentity, tuple[str, ...]]:
    """Chooses one of several candidates that a checkpoint fits, and returns it with notes for the user.

    A name decides: in `hints` (metadata, its repository), then in the file's name, then in its folders'. Without a
    name, variants that compute the same differ only in name and licence; the first is taken, with a note. Variants that
    compute different things from the same keys (a causal mask, quick GELU) are refused.

    Raises:
        CheckpointError: the fitting variants compute different things and nothing names one.
    """
    if len(fits) == 1:
        return fits[0], ()
    for text in (*hints, path.name, *(folder.name for folder in list(path.absolute().parents)[:PARENTS])):
        named = _named(fits, text)
        if named:
            return named, ()
    if len({_network(fit) for fit in fits}) > 1:
        apart = len({fit.variant.activation for fit in fits}) > 1
        sizes = (f"{fit.variant.activation}, {fit.definition.preprocess.size} px" for fit in fits)
        listed = (f"{name} ({size})" if apart else name for name, size in zip(_names(fits), sizes, strict=True))
        rule = "; open_clip's own ViTs have GELU, those called -quickgelu and OpenAI's have QuickGELU" if apart else ""
        raise CheckpointError(
            f"{path} fits {', '.join(listed)}, which compute different things from the same keys{rule}; "
            "say which with `variant`"
        )
    first, *others = _names(fits)
    same = f"{' or '.join(others)} is the same network: `variant` says which it is"
    return fits[0], (f"{path.name} is taken for {first}; {same}",)


def _names(candidates: Sequence[CandidateIdentity]) -> list[str]:
    return [candidate.variant.name for candidate in candidates]


def _named(candidates: Sequence[CandidateIdentity], text: str) -> CandidateIdentity | None:
    """Returns the candidate whose variant has the longest name that is in a text, in whole words."""
    words = _words(text)
    hits = []
    for candidate in candidates:
        published = (source.repository.rpartition("/")[2] for source in candidate.variant.sources)
        aliases = map(_words, (candidate.variant.name, *published))
        hits += [(len(alias), candidate.variant.name, candidate) for alias in aliases if alias in words]
    return max(hits, key=lambda hit: hit[:2])[2] if hits else None


def _words(text: str) -> str:
    return "-" + re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") + "-"


def _network(candidate: CandidateIdentity) -> str:
    """Returns the fields that decide an embedding, as text."""
    card = candidate.definition
    parts = {"image": (card.image, card.preprocess), "text": (card.text, card.tokenizer)}
    return repr([parts[tower] for tower in TOWERS if tower in candidate.towers])


REPARAMETERIZED = (".reparam_conv.", ".lkb_reparam.")


@dataclass(frozen=True)
class Identity:
    """Identity of a checkpoint. `file` has the names that its layout's key map uses. `source` is a folded file's record
    of the checkpoint it was made from. `head`: a classifier's, which is in the file next to the towers."""

    file: TensorFile
    candidate: CandidateIdentity
    notes: tuple[str, ...] = ()
    source: Provenance | None = None
    head: TrainedHead | None = None

    @property
    def variant(self) -> Variant:
        """Variant as on its card, whatever the layout."""
        return self.candidate.variant

    @property
    def layout(self) -> str:
        return self.candidate.layout

    @property
    def towers(self) -> tuple[str, ...]:
        """Towers that the file holds."""
        return self.candidate.towers


def identify(file: TensorFile, card: Variant | None = None, repository: str | None = None) -> Identity:
    """Identifies an open checkpoint, by itself or as a checkpoint of the variant `card`.

    Args:
        file: from `open_tensors`.
        card: of the variant it must be of.
        repository: its repository on the hub, which separates variants of the same network.

    Raises:
        CheckpointError: it is of no known layout, or does not fit the variant (or any); with the differences, and a
            variant that would fit.
    """
    file, head = plain_tower(file)
    if any(map(siglip.KEYS.match, file.shapes)):
        file = siglip.joined(file)
    elif any(map(transformers.KEYS.match, file.shapes)):
        file = transformers.as_open_clip(file)
    try:
        layout = find_layout(file.shapes)
    except CheckpointError as error:
        advice = _advice(file.shapes)
        raise CheckpointError(
            f"{file.path}{f' cannot be used as it is: {advice}' if advice else f': {error}'}"
        ) from None
    done = sum(any(mark in key for mark in REPARAMETERIZED) for key in file.shapes)
    if done and layout != folded.NAME:
        raise CheckpointError(
            f"{file.path} is already reparameterized, wholly or in part ({done} tensors), which leaves BatchNorms "
            "behind that can no longer be checked; give the training checkpoint"
        )
    if layout == folded.NAME:
        return _identify_folded(file, card)
    if TOKENIZER in file.metadata:
        card = _with_file_vocabulary(file, card)
    if layout == open_clip.NAME:
        if all(name.startswith(open_clip.TOWERS["image"]) for name in file.shapes):  # timm's own files lack the prefix
            file = replace(file, traces=(*file.traces, "the image tower alone"))
        file = file.renamed(open_clip.canonical_names(file.shapes))
    candidate, notes = _by_keys(file, layout, repository) if card is None else (_required(file, layout, card), ())
    candidate = _with_pieces(file, candidate)
    if head is not None and head.weights.shape[1] != candidate.variant.embed_dim:
        raise CheckpointError(
            f"{file.path}: its head takes {head.weights.shape[1]} values, and {candidate.variant.name}'s embedding has "
            f"{candidate.variant.embed_dim}; train the head on embeddings (of `encode_image`), or delete it"
        )
    texts = (*file.notes, *tuned_note(file.metadata), *notes, *_missing_tower(candidate), *_converted(file, candidate))
    return Identity(file, candidate, texts, head=head)


TUNED_FROM, KEPT, LONGEST_NAME = "tuned_from", "kept", 200
"""Keys of the metadata: the file that a fine-tune began with, and the one that a mix at ratio 0 has the weights of."""


def tuned_note(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a note if a file's metadata name the original of a fine-tune, or of a mix that is the original."""
    if (original := metadata.get(KEPT)) is not None:
        return (f"the weights of {original[:LONGEST_NAME]}, unchanged: a mix at ratio 0",)
    if (original := metadata.get(TUNED_FROM)) is None:
        return ()
    return (
        f"fine-tuned from {original[:LONGEST_NAME]}, whose embeddings cannot be compared with these: make each index "
        "again; `compare` with `baseline` reports the accuracy of both",
    )


def _with_file_vocabulary(file: TensorFile, card: Variant | None) -> Variant:
    """Returns the variant that a file with a vocabulary names, with that vocabulary."""
    if card is None:
        try:
            card = load_variant(file.metadata.get("variant", ""))
        except UsageError as error:
            raise CheckpointError(
                f"{file.path} has its own vocabulary, but names no variant; name it with `variant`"
            ) from error
    return with_vocabulary(card, file.metadata, file.path)


def _with_pieces(file: TensorFile, found: CandidateIdentity) -> CandidateIdentity:
    """Adds the vocabulary in the file next to a checkpoint, if its variant needs one and it brings none."""
    tokens = found.variant.tokenizer
    if "text" not in found.towers or tokens.kind is None or not tokens.missing:
        return found
    rows = file.shapes[found.expected[TABLE].key][0]
    like = found.definition.tokenizer
    return replace(found, variant=with_file_beside(found.variant.with_tokenizer(like), rows, file.path))


def _by_keys(file: TensorFile, layout: str, repository: str | None) -> tuple[CandidateIdentity, tuple[str, ...]]:
    """Identifies a file by its names and shapes; returns the candidate and notes for the user."""
    fits = fitting(layout, file.shapes)
    if not fits:
        _refuse_misfit(file, closest(layout, file.shapes))
    if (activation := file.metadata.get(transformers.ACTIVATION)) is not None:
        fits = [candidate for candidate in fits if candidate.variant.activation == activation] or fits
    fits = _at_their_size(file, fits)
    if _has_zero_bias(file, fits[0]):
        # Written by a conversion from Apple's layout, so of a variant that exists there.
        fits = [candidate for candidate in fits if "apple" in candidate.variant.layouts] or fits
    return choose(fits, file.path, [hint for hint in (repository, file.metadata.get("variant")) if hint])


def _at_their_size(file: TensorFile, fits: list[CandidateIdentity]) -> list[CandidateIdentity]:
    """Returns the candidates without cards of a larger image size than the file's position table is for: the smaller
    ones may have been fine-tuned to any size."""
    sizes = {fit.variant.name: fit.definition.preprocess.size for fit in fits}
    return [
        fit
        for fit in fits
        if (table := fit.expected.get(POSITIONS)) is None
        or sizes[fit.variant.name] == min(sizes.values())
        or table.shape == file.shapes[table.key]
    ]


def _identify_folded(file: TensorFile, variant: Variant | None) -> Identity:
    source = folded.provenance(file.metadata, file.path)
    if variant is not None and variant.name != source.variant:
        raise CheckpointError(f"{file.path} is a {source.variant} checkpoint, not {variant.name}; leave `variant` out")
    card = with_vocabulary(load_variant(source.variant), file.metadata, file.path)
    candidate = CandidateIdentity(card, folded.NAME, source.towers, source.layout)
    if not (result := candidate.fit(file.shapes)).exact:
        raise CheckpointError(
            f"{file.path} is not a complete folded {source.variant}: {result.describe()}; write it again with "
            "`reparameterize`"
        )
    return Identity(file, candidate, _missing_tower(candidate), source)


def _required(file: TensorFile, layout: str, card: Variant) -> CandidateIdentity:
    if layout not in card.layouts:
        fits = _names(fitting(layout, file.shapes))
        hint = f"it fits {' and '.join(fits)}" if fits else f"{card.name} comes in {' and '.join(card.layouts)} layout"
        raise CheckpointError(f"{file.path} is in {layout} layout, which {card.name} has no checkpoints in; {hint}")
    candidate = CandidateIdentity(card, layout, find_towers(layout, file.shapes))
    if not candidate.fit(file.shapes).exact:
        _refuse_misfit(file, candidate)
    return candidate


def _refuse_misfit(file: TensorFile, wanted: CandidateIdentity) -> NoReturn:
    others = [name for name in _names(fitting(wanted.layout, file.shapes)) if name != wanted.variant.name]
    if others:
        raise CheckpointError(
            f"{file.path} is {' or '.join(others)}, not {wanted.variant.name}; say so with `variant`, or leave it out"
        )
    fit = wanted.fit(file.shapes)
    if (advice := _advice(file.shapes)) is not None:
        raise CheckpointError(f"{file.path} cannot be used as it is: {advice}")
    if fit.unexpected and not fit.missing and not fit.misshaped:
        names = f"{file.path} has {len(fit.unexpected)} tensors that {wanted.variant.name} does not have"
        hint = f"{listed(fit.unexpected, 4)} (a head of your own?)"
        raise CheckpointError(f"{names}: {hint}; delete them from the state_dict and save it again")
    hint = "give a checkpoint of a known variant (`variants` lists them)"
    raise CheckpointError(f"{file.path} does not fit {wanted.variant.name}: {fit.describe()}; {hint}")


ADVICE = (
    # Names that PEFT, loralib and diffusers give the factors of a low-rank update.
    (
        re.compile(r"(^|\.)lora_|\.base_layer\."),
        "it has LoRA factors: merge them into the weights before saving (PEFT: `merge_and_unload()`)",
    ),
    (
        re.compile(r"^visual\.layer4\.\d+\.conv|^visual\.attnpool\."),
        "it is one of CLIP's ResNets, such as RN50, which are not supported; give a MobileCLIP or a ViT (`variants` "
        "lists them)",
    ),
    (
        re.compile(r"^adapter\.(fc|down|0)|(^|\.)adapter_(down|up)"),
        "it has a CLIP-Adapter alone, which takes embeddings: export the checkpoint that it was trained on, and "
        "apply it to the output",
    ),
    # ema-pytorch and Lightning modules keep a second, averaged network.
    (
        re.compile(r"^(module\.)?(ema_model|online_model|model_ema|ema)\."),
        "it has an averaged network and the trained one: save the state_dict of only one",
    ),
)
"""Patterns of tensor names that training tools write, and advice for each."""


def _advice(names: Iterable[str]) -> str | None:
    """Returns the next step for a file of a known training tool. None for others."""
    listed = list(names)
    if sum("lora_" in name for name in listed) > len(listed) / 2:
        return (
            "it has the factors of a LoRA adapter alone: merge them by `mobileclip-deploy convert ADAPTER --base "
            "ORIGINAL -o merged.safetensors`, then use that file"
        )
    return next((advice for pattern, advice in ADVICE if any(pattern.search(name) for name in listed)), None)


def _missing_tower(found: CandidateIdentity) -> tuple[str, ...]:
    return tuple(f"the checkpoint has no {tower} tower" for tower in TOWERS if tower not in found.towers)


def _has_zero_bias(file: TensorFile, found: CandidateIdentity) -> bool:
    """Returns whether an open_clip file has the projection bias that a conversion from Apple's layout adds: all
    zero."""
    if found.layout != open_clip.NAME or "image" not in found.towers or not found.definition.image.projection_bias:
        return False
    return not file.read(found.expected["image.projection.bias"].key).any()


def _converted(file: TensorFile, found: CandidateIdentity) -> tuple[str, ...]:
    """Returns a warning if open_clip's form of Apple's weights is another network.

    Apple's projection has no bias; timm's head has one, which timm's conversion sets to zero and training moves. Both
    compute the same for MCi towers, but timm's ViT-B/16 pads its stem differently.
    """
    card = found.variant
    if not {"apple", "open_clip"} <= card.layouts.keys() or not _has_zero_bias(file, found):
        return ()
    apple, theirs = card.for_layout("apple").image, found.definition.image
    if theirs == apple.model_copy(update={"projection_bias": True}):
        return ()
    return (
        f"{file.path.name} looks converted from Apple's layout (its projection bias is all zero): open_clip "
        f"pads the stem and sets epsilons differently, so the embeddings are not those Apple trained; prefer Apple's "
        f"own {card.name}.pt",
    )
