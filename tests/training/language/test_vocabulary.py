"""A vocabulary of CLIP's kind: every tokenizer of ours reads it, and it cannot be lost on the way to a bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

from mobileclip_deploy.artifacts.heads.contexts import ended
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.tokenizer import encode, tokenizer_file, unknown_share, write_tokenizer_files
from mobileclip_deploy.network.model.variants import TokenizerSpec, models_dir
from mobileclip_deploy.training.language.vocabulary import learned_vocabulary

TEXTS = (models_dir() / "nano" / "evaluation" / "languages" / "ja.txt").read_text(encoding="utf-8").splitlines()
GERMAN = (models_dir() / "nano" / "evaluation" / "languages" / "de.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def tokens() -> TokenizerSpec:
    return learned_vocabulary([*TEXTS, *GERMAN], 2000, 40)


def test_the_same_texts_give_the_same_vocabulary_of_fewer_tokens_than_bytes(tokens: TokenizerSpec) -> None:
    assert learned_vocabulary([*TEXTS, *GERMAN], 2000, 40) == tokens
    assert (tokens.vocab_size, tokens.sot, tokens.eot) == (2000, 1998, 1999)
    bare = TokenizerSpec.from_merges(tokens.merges[:1], 77)
    own, bytewise = ((encode(TEXTS[::20], one) != 0).sum() for one in (tokens, bare))
    assert own * 2 < bytewise


def test_ids_are_those_of_the_tokenizer_that_learned_it(tokens: TokenizerSpec) -> None:
    """What `tokenizers` and transformers read is the same vocabulary, and every text of any script has ids."""
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_str(tokenizer_file("tokenizer.json", tokens, "inside").decode())
    asked = [*TEXTS[::40], *GERMAN[::40], "मुस्कुराता चेहरा ☕ it's", "x" * 300, "!"]
    rows = np.array([theirs.encode(text).ids for text in asked])
    assert ended(rows, tokens).tolist() == encode(asked, tokens).tolist()


def test_how_much_of_a_text_is_unknown_is_told(tokens: TokenizerSpec) -> None:
    """A vocabulary of German and Japanese: Thai is unknown, and half of a mixed text in part."""
    assert unknown_share("heißer Kaffee!", tokens) == unknown_share("กาแฟ", TokenizerSpec()) == 0
    assert unknown_share("กาแฟ", tokens) > 0.7
    assert 0 < unknown_share("Kaffee กาแฟ", tokens) < unknown_share("กาแฟ", tokens)


def test_the_files_of_a_bundle_hold_it(tokens: TokenizerSpec, tmp_path: Path) -> None:
    write_tokenizer_files(tmp_path, tokens)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert vocabulary["<|endoftext|>"] == tokens.eot
    assert len(vocabulary) == tokens.vocab_size
    _, *merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert TokenizerSpec.model_validate_json(tokens.model_dump_json()).with_merges(merges) == tokens


def test_other_merges_are_refused(tokens: TokenizerSpec) -> None:
    told = TokenizerSpec.model_validate_json(tokens.model_dump_json())
    with pytest.raises(InvalidInput, match="is not this tokenizer's"):
        told.with_merges([*tokens.merges[1:], tokens.merges[0]])
    with pytest.raises(InvalidInput, match="merges were not read"):
        encode(["Hund"], told)


@pytest.mark.parametrize("size", [514, 49_409])
def test_a_size_that_no_tokenizer_can_have_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match="a vocabulary has from"):
        learned_vocabulary(GERMAN, size, 40)
