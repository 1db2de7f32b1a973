"""Learning of a vocabulary like CLIP's: lower case, CLIP's splitting, byte-level BPE, "</w>" at the end of a word."""

import json
from collections.abc import Iterable

from mobileclip_deploy.errors import InvalidInput, import_optional
from mobileclip_deploy.network.model.byte_pairs import PIECES
from mobileclip_deploy.network.model.tokenizer import CLIP, cleaned
from mobileclip_deploy.network.model.variants import FIRST_MERGE, TokenizerSpec

MOST_TOKENS = CLIP.vocab_size
"""Largest vocabulary, CLIP's own: open_clip's tokenizer reads no more merges."""
END = "</w>"


def learned_vocabulary(texts: Iterable[str], size: int, context_length: int) -> TokenizerSpec:
    """Learns a vocabulary of at most `size` tokens by Hugging Face's `tokenizers`. It is smaller if no pair of tokens
    occurs twice any more.

    Raises:
        InvalidInput: the size has no room for bytes and a merge, or is larger than open_clip's tokenizer can read.
        DependencyMissing: `tokenizers` is not installed.
    """
    if not FIRST_MERGE + 2 < size <= MOST_TOKENS:
        raise InvalidInput(f"a vocabulary has from {FIRST_MERGE + 3} to {MOST_TOKENS:,} tokens, not {size:,}")
    tokenizers = import_optional("tokenizers", "mobileclip-deploy[language]")
    splits = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix=END))
    tokenizer.pre_tokenizer = splits.Sequence(
        [
            splits.Split(tokenizers.Regex(PIECES), "removed", invert=True),
            splits.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(splits.ByteLevel.alphabet())
    # All 512 get their ids before the trainer meets them in its words, whose order changes from run to run. Ids decide
    # which of two equally frequent pairs comes first.
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size - 2,
        min_frequency=2,
        show_progress=False,
        special_tokens=[*alphabet, *(char + END for char in alphabet)],
        end_of_word_suffix=END,
    )
    tokenizer.train_from_iterator((cleaned(text) for text in texts), trainer)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    if not merges:
        raise InvalidInput("no pair of characters occurs twice: give more sentences")
    # Two merges may give one token; it keeps one id, and the first of them.
    first = {merge.replace(" ", ""): merge for merge in reversed(merges)}
    merges = [merge for merge in merges if first[merge.replace(" ", "")] == merge]
    return TokenizerSpec.from_merges(merges, context_length)
