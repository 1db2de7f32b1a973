"""Encoding of texts as token ids, by CLIP's merges or by a checkpoint's SentencePiece vocabulary. Also writes the
files that give other tokenizers the same vocabulary."""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.byte_pairs import LETTERS, PIECES, WORD_END, byte_pairs, cleaned_by
from mobileclip_deploy.network.model.sentencepiece import byte_piece, fast_tokenizer, framed, pieces, replaced
from mobileclip_deploy.network.model.variants import FIRST_MERGE, TokenizerSpec

TokenizerFile = Literal[
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
]
"""Files from which clients read the vocabulary or the tokenizer."""

# Names of the two special tokens in transformers and Apple's apps; open_clip's vocabulary has its own.
_SOT = "<|startoftext|>"
_EOT = "<|endoftext|>"
Padding = Literal["inside", "outside", "second name"]
"""Padding of the files for `tokenizers`: with the end token, for a graph that pads inside; none, for apps that pad with
id 0; or, in earlier versions, a second name of id 0. No file may name "!" as padding: transformers (5.24) then encodes
every "!" of a prompt as 0 instead of 256."""
_SECOND_NAME = "<|pad|>"
# Class of transformers that takes tokenizer.json as it is. The model's own class builds another normalizer.
_AS_IT_IS = "PreTrainedTokenizerFast"
VERSION = "#version: 0.2"
"""First line of merges.txt."""
CLIP = TokenizerSpec()
"""CLIP's vocabulary, with 77 tokens."""

# ftfy's work in the cleaning of texts: it straightens quotes (phones type curly ones) and drops control characters.
_SINGLE_QUOTES = "[\u02bc\u2018-\u201b]"
_DOUBLE_QUOTES = "[\u201c-\u201f]"
CHARACTERS_A_TOKEN = 64
"""Number of characters per token of the context that are read of a text. Cleaning is quadratic in some texts
(`&amp;amp;...`), merging is in long words, and everything after the last token is cut anyway. Words, signs and blanks
take about five characters per token, and the longest token of the vocabulary has 32 bytes. So the tokens of an honest
text fill the context long before the last character that is read, and nothing after a word changes its tokens. If they
do not fill it, as after thousands of blanks, the text is refused."""
_CONTROL = "[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"


def _ids(texts: Sequence[str], vocabulary: TokenizerSpec) -> npt.NDArray[np.int64]:
    pairs, length = byte_pairs(vocabulary.merges), vocabulary.context_length
    limit = CHARACTERS_A_TOKEN * length
    ids = np.zeros((len(_read(texts)), length), np.int64)
    for row, text in zip(ids, texts, strict=True):
        tokens = [pairs.sot, *pairs.encode(cleaned(text[:limit], vocabulary))[: length - 2], pairs.eot]
        row[: len(tokens)] = tokens
    _refuse_cut_short(texts, ids[:, -1] == pairs.eot, limit, length)
    return ids


def _read(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise InvalidInput("give a list of prompts, not one string")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"prompt {index} is {type(text).__name__} instead of a string")
    return texts


def _refuse_cut_short(texts: Sequence[str], full: npt.NDArray[np.bool_], limit: int, context_length: int) -> None:
    """Refuses a long text whose first characters do not fill the context."""
    for index, text in enumerate(texts):
        if len(text) > limit and not full[index]:
            raise InvalidInput(
                f"prompt {index} has {len(text):,} characters, and its first {limit:,} make fewer than "
                f"{context_length} tokens; shorten it"
            )


def encode(texts: Sequence[str], tokens: TokenizerSpec = CLIP) -> npt.NDArray[np.int64]:
    """Encodes prompts as open_clip does, or in the vocabulary that the checkpoint brings: int64 [N, L]. CLIP's rows are
    SOT 49406, the text, EOT 49407, then 0.

    Text is repaired (ftfy), unescaped (HTML), lowercased and stripped of repeated whitespace. A text that is too long
    is cut, and EOT stays last. A prompt that spells a special token, such as "<end_of_text>", is encoded as words; in
    open_clip it would end there.

    Raises:
        InvalidInput: `texts` is one string and not a list of strings; or a long text begins with only blanks, entities
            and the like. Or the text tower has fewer tokens than the texts need, or its vocabulary is missing.
        DependencyMissing: `tokenizers` is not installed, and the vocabulary is of another kind than CLIP's.
    """
    if tokens.missing:
        if tokens.kind is not None:
            raise InvalidInput(
                "the text tower has a vocabulary of its own, and no tokenizer.json beside its file; put the one there "
                "that is published with it"
            )
        raise InvalidInput(
            "the text tower has a vocabulary of its own, whose merges were not read; open its checkpoint"
        )
    ids = _ids(texts, tokens) if tokens.kind is None else _pieces(texts, tokens)
    if (largest := int(ids.max(initial=0))) >= tokens.vocab_size:
        raise InvalidInput(
            f"the text tower has a vocabulary of {tokens.vocab_size} tokens, and texts are encoded by CLIP's, with ids "
            f"up to {largest}: a text tower with a tokenizer of its own cannot be used"
        )
    return ids


def _pieces(texts: Sequence[str], tokens: TokenizerSpec) -> npt.NDArray[np.int64]:
    limit = CHARACTERS_A_TOKEN * tokens.context_length
    clean = [cleaned(text[:limit], tokens) for text in _read(texts)]
    rows = [row.ids for row in fast_tokenizer(tokens.file).encode_batch(clean)]
    ids = np.array(rows, np.int64).reshape(len(rows), tokens.context_length - (tokens.last is not None))
    _refuse_cut_short(texts, ids[:, -1] != tokens.pad, limit, tokens.context_length)
    return ids if tokens.last is None else np.pad(ids, ((0, 0), (0, 1)), constant_values=tokens.last)


def cleaned(text: str, tokens: TokenizerSpec = CLIP) -> str:
    """Returns a text as its vocabulary needs it: repaired, unescaped, lower case, single blanks, and for some kinds
    without punctuation."""
    if tokens.cleaning == "lower":  # letter by letter, as `tokenizers` does: no sigma has a final form
        return "".join(letter.lower() for letter in text)
    return cleaned_by(text, tokens.cleaning)


def unknown_share(text: str, tokens: TokenizerSpec) -> float:
    """Returns the share (0 to 1) of a text's tokens that are unknown, or single bytes of letters beyond ASCII. A
    checkpoint's vocabulary did not learn those, for example another script. Always 0 for CLIP's own vocabulary."""
    if not tokens.merges and not tokens.file:
        return 0.0
    bare = text[: CHARACTERS_A_TOKEN * tokens.context_length]
    if tokens.kind is not None:
        tokenizer = fast_tokenizer(tokens.file)
        row = tokenizer.encode(cleaned(bare, tokens))
        parts = [piece for piece, used in zip(row.tokens, row.attention_mask, strict=True) if used]
        parts = parts[len(tokens.first) : -1]
        return sum(byte_piece(piece) is not None for piece in parts) / max(len(parts), 1)
    pairs = byte_pairs(tokens.merges)
    ids = pairs.encode(cleaned(bare))
    single = [pairs.tokens[id].removesuffix(WORD_END) for id in ids if id < FIRST_MERGE]
    return sum(LETTERS[char] >= 0x80 for char in single) / max(len(ids), 1)


def tokens_of(tokens: TokenizerSpec) -> tuple[str, ...]:
    """Returns the token of each id of a vocabulary, as its file writes it. CLIP's kind has bytes as printable
    characters, and "</w>" at the end of a word."""
    if tokens.kind is not None:
        return pieces(tokens)
    return byte_pairs(tokens.merges).tokens


def tokenizer_names(tokens: TokenizerSpec) -> tuple[TokenizerFile, ...]:
    """The files that `write_tokenizer_files` writes."""
    return ("vocab.json", "merges.txt") if tokens.kind is None else ("tokenizer.json",)


def write_tokenizer_files(folder: str | PathLike[str], tokens: TokenizerSpec = CLIP) -> list[Path]:
    """Writes `vocab.json` and `merges.txt` in the formats of transformers' and Apple's Swift CLIPTokenizer. A
    vocabulary of another kind gets its `tokenizer.json`.

    The bytes depend on the vocabulary of `tokens` alone. `folder` is created when missing.

    Returns:
        The files written.
    """
    names = tokenizer_names(tokens)
    written = [Path(folder) / name for name in names]
    for name, path in zip(names, written, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tokenizer_file(name, tokens))
    return written


def tokenizer_file(name: TokenizerFile, tokens: TokenizerSpec = CLIP, padding: Padding = "outside") -> bytes:
    """Returns a file of a vocabulary; transformers.js and others read `tokenizer.json`, `tokenizer_config.json` and
    `special_tokens_map.json`.

    Loaded by `tokenizers`, the ids equal `encode`'s unless a prompt contains one of these, which tokenizer.json cannot
    express:

    - HTML entities, and text that ftfy repairs beyond quotes and control characters: mojibake, terminal escapes, Latin
      ligatures, full-width and half-width forms;
    - a capital sigma at the end of a word, an apostrophe before a long s, and a combining iota subscript;
    - the words "<|startoftext|>" and "<|endoftext|>", which become the special tokens.

    Clients add limits of their own: transformers.js (4.3) drops the last EOT when it truncates. The bytes depend on
    `tokens` and `padding` alone.

    Raises:
        UsageError: a file of CLIP's kind, for a vocabulary of another kind.
    """
    if tokens.kind is not None:
        return _piece_file(name, tokens)
    special = {"bos_token": _SOT, "eos_token": _EOT, "unk_token": _EOT}
    if padding != "outside":
        special["pad_token"] = _EOT if padding == "inside" else _SECOND_NAME
    if name == "vocab.json":
        return _json(_vocabulary(tokens))
    if name == "merges.txt":
        return ("\n".join([VERSION, *_merges(tokens)]) + "\n").encode("utf-8")
    if name == "tokenizer.json":
        return _json(_fast_tokenizer(tokens, special.get("pad_token")))
    if name == "special_tokens_map.json":
        return _json(special)
    config = {**special, "add_prefix_space": False, "clean_up_tokenization_spaces": False, "do_lower_case": True}
    config |= {"errors": "replace", "model_max_length": tokens.context_length}
    if padding == "second name":
        return _json({**config, "tokenizer_class": "CLIPTokenizer"})
    return _json({**config, "model_input_names": ["input_ids", "attention_mask"], "tokenizer_class": _AS_IT_IS})


def _piece_file(name: TokenizerFile, tokens: TokenizerSpec) -> bytes:
    if name in ("vocab.json", "merges.txt"):
        raise UsageError(
            f"{name} holds a vocabulary of CLIP's kind, and this checkpoint has another kind; choose a layout with "
            "tokenizer.json, or none"
        )
    if name == "tokenizer.json":
        return tokens.file.encode("utf-8")
    names = pieces(tokens)
    special = {"eos_token": names[tokens.eot], "pad_token": names[tokens.pad]}
    if tokens.sot is not None:
        special["bos_token"] = names[tokens.sot]
    if name == "special_tokens_map.json":
        return _json(special)
    length = {"model_max_length": tokens.context_length - (tokens.last is not None), "padding_side": "right"}
    return _json({**special, **length, "tokenizer_class": _AS_IT_IS})


def _fast_tokenizer(tokens: TokenizerSpec, pad_token: str | None) -> dict[str, Any]:
    """Returns the content of a tokenizer.json, the format of Hugging Face's `tokenizers`."""
    vocabulary = _vocabulary(tokens)
    if pad_token == _SECOND_NAME:
        vocabulary = {_SECOND_NAME: tokens.pad} | vocabulary
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        **framed(tokens.context_length, 0 if pad_token is None else vocabulary[pad_token], pad_token),
        "added_tokens": [{"id": vocabulary[token], "content": token, **flags} for token in (_SOT, _EOT)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                replaced(_SINGLE_QUOTES, "'"),
                replaced(_DOUBLE_QUOTES, '"'),
                replaced(_CONTROL, ""),
                {"type": "NFC"},
                replaced(r"\s+", " "),
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [_EOT, vocabulary[_EOT]],
            "cls": [_SOT, vocabulary[_SOT]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": _EOT,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(tokens),
        },
    }


def _vocabulary(tokens: TokenizerSpec) -> dict[str, int]:
    """Returns token to id, in the order of the ids."""
    pairs = byte_pairs(tokens.merges)
    renamed = {pairs.sot: _SOT, pairs.eot: _EOT}
    return {renamed.get(id, token): id for id, token in enumerate(pairs.tokens)}


def _merges(tokens: TokenizerSpec) -> list[str]:
    """Returns the merges "left right", the first to apply first."""
    return list(byte_pairs(tokens.merges).merges)


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")
