"""Vocabularies cut to some languages: rows of a SentencePiece table that their texts do not use are left out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mobileclip_deploy.base.arguments import checked_fields
from mobileclip_deploy.base.files import StrPath, read_json, read_regular
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.network.model.sentencepiece import BLANK, pieces, reach, without
from mobileclip_deploy.network.model.tokenizer import cleaned, encode
from mobileclip_deploy.network.model.variants import TokenizerSpec, Variant

Keep = Literal["letters", "used"]
TEXT_BYTES = 1 << 30
CLDR = ("{code}/annotations.json", "annotations/{code}/annotations.json")
"""Paths of the names of emoji in a language, relative to npm's `cldr-annotations-full` or to the folder inside it."""


@checked_fields
@dataclass(frozen=True)
class Languages:
    """Languages to which a vocabulary is cut. `codes`: such as "de". `texts`: a folder with a CODE.txt of each, one
    text per line, or npm's cldr-annotations-full. `keep`: "letters", every piece written in letters of those texts;
    "used", only pieces that occur in the texts. `captions`: a file of the user's own texts, one per line, to measure
    their losses.

    Raises:
        UsageError: a field is of another kind.
    """

    codes: Sequence[str]
    texts: StrPath
    keep: Keep = "letters"
    captions: StrPath | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The codes, each once."""
        return tuple(dict.fromkeys(self.codes))


def languages_of_options(
    codes: Sequence[str] | None, texts: StrPath | None, keep: Keep, captions: StrPath | None
) -> Languages | None:
    """Builds `Languages` from a user's options. None if no languages are named.

    Raises:
        UsageError: languages without texts, or the rest without languages.
    """
    if codes is None:
        if texts is not None or captions is not None:
            raise UsageError("`language_texts` and `captions` are of `languages`; name them, such as de,en")
        return None
    if texts is None:
        raise UsageError(
            "`languages` needs `language_texts`: a folder with texts of each language, to find its letters"
        )
    return Languages(codes, texts, keep, captions)


@dataclass(frozen=True)
class Cut:
    """A cut vocabulary: `rows` of the full table stay, ascending. `lost`: share (0 to 1) of the captions' pieces that
    were left out and are now spelled by other pieces; None without captions."""

    tokens: TokenizerSpec
    rows: tuple[int, ...]
    texts: int
    lost: float | None

    def summary(self, full: int) -> str:
        """Returns one line for the user."""
        line = f"vocabulary: {len(self.rows):,} of {full:,} pieces, by {self.texts:,} texts"
        if self.lost is None:
            return line
        return f"{line}; {self.lost:.2%} of the pieces of the captions were left out, and other pieces replace them"


def cut_vocabulary(variant: Variant, asked: Languages) -> Cut:
    """Computes the rows of a text tower's table that the texts of some languages need.

    If all pieces of a text stay, its ids are the full vocabulary's, renumbered: no merge that was left out takes part
    (`sentencepiece.reach`).

    Raises:
        UsageError: no SentencePiece vocabulary, or no language.
        CheckpointError: its tokenizer.json was not read.
        InvalidInput: a language has no texts in the folder, or they cannot be read.
    """
    tokens = variant.tokens
    if not asked.codes:
        raise UsageError("`languages` is empty; give codes such as de,en")
    if tokens.kind != "sentencepiece":
        raise UsageError(
            f"{variant.name} has a vocabulary of CLIP's kind, which is English only; `languages` cuts the vocabulary "
            "of a checkpoint with SentencePiece's, such as SigLIP2's"
        )
    if tokens.missing:
        raise CheckpointError(f"{variant.name}'s tokenizer.json is missing; put it next to the checkpoint")
    every = [text for code in asked.named for text in language_texts(Path(asked.texts), code)]
    used = set(np.unique(encode(every, tokens)).tolist())
    if asked.keep == "letters":
        letters = {letter for text in every for letter in cleaned(text, tokens)} | {BLANK}
        used |= {id for id, piece in enumerate(pieces(tokens)) if letters.issuperset(piece)}
    rows = reach(tokens, used)  # ascending: the order of the pieces stays
    lost = None
    if asked.captions is not None:
        ids = encode(_lines(Path(asked.captions)), tokens)
        pieces_used = ids[(ids != tokens.pad) & (ids != tokens.eot)]
        lost = float(np.isin(pieces_used, rows, invert=True).mean()) if pieces_used.size else 0.0
    return Cut(without(tokens, rows), rows, len(every), lost)


def language_texts(folder: Path, code: str) -> list[str]:
    """Reads texts of a language from a folder: CODE.txt, one per line, or CLDR's names of emoji.

    Raises:
        InvalidInput: neither exists, or it holds nothing.
    """
    if not code.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput(f"{code!r} is not a language code, such as de")
    plain = folder / f"{code}.txt"
    if plain.is_file():
        return _lines(plain)
    for pattern in CLDR:
        path = folder / pattern.format(code=code)
        if path.is_file():
            return _names(path)
    raise InvalidInput(
        f"{folder} has no texts of {code}: give {code}.txt there, one text per line, or the folder of npm's "
        "cldr-annotations-full"
    )


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_regular(path, TEXT_BYTES).decode("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8; save it as UTF-8") from error
    if not (texts := [line for line in lines if line]):
        raise InvalidInput(f"{path} contains no text")
    return texts


def _names(path: Path) -> list[str]:
    try:
        document: Any = read_json(path)
        entries: Sequence[Any] = list(document["annotations"]["annotations"].values())
        names = [str(name) for entry in entries for kind in ("default", "tts") for name in entry.get(kind, ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise InvalidInput(f"{path} is not a CLDR annotations file; give CODE.txt instead") from error
    if not names:
        raise InvalidInput(f"{path} contains no name")
    return names
