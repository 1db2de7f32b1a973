"""Parts of a tokenizer.json that are read, the format of Hugging Face's `tokenizers`. The file may be untrusted."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, FailFast, Field, PlainValidator, Strict, ValidationError

from mobileclip_deploy.base.files import check_items
from mobileclip_deploy.base.files.names import Name
from mobileclip_deploy.errors import REASON, Malformed, reraising

# Gemma's, of 262,144 pieces and 580,604 merges, has 2.1 million.
MOST_ITEMS = 5_000_000
MOST_IDS = 1 << 31


def _vocabulary(value: Any) -> dict[str, int] | None:
    """Returns ids by piece. None for a list, which other kinds have."""
    if isinstance(value, list):
        return None
    if not isinstance(value, dict):
        raise Malformed("not an object")
    for piece, id in value.items():  # stops at the first wrong one: pydantic keeps an error for each
        if type(id) is not int or not 0 <= id < MOST_IDS:
            raise Malformed(f"{piece[:80]!r} has no valid id")
    return value


def _parts(merge: Any) -> Any:
    return merge.split(" ", 1) if isinstance(merge, str) else merge


Merge = Annotated[tuple[str, ...], BeforeValidator(_parts)]


class AddedToken(BaseModel, frozen=True):
    """A token that is found in a text before anything else."""

    id: Annotated[int, Strict(), Field(ge=0, lt=MOST_IDS)]
    content: Name
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class Normalizer(BaseModel, extra="allow"):
    """A change of texts, by its type; for a sequence all changes."""

    type: Name
    normalizers: Annotated[tuple[Normalizer, ...], FailFast()] = ()
    lowercase: bool | None = None


class PieceModel(BaseModel, extra="allow"):
    """The vocabulary: ids by piece (None for another kind's list), and pairs of pieces that are merged, the first to
    apply first."""

    type: Name | None = None
    vocab: Annotated[dict[str, int] | None, PlainValidator(_vocabulary)]
    merges: Annotated[tuple[Merge, ...], FailFast()] = ()
    unk_token: Name | None = None


class TokenizerJson(BaseModel):
    """A tokenizer.json."""

    model: PieceModel
    added_tokens: Annotated[tuple[AddedToken, ...], FailFast()] = ()
    normalizer: Normalizer | None = None

    @classmethod
    def read(cls, content: str) -> TokenizerJson:
        """Reads a file's text.

        Raises:
            InvalidInput: not a tokenizer.json, or one with more items than a vocabulary has.
        """
        check_items("it", content, MOST_ITEMS)
        with reraising(f"not a tokenizer.json ({REASON})", ValidationError):
            return cls.model_validate_json(content)
