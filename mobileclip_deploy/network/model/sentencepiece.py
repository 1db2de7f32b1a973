"""SentencePiece's BPE as in SigLIP2: whole texts, bytes for unknown characters, and the tokenizer.json for it.

A checkpoint brings its vocabulary as a tokenizer.json, the format of Hugging Face's `tokenizers`, which encodes. This
module writes that file in one form, whatever library saved it, so that the same vocabulary has the same hash.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import Any

from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import InvalidInput, import_optional, reraising
from mobileclip_deploy.network.model.tokenizer_json import AddedToken, Normalizer, TokenizerJson
from mobileclip_deploy.network.model.variants import TokenizerSpec

BLANK = "\u2581"
"""Character for a blank in pieces."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# string.punctuation without "_", which becomes a blank: the characters that open_clip's `canonicalize_text` drops.
PUNCTUATION = r"[!-/:-@\[-\^`{-~]"
KNOWN = {"type": "BPE", "dropout": None, "byte_fallback": True, "fuse_unk": True}
# As transformers writes them (GemmaTokenizer, Siglip2Tokenizer): after our own cleaning none changes a text.
PLAIN = ("Lowercase", "NFC", "Replace", "Sequence")


def spec_of(content: str, like: TokenizerSpec, rows: int | None = None) -> TokenizerSpec:
    """Returns the spec of a tokenizer.json.

    Args:
        content: the file's text.
        like: gives the context length, the cleaning, and the ids of end and padding, which the file must have.
        rows: of the checkpoint's table of tokens. Tokens that a library added after them are left out: nothing embeds
            them. A table may have rows that no piece uses.

    Raises:
        InvalidInput: not a tokenizer.json, or one of another kind.
    """
    file = TokenizerJson.read(content)
    model, added = file.model, file.added_tokens
    settings = model.model_dump(include=set(KNOWN), exclude_unset=True)
    other = [f"{name} {str(value)[:40]}" for name, value in settings.items() if value != KNOWN[name]]
    if other or model.vocab is None:
        kind = ", ".join(other) or "a list of pieces"
        raise InvalidInput(f"unsupported settings ({kind}); expected SentencePiece's BPE with byte fallback")
    if unlike := _unlike(file.normalizer):
        raise InvalidInput(f"it normalises texts by {unlike[:40]}, which is not supported")
    vocabulary, merges = model.vocab | {token.content: token.id for token in added}, model.merges
    if rows is not None:
        late = {token.content for token in added if token.id >= rows} - set(model.vocab)
        vocabulary = {piece: id for piece, id in vocabulary.items() if piece not in late}
        added = tuple(token for token in added if token.content not in late)
    in_order = sorted(vocabulary, key=vocabulary.__getitem__)
    if rows is not None and len(in_order) > rows:
        raise InvalidInput(f"it has {len(in_order):,} pieces, but the token embedding has {rows:,} rows")
    if [vocabulary[piece] for piece in in_order] != list(range(len(in_order))):
        raise InvalidInput("its ids are not 0 to N - 1, each once")
    if any(len(pair) != 2 or "".join(pair) not in vocabulary for pair in merges):
        raise InvalidInput("a merge results in no piece of its vocabulary")
    for id, what in ((like.eot, "end"), (like.pad, "padding")):
        if not 0 <= id < len(in_order) or not any(token.id == id and token.special for token in added):
            raise InvalidInput(f"it has no special token {id}, the {what} of a text")
    if any(vocabulary[token.content] != token.id for token in added):
        raise InvalidInput("an added token has two ids")
    if model.unk_token is not None and model.unk_token not in vocabulary:
        raise InvalidInput("its token for unknown characters is missing from its vocabulary")
    return with_content(like, rows or len(in_order), _content(in_order, merges, added, model.unk_token, like))


def with_content(like: TokenizerSpec, size: int, content: dict[str, Any]) -> TokenizerSpec:
    """Returns the spec with `size` tokens and this content of its tokenizer.json, whose text is the same on every
    machine."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
    digest = sha256(text.encode()).hexdigest()
    return with_fields(like, vocab_size=size, file_sha256=digest, file=text)


def _unlike(normalizer: Normalizer | None) -> str | None:
    """Returns the type of a normalizer that changes more than capitals and blanks. None without such a normalizer."""
    if normalizer is None:
        return None
    if normalizer.type not in PLAIN:
        return normalizer.type
    if normalizer.type == "Sequence":
        return next(filter(None, map(_unlike, normalizer.normalizers)), None)
    change = normalizer.model_dump(exclude_unset=True)
    if normalizer.type == "Replace" and change != {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}:
        ours = any(change == replaced(*pair) for pair in CLEANING)
        return None if ours or change == _ends() else "Replace"
    return None


# `canonicalize_text` of open_clip, as far as tokenizer.json can express it. Small letters come later, and ftfy's
# repairs beyond composed characters (NFC) are missing.
CLEANING = (("_", " "), (PUNCTUATION, ""), (r"\s+", " "))


def replaced(pattern: str, content: str) -> dict[str, Any]:
    """Returns a normalizer of a tokenizer.json that replaces matches of a regular expression by `content`."""
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def framed(length: int, pad: int, pad_token: str | None) -> dict[str, Any]:
    """Returns the first fields of a tokenizer.json of any kind: texts are cut at `length` tokens, and padded to it if
    there is a padding token."""
    padding = {
        "strategy": {"Fixed": length},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": pad,
        "pad_type_id": 0,
        "pad_token": pad_token,
    }
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": length, "strategy": "LongestFirst", "stride": 0},
        "padding": None if pad_token is None else padding,
    }


def _ends() -> dict[str, Any]:
    return replaced("^ +| +$", "")


def _cleaning(like: TokenizerSpec) -> tuple[dict[str, Any], ...]:
    """Returns the normalizers before the conversion to small letters."""
    if like.cleaning == "lower":
        return ()
    return ({"type": "NFC"}, *(replaced(*pair) for pair in CLEANING), _ends())


def _content(
    in_order: Sequence[str],
    merges: Sequence[Sequence[str]],
    added: Sequence[AddedToken],
    unknown: str | None,
    like: TokenizerSpec,
) -> dict[str, Any]:
    """Returns the content of tokenizer.json in our own form: cleaning, vocabulary, end, length and padding."""
    end = in_order[like.eot]
    end_token: list[dict[str, Any]] = [{"SpecialToken": {"id": end, "type_id": 0}}]
    sequence_a: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}
    sequence_b: dict[str, Any] = {"Sequence": {"id": "B", "type_id": 0}}
    return {
        **framed(like.context_length, like.pad, in_order[like.pad]),
        "added_tokens": [token.model_dump() for token in sorted(added, key=lambda token: token.id)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                *_cleaning(like),
                {"type": "Lowercase"},
                {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequence_a, *end_token],
            "pair": [sequence_a, *end_token, sequence_b, *end_token],
            "special_tokens": {end: {"id": end, "ids": [like.eot], "tokens": [end]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            **KNOWN,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "ignore_merges": False,
            "vocab": {piece: id for id, piece in enumerate(in_order)},
            "merges": [list(pair) for pair in merges],
        },
    }


@cache
def fast_tokenizer(file: str) -> Any:
    """Returns `tokenizers`' Tokenizer of a tokenizer.json's text, for cleaned texts. SentencePiece's own cleaning is
    left out, since small letters may have another composed form. WordPiece's is the vocabulary's, and stays.

    Raises:
        DependencyMissing: `tokenizers` is not installed.
        InvalidInput: it cannot read the text.
    """
    tokenizers = import_optional("tokenizers", "mobileclip-deploy[language]")
    with reraising(
        "the package tokenizers cannot read the tokenizer.json", Exception
    ):  # its own errors are plain Exceptions
        tokenizer = tokenizers.Tokenizer.from_str(file)
    if not isinstance(tokenizer.model, tokenizers.models.WordPiece):
        tokenizer.normalizer = tokenizers.normalizers.Replace(" ", BLANK)
    return tokenizer


def pieces(tokens: TokenizerSpec) -> tuple[str, ...]:
    """Returns the piece of each id."""
    vocabulary = TokenizerJson.read(tokens.file).model.vocab or {}
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


def byte_piece(piece: str) -> int | None:
    """Returns the byte of a piece for a single byte. None for other pieces."""
    match = BYTE.fullmatch(piece)
    return None if match is None else int(match[1], 16)


def reach(tokens: TokenizerSpec, used: Iterable[int]) -> tuple[int, ...]:
    """Returns the ids that a vocabulary needs to encode texts with the ids `used`, ascending. They are those ids, the
    pieces from which each is merged step by step, and those of every text (special tokens and bytes).

    A piece is merged from its own characters alone. Whatever surrounds it, no merge crosses its ends, or it would not
    be a piece of the result. So its merges are those that its characters take by themselves.
    """
    vocabulary, ranks = _merges(tokens)
    id_of = {piece: id for id, piece in enumerate(vocabulary)}
    needed_ids = {id for id, piece in enumerate(vocabulary) if byte_piece(piece) is not None}
    needed_ids |= {token.id for token in TokenizerJson.read(tokens.file).added_tokens if token.special}
    for id in used:
        if id in needed_ids:
            continue
        for piece in _way(vocabulary[id], ranks):
            if piece in id_of:
                needed_ids.add(id_of[piece])
    return tuple(sorted(needed_ids))


@cache
def _merges(tokens: TokenizerSpec) -> tuple[tuple[str, ...], dict[tuple[str, str], int]]:
    merges = TokenizerJson.read(tokens.file).model.merges
    return pieces(tokens), {(left, right): rank for rank, (left, right) in enumerate(merges)}


def _way(piece: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Returns the characters of a piece and all their merges, in order, with the piece itself last."""
    parts, passed = list(piece), list(piece)
    while len(parts) > 1:
        pairs = [(ranks[pair], index) for index, pair in enumerate(pairwise(parts)) if pair in ranks]
        if not pairs:  # an added token, which no merge makes
            return [piece]
        _, index = min(pairs)
        parts[index : index + 2] = ["".join(parts[index : index + 2])]
        passed.append(parts[index])
    return passed


def without(tokens: TokenizerSpec, rows: Sequence[int]) -> TokenizerSpec:
    """Returns the spec with only these rows, renumbered in their order, and the merges that remain among them.

    Raises:
        InvalidInput: end or padding is not among them.
    """
    file = TokenizerJson.read(tokens.file)
    all_pieces = pieces(tokens)
    new_id = {row: new for new, row in enumerate(rows)}
    if tokens.eot not in new_id or tokens.pad not in new_id:
        raise InvalidInput("a vocabulary needs its end and its padding")
    names = [all_pieces[row] for row in rows]
    have = set(names)
    merges = [pair for pair in file.model.merges if {*pair, "".join(pair)} <= have]
    added = [with_fields(token, id=new_id[token.id]) for token in file.added_tokens if token.id in new_id]
    like = with_fields(tokens, eot=new_id[tokens.eot], pad=new_id[tokens.pad])
    return with_content(like, len(names), _content(names, merges, added, file.model.unk_token, like))
