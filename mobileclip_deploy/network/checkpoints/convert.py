"""Conversion of a checkpoint from one layout to another, if the other can hold the same network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mobileclip_deploy.base.files import StrPath, check_file_destination
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import CheckpointError, UsageError, suggestion
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.checkpoints.cutting import Languages, cut_vocabulary
from mobileclip_deploy.network.checkpoints.finetuned import merged
from mobileclip_deploy.network.checkpoints.fitting import LAYOUTS
from mobileclip_deploy.network.checkpoints.identity import KEPT, TUNED_FROM, Identity, identify
from mobileclip_deploy.network.checkpoints.loading import Origin, load, load_identified, read_weight
from mobileclip_deploy.network.checkpoints.mixing import MixCurve, check_ratio
from mobileclip_deploy.network.checkpoints.mixing import mix as mix_weights
from mobileclip_deploy.network.checkpoints.preprocessing import CARD, METADATA, chosen_preprocess
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.checkpoints.vocabulary import described, distilled, distilled_from
from mobileclip_deploy.network.checkpoints.weights_files import checkpoint_file, checkpoint_sha256
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.variants import load_variant

BIAS = "image.projection.bias"
TOKENS = "token_embedding.weight"
"""End of every layout's name of the table of tokens."""


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion: `tensors` of `variant`, from one layout to the other; `notes` for the user. `ratio`:
    share of the source's weights in a mix with its original. `curve`: measurements that chose it."""

    output: Path
    variant: str
    source_layout: str
    layout: str
    tensors: int
    notes: tuple[str, ...]
    ratio: float | None = None
    curve: MixCurve | None = None


def convert(
    source: StrPath,
    layout: str | None,
    output: StrPath,
    variant: str | None = None,
    *,
    base: StrPath | None = None,
    mix: StrPath | None = None,
    ratio: float = 0.5,
    preprocess: str | None = None,
    languages: Languages | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Conversion:
    """Writes a checkpoint in another layout, or in its own without wrappers and prefixes. Weights keep their dtype.

    Args:
        source: a checkpoint in any layout.
        layout: "apple", "open_clip", "transformers" (SigLIP2) or "folded" (which folds); the source's own when None.
        output: .safetensors, or .pt for a plain state dict; folded models are .safetensors.
        variant: as for `load`.
        base: the checkpoint into which the source, a LoRA adapter of PEFT, is merged in float32.
        mix: the original from which the source was fine-tuned; the output has (1 - `ratio`) of its weights and `ratio`
            of the source's (WiSE-FT), in float32.
        preprocess: as for `load`; recorded in the metadata of the output.
        languages: cuts a SentencePiece vocabulary. Embeddings stay comparable with the source's; texts whose pieces all
            stay keep theirs exactly. `notes` report the captions' losses.
        force: replace `output` if it exists.

    Raises:
        UsageError: unknown layout or variant, the variant has none of that layout, or the output exists.
        CheckpointError: the source cannot be read, or the other layout cannot hold its network.
        InvalidInput: the output cannot be written.
    """
    layout = layout and layout.lower()
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}{suggestion(layout, LAYOUTS)}; known: {', '.join(LAYOUTS)}")
    source, output = checkpoint_file(Path(source)), Path(output)
    check_file_destination(output, force)
    card = None if variant is None else load_variant(variant)
    check_ratio(ratio)
    progress(f"reading {source.name}")
    file = open_tensors(source)
    identity = identify(file if base is None else merged(open_tensors(checkpoint_file(Path(base))), file), card)
    layout = identity.layout if layout is None else layout
    if identity.layout == folded.NAME:
        raise CheckpointError(f"{source} is folded, which cannot be undone; give the training checkpoint")
    if layout == folded.NAME and languages is not None:
        raise UsageError("a vocabulary cannot be cut while folding; cut it first, then fold the written file")
    if layout == folded.NAME and (base is not None or mix is not None):
        raise UsageError("weights cannot be merged while folding; write another layout first, then fold that file")
    if layout == folded.NAME:
        with sole_writer(output, "convert", force=force):
            return _fold(identity, source, output, preprocess, progress)
    tokens = identity.variant.tokenizer
    if tokens is not None and tokens.from_checkpoint and output.suffix != ".safetensors":
        raise UsageError(f"{source} has its own vocabulary, which {output.name} cannot store; write a .safetensors")
    weights = {
        ours: read_weight(identity.file, entry, ours)
        for ours, entry in identity.candidate.expected.items()
        if entry.key in identity.file.shapes or not entry.optional
    }
    if mix is not None:
        weights = _mixed(identity, weights, Path(mix), ratio)
    tensors, notes = _mapped(identity, layout, weights)
    metadata = {"variant": identity.variant.name, "layout": layout, "source_sha256": checkpoint_sha256(source)}
    made = distilled(identity.file.metadata, {}, source)
    if languages is not None:
        progress("cutting the vocabulary")
        cut = cut_vocabulary(identity.variant, languages)
        full = identity.variant.tokens.vocab_size
        table = next(key for key in tensors if key.endswith(TOKENS))
        tensors[table] = tensors[table][list(cut.rows)]
        if made is None:
            whole = load_identified(identity, source, Origin(sha256=metadata["source_sha256"]), read=weights)
            made = distilled_from(whole, languages.named, cut_from=full)
        tokens, notes = cut.tokens, (*notes, cut.summary(full))
    if (original := base if mix is None else mix) is not None:
        metadata[KEPT if mix is not None and ratio == 0 else TUNED_FROM] = Path(original).name
    metadata |= described(tokens, made)
    if (pictures := chosen_preprocess(identity, preprocess)) is not None:
        metadata[METADATA] = pictures.model_dump_json(exclude={"taken_from"})
    progress(f"writing {output.name}")
    with sole_writer(output, "convert", force=force):
        save_tensors(output, tensors, metadata)
    if KEPT in metadata:
        notes = (*notes, f"ratio 0: {output.name} has the weights of {metadata[KEPT]}, and none of {source.name}")
    share = None if mix is None else ratio
    notes = (*identity.notes, *notes)
    return Conversion(output, identity.variant.name, identity.layout, layout, len(tensors), notes, share)


def _mixed(identity: Identity, tuned: Mapping[str, Tensor], mix: Path, ratio: float) -> dict[str, Tensor]:
    """Returns weights between those of the checkpoint `mix` and the tuned ones, by our names."""
    original = load(mix, identity.variant.name, preprocess=CARD).state_dict()
    if BIAS in tuned and BIAS not in original:  # open_clip's form has a bias that Apple's lacks
        original[BIAS] = torch.zeros_like(tuned[BIAS])
    return mix_weights({name: value for name, value in original.items() if name in tuned}, tuned, ratio)


def _fold(identity: Identity, source: Path, output: Path, preprocess: str | None, progress: Progress) -> Conversion:
    model = load(source, identity.variant.name, preprocess=preprocess)
    progress("folding")
    fold(model)
    progress(f"writing {output.name}")
    folded.save(model, output)
    assert model.provenance is not None
    return Conversion(
        output, identity.variant.name, identity.layout, folded.NAME, len(model.state_dict()), model.provenance.notes
    )


def _mapped(identity: Identity, layout: str, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns the tensors under the other layout's names, and notes about added or dropped ones. `own`: by our
    names."""
    card = identity.variant
    if layout not in card.layouts:
        raise UsageError(f"{card.name} has no {layout} checkpoints; {_possible(identity)}")
    other = replace(identity.candidate, layout=layout)
    if differ := _differences(identity, layout):
        raise CheckpointError(
            f"{card.name} is another network in the {layout} layout ({', '.join(differ)} differ): the converted file "
            f"would give other embeddings; {_possible(identity)}, or use the checkpoint published in {layout} layout"
        )
    here, there = identity.candidate.expected, other.expected
    weights = dict(own)
    notes: tuple[str, ...] = ()
    if BIAS in weights and BIAS not in there:
        if weights.pop(BIAS).any():
            raise CheckpointError(
                f"{identity.file.path} has a trained projection bias ({here[BIAS].key}), which the {layout} layout "
                f"cannot store; {_possible(identity, but=layout)}"
            )
        notes = ("the projection's bias was all zero and is left out",)
    elif BIAS in there and BIAS not in weights:
        weights[BIAS] = torch.zeros(there[BIAS].shape, dtype=weights["image.projection.weight"].dtype)
        notes = ("a projection bias of zeros was added, which changes nothing",)
    return other.stored(weights), notes


def _differences(identity: Identity, layout: str) -> list[str]:
    """Returns the fields in which the variant's network differs between the checkpoint's layout and another one."""
    if "image" not in identity.towers:
        return []
    old, new = (identity.variant.for_layout(name).image.model_dump() for name in (identity.layout, layout))
    return [name for name in old if name != "projection_bias" and old[name] != new[name]]


def _possible(identity: Identity, but: str | None = None) -> str:
    """Returns the layouts in which the checkpoint can be written, in words."""
    layouts = [name for name in identity.variant.layouts if not _differences(identity, name)]
    return f"it can be written as {' or '.join(name for name in (*layouts, folded.NAME) if name != but)}"
