"""Ids of a SentencePiece vocabulary are those of open_clip's tokenizer over transformers', in 20 languages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_clip.tokenizer import HFTokenizer
from pieces import PHRASES, texts, tokenizer_json

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.sentencepiece import pieces, reach, spec_of, without
from mobileclip_deploy.network.model.tokenizer import encode, tokenizer_file, unknown_share, write_tokenizer_files
from mobileclip_deploy.network.model.variants import TokenizerSpec, load_variant

LIKE = load_variant("siglip2_b32_256").tokens


@pytest.fixture(scope="module")
def tokens() -> TokenizerSpec:
    return spec_of(tokenizer_json(), LIKE)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """open_clip's tokenizer over transformers', which has what open_clip's own import gives it (SigLipTokenizer): an
    end, no beginning, padding on the right."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer.from_str(tokenizer_json())
    fast.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    folder = tmp_path_factory.mktemp("reference")
    saved = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    )
    saved.save_pretrained(folder)
    return HFTokenizer(str(folder), context_length=64, clean="canonicalize")


def test_ids_are_the_reference_s_on_2000_texts_in_20_languages(tokens: TokenizerSpec, reference: HFTokenizer) -> None:
    every = [text for language in PHRASES for text in texts(language, 100)]
    assert len(every) == 2000
    found = encode(every, tokens)
    assert np.array_equal(found, reference(every).numpy())
    assert len(np.unique(found)) > 450  # most of what can be reached is
    assert (found[:, -1] == tokens.pad).any()
    assert (found[:, -1] == tokens.eot).any()  # and some texts are cut
    assert encode([""], tokens).tolist() == [[1, *[0] * 63]]


def test_what_a_client_reads_says_the_same(tokens: TokenizerSpec, tmp_path: Path) -> None:
    """tokenizer.json alone: cleaning, end, length and padding stand in it."""
    from tokenizers import Tokenizer

    (written,) = write_tokenizer_files(tmp_path, tokens)
    assert written.name == "tokenizer.json"
    alone = Tokenizer.from_file(str(written))
    beyond = "&“Σ，"  # HTML, quotes and full-width signs, which ftfy straightens; a capital sigma at the end of a word
    plain = [text for language in PHRASES for text in texts(language, 40) if not set(beyond) & set(text)]
    assert len(plain) > 400
    assert [row.ids for row in alone.encode_batch(plain)] == encode(plain, tokens).tolist()


def test_the_same_vocabulary_has_one_hash_whoever_saved_it_and_padded_which_side(tokens: TokenizerSpec) -> None:
    told = json.loads(tokenizer_json())
    told["model"]["merges"] = [" ".join(pair) for pair in told["model"]["merges"]]
    assert spec_of(json.dumps(told), LIKE) == tokens
    assert spec_of(tokens.file, LIKE) == tokens
    assert tokens.with_file(tokens.file) == tokens
    with pytest.raises(InvalidInput, match=r"is not this tokenizer's"):
        tokens.with_file(tokens.file.replace("Right", "Left", 1))
    # Libraries save the side they were last used with; the model's own is what open_clip trains with.
    told = json.loads(tokens.file)
    told["padding"]["direction"] = "Left"
    assert spec_of(json.dumps(told), LIKE) == tokens


def _shifted(told: Any) -> Any:
    vocabulary = {piece: id + (id > 300) for piece, id in told["model"]["vocab"].items()}
    return told | {"model": told["model"] | {"vocab": vocabulary}}


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "ids shifted by one": (_shifted, "its ids are not 0 to N - 1"),
    "no bytes": (lambda told: told | {"model": told["model"] | {"byte_fallback": False}}, "expected SentencePiece"),
    "another algorithm": (
        lambda told: told | {"model": {"type": "Unigram", "vocab": {}, "merges": []}},
        "expected SentencePiece",
    ),
    "another normalization": (lambda told: told | {"normalizer": {"type": "NFKC"}}, "normalises texts by NFKC"),
    "no end": (
        lambda told: told | {"added_tokens": [one for one in told["added_tokens"] if one["id"] != 1]},
        "no special token 1, the end",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_another_kind_is_refused(fault: str) -> None:
    damaged, words = FAULTS[fault]
    with pytest.raises(InvalidInput, match=words):
        spec_of(json.dumps(damaged(json.loads(tokenizer_json()))), LIKE)
    with pytest.raises(InvalidInput, match=r"not a tokenizer\.json"):
        spec_of("{}", LIKE)


def test_a_table_may_have_more_rows_than_pieces_and_not_fewer() -> None:
    told = json.loads(tokenizer_json())
    size = len(told["model"]["vocab"])
    assert spec_of(tokenizer_json(), LIKE, size + 20).vocab_size == size + 20
    with pytest.raises(InvalidInput, match="pieces, but the token embedding has"):
        spec_of(tokenizer_json(), LIKE, size - 1)
    added = dict(told["added_tokens"][0], id=size, content="</s>")  # as PreTrainedTokenizerFast adds it
    later = json.dumps(told | {"added_tokens": [*told["added_tokens"], added]})
    assert spec_of(later, LIKE, size) == spec_of(tokenizer_json(), LIKE)


def test_files_of_clip_s_kind_are_refused(tokens: TokenizerSpec) -> None:
    with pytest.raises(UsageError, match="holds a vocabulary of CLIP's kind"):
        tokenizer_file("merges.txt", tokens)
    config = json.loads(tokenizer_file("tokenizer_config.json", tokens))
    assert (config["padding_side"], config["eos_token"], config["model_max_length"]) == ("right", "<eos>", 64)


def test_texts_of_a_vocabulary_that_was_not_read_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no tokenizer\.json beside its file"):
        encode(["a cat"], LIKE)


def test_a_text_of_letters_that_no_piece_has_is_told(tokens: TokenizerSpec) -> None:
    assert unknown_share("a cat asleep", tokens) == 0
    assert unknown_share("ꙮꙮ", tokens) > 0.9
    assert unknown_share("", tokens) == 0


def test_a_vocabulary_cut_to_its_texts_gives_the_same_ids_renumbered(tokens: TokenizerSpec) -> None:
    """On every text whose pieces were kept, new ones too: no merge that a cut leaves out took part in them."""
    seen, unseen = texts("de", 60)[:30], texts("de", 200)
    rows = reach(tokens, set(encode([*seen, *texts("ja", 100)], tokens).ravel().tolist()))
    cut = without(tokens, rows)
    assert 260 < cut.vocab_size < tokens.vocab_size
    assert pieces(cut) == tuple(pieces(tokens)[row] for row in rows)
    full = encode([*seen, *unseen, *texts("ja", 200)], tokens)
    known = np.isin(full, rows).all(axis=1)
    assert known.sum() > 200
    again = encode([*seen, *unseen, *texts("ja", 200)], cut)
    assert np.array_equal(np.asarray(rows)[again[known]], full[known])
    assert unknown_share(texts("th", 1)[0], cut) > 0.9


def test_what_a_piece_is_merged_of_is_kept_with_it(tokens: TokenizerSpec) -> None:
    (sofa,) = (id for id, piece in enumerate(pieces(tokens)) if piece == "▁sofa")
    found = {pieces(tokens)[id] for id in reach(tokens, [sofa])}
    assert {"▁sofa", "s", "o", "f", "a", "▁"} <= found
    bare = {id for id, piece in enumerate(pieces(tokens)) if piece == "▁sofa" or id < 261}
    assert encode(["sofa"], without(tokens, sorted(bare))).tolist()[0][0] != sofa  # without its parts nothing makes it
