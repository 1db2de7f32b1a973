"""OpenVision's ids are open_clip's of a vocabulary of BERT's kind, which stands beside the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from open_clip.tokenizer import HFTokenizer
from pieces import PHRASES, texts, vocab_txt
from tiny import WORDPIECES, known

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.network.model.tokenizer import encode, tokenizer_file, unknown_share
from mobileclip_deploy.network.model.variants import TokenizerSpec, load_variant
from mobileclip_deploy.network.model.wordpiece import spec_of

LIKE = load_variant("openvision_t16").tokens
ODD = [
    "",
    "a very long prompt " * 60,
    "[CLS] [unused1] caf\u00e9 &amp; na\u00efve",
    "x" * 150 + " dog",
    "\u732b\u3068\u72ac",
]


@pytest.fixture(scope="module")
def tokens() -> TokenizerSpec:
    return spec_of(vocab_txt(), LIKE, 32000)


def test_ids_are_open_clip_s_on_2000_texts_in_20_languages(tokens: TokenizerSpec, tmp_path: Path) -> None:
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    (tmp_path / "vocab.txt").write_text(vocab_txt(), encoding="utf-8")
    ends = {"bos_token": "[unused0]", "eos_token": "[unused1]"}
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=True, **ends).save_pretrained(tmp_path / "saved")
    reference = HFTokenizer(str(tmp_path / "saved"), context_length=80, tokenizer_mode="clips")
    every = [*(text for language in PHRASES for text in texts(language, 100)), *ODD[:2], *ODD[3:]]
    assert len(every) > 2000
    found = encode(every, tokens)
    assert np.array_equal(found, reference(every).numpy())
    assert set(found[:, 0]) == {1}
    assert set(found[:, -1]) == {101}
    assert (found[:, -2] == 2).any()  # some texts are cut
    assert len(np.unique(found)) > 400


def test_a_vocabulary_is_the_same_from_either_file(tokens: TokenizerSpec) -> None:
    assert spec_of(tokens.file, LIKE, 32000) == tokens
    assert tokens.vocab_size == 32000
    assert unknown_share("a \u9f98", tokens) == 0.5
    assert unknown_share("eine Katze", tokens) == 0
    for content, why in (
        ("a\nb\na\n", "occurs twice"),
        ("a\nb\n", r"no \[PAD\]"),
        ("{}", "not a tokenizer.json"),
        (tokens.file.replace('"WordPiece","unk', '"Unigram","unk'), "expected BERT's WordPiece"),
        (tokens.file.replace('"lowercase":true', '"lowercase":false'), "keeps capital letters"),
    ):
        with pytest.raises(InvalidInput, match=why):
            spec_of(content, LIKE)
    with pytest.raises(InvalidInput, match="but the token embedding has 100 rows"):
        spec_of(vocab_txt(), LIKE, 100)
    with pytest.raises(UsageError, match="has another kind; choose"):
        tokenizer_file("merges.txt", tokens)


def test_a_client_s_file_says_all_but_the_last_token(tokens: TokenizerSpec) -> None:
    from tokenizers import Tokenizer

    alone = Tokenizer.from_str(tokens.file)
    plain = [text for language in PHRASES for text in texts(language, 20) if not set("&\u201c\u03a3\uff0c") & set(text)]
    assert [[*row.ids, 101] for row in alone.encode_batch(plain)] == encode(plain, tokens).tolist()


def test_its_vocabulary_stands_beside_it_and_in_a_copy(tmp_path: Path) -> None:
    with known(tmp_path, WORDPIECES) as path:
        model = mcd.load_model(WORDPIECES, path)
        ids = mcd.tokenize(["a cat", "Eine KATZE"], model)
        assert ids[:, -1].tolist() == [101, 101]
        mcd.convert(path, "open_clip", tmp_path / "copy.safetensors")
        copied = mcd.load_model(WORDPIECES, tmp_path / "copy.safetensors")
        assert copied.variant.tokens == model.variant.tokens
        with pytest.raises(UsageError, match="a vocabulary of BERT's kind"):
            mcd.convert(path, "open_clip", tmp_path / "cut.safetensors", languages=mcd.Languages(["de"], tmp_path))
        path.with_name("vocab.txt").write_text("a\n", encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"vocab\.txt: it has no \[PAD\]"):
            mcd.load_model(WORDPIECES, path)
        path.with_name("vocab.txt").unlink()
        with pytest.raises(InvalidInput, match=r"no tokenizer\.json or vocab\.txt beside its file"):
            mcd.tokenize(["a cat"], mcd.load_model(WORDPIECES, path))
