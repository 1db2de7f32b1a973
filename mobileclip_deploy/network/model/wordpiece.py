"""BERT's WordPiece as in OpenVision: the tokenizer.json of a vocabulary next to a checkpoint.

A row of ids is the start, the text, the end, padding, and a class token at the last position. The text tower is pooled
there (arXiv 2411.16828). No tokenizer.json can express a token after the padding. `TokenizerSpec.last` does, and the
file encodes one token less.
"""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.sentencepiece import framed, with_content
from mobileclip_deploy.network.model.tokenizer_json import TokenizerJson
from mobileclip_deploy.network.model.variants import TokenizerSpec

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN = "[UNK]"
LONGEST_WORD = 100
"""Most characters of a word; a longer one is unknown (BERT's)."""


def spec_of(content: str, like: TokenizerSpec, rows: int | None = None) -> TokenizerSpec:
    """Returns the spec of a tokenizer.json, or of a vocabulary with one piece per line (vocab.txt).

    Args:
        content: the file's text.
        like: gives the context length, the cleaning, and the ids of start, end, padding and class token.
        rows: of the checkpoint's table of tokens, which may exceed the number of pieces.

    Raises:
        InvalidInput: not a vocabulary of this kind.
    """
    names = _pieces(content)
    if rows is not None and len(names) > rows:
        raise InvalidInput(f"it has {len(names):,} pieces, but the token embedding has {rows:,} rows")
    if lacking := [name for name in SPECIAL if name not in names]:
        raise InvalidInput(f"it has no {' and no '.join(lacking)}: not a BERT vocabulary")
    if (largest := max(like.sot or 0, like.eot, like.pad, like.last or 0)) >= len(names):
        raise InvalidInput(f"it has {len(names):,} pieces, but every text uses token {largest}")
    return with_content(like, rows or len(names), _content(names, like))


def _pieces(content: str) -> list[str]:
    if not content.lstrip().startswith("{"):
        names = content.removesuffix("\n").split("\n")
        if len(set(names)) < len(names):
            raise InvalidInput("a piece occurs twice; give one piece per line, in the order of the ids")
        return names
    file = TokenizerJson.read(content)
    kind, vocabulary = file.model.type, file.model.vocab
    if kind not in (None, "WordPiece") or vocabulary is None:
        raise InvalidInput(f"unsupported settings ({str(kind)[:40]}); expected BERT's WordPiece")
    if file.normalizer is not None and file.normalizer.lowercase is False:
        raise InvalidInput("it keeps capital letters, but this text tower was trained on lower case")
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[name] for name in names] != list(range(len(names))):
        raise InvalidInput("its ids are not 0 to N - 1, each once")
    return names


def _content(names: list[str], like: TokenizerSpec) -> dict[str, Any]:
    """Returns the content of tokenizer.json in one form, whatever file held the vocabulary."""
    first, end = names[like.sot or 0], names[like.eot]
    frame = [{"SpecialToken": {"id": first, "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

    def around(*texts: str) -> list[dict[str, Any]]:
        return [frame[0], *({"Sequence": {"id": text, "type_id": 0}} for text in texts), frame[1]]

    return {
        **framed(like.context_length - (like.last is not None), like.pad, names[like.pad]),
        "added_tokens": [{"id": id, "content": name, **flags} for id, name in enumerate(names) if name in SPECIAL],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": around("A"),
            "pair": around("A", "B"),
            "special_tokens": {
                name: {"id": name, "ids": [id], "tokens": [name]} for name, id in ((first, like.sot), (end, like.eot))
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": {name: id for id, name in enumerate(names)},
        },
    }
