"""Byte-level byte-pair encoding of CLIP's kind: texts to ids by a list of merges, as in OpenAI's CLIP and open_clip
(`SimpleTokenizer`)."""

import gzip
import html
import re
import string
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

Cleaning = Literal["canonicalize", "whitespace"]

PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""Words, digits and signs of a text; in upper case, too."""
WORD_END = "</w>"
CLIP_MERGES = Path(__file__).with_name("clip_merges.txt.gz")
"""OpenAI's merges, one per line (NOTICE)."""
WORDS = 1 << 16
"""Most words whose ids are cached."""
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class BytePairs:
    """A vocabulary of 256 bytes, the same at the end of a word, one token per merge, then start and end of text.

    Attributes:
        merges: pairs of tokens, each "left right", the first to merge first.
        tokens: token of each id, bytes as printable characters.
        ids: id of each token.
        sot, eot: ids of the start and the end of a text.
    """

    def __init__(self, merges: Sequence[str]) -> None:
        self.merges = tuple(merges)
        letters = tuple(BYTES.values())
        joined = (merge.replace(" ", "") for merge in self.merges)
        special = ("<start_of_text>", "<end_of_text>")
        self.tokens = (*letters, *(letter + WORD_END for letter in letters), *joined, *special)
        self.ids = {token: id for id, token in enumerate(self.tokens)}
        self.sot, self.eot = (self.ids[token] for token in special)
        self._ranks = {merge: rank for rank, merge in enumerate(self.merges)}
        self._word = lru_cache(WORDS)(self._merged)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a cleaned text, without start and end."""
        return [id for word in _words().findall(text) for id in self._word(word)]

    def _merged(self, word: str) -> tuple[int, ...]:
        """Returns a word's ids: the pair of the lowest rank is merged wherever it occurs, until none is left."""
        letters = [BYTES[byte] for byte in word.encode("utf-8")]
        parts = [*letters[:-1], letters[-1] + WORD_END]
        while len(parts) > 1:
            ranks = [self._ranks.get(f"{left} {right}", len(self._ranks)) for left, right in pairwise(parts)]
            if (first := min(ranks)) == len(self._ranks):
                break
            left, _, right = self.merges[first].partition(" ")
            parts = list(_joined(parts, (left, right)))
        return tuple(self.ids[part] for part in parts)


def _joined(parts: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    """Yields the parts with each occurrence of the pair as one, from the left."""
    index = 0
    while index < len(parts):
        is_pair = parts[index] == pair[0] and tuple(parts[index : index + 2]) == pair
        yield pair[0] + pair[1] if is_pair else parts[index]
        index += 1 + is_pair


def _byte_letters() -> dict[int, str]:
    """Returns a printable character for each byte, in the order of their ids: those of Latin-1 first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


PLAIN = re.compile("[ -%'-~]*")
"""Texts that neither ftfy nor unescaping changes: printable ASCII without "&"."""
BYTES = _byte_letters()
LETTERS = {letter: byte for byte, letter in BYTES.items()}


@cache
def _words() -> Any:
    import regex

    return regex.compile(PIECES, regex.IGNORECASE)


@cache
def byte_pairs(merges: tuple[str, ...] = ()) -> BytePairs:
    """Returns the vocabulary with these merges, each "left right"; CLIP's own if there are none."""
    return BytePairs(merges or gzip.decompress(CLIP_MERGES.read_bytes()).decode("utf-8").split("\n"))


def cleaned_by(text: str, cleaning: Cleaning | None) -> str:
    """Repairs a text (ftfy), unescapes HTML and collapses blanks.

    Args:
        cleaning: None makes small letters, as CLIP does. "canonicalize" drops ASCII punctuation, too. "whitespace"
            leaves capitals.
    """
    if not PLAIN.fullmatch(text):
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    text = text.strip()
    if cleaning == "canonicalize":
        text = text.replace("_", " ").translate(NO_PUNCTUATION)
    text = " ".join(text.split())
    return text if cleaning == "whitespace" else text.lower()
