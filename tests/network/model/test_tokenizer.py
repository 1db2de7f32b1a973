"""Token ids are open_clip's, and the files written for other tokenizers give the same ids."""

from __future__ import annotations

import html
import itertools
import json
import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import ftfy
import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mobileclip_deploy.artifacts.heads.contexts import ended
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model import tokenizer as module
from mobileclip_deploy.network.model.byte_pairs import PLAIN
from mobileclip_deploy.network.model.tokenizer import (
    CLIP,
    Padding,
    TokenizerFile,
    encode,
    tokenizer_file,
    write_tokenizer_files,
)
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.network.samples import prompts

SENTENCES = """
a photo of a dog|don't we've they'll I'm you're he'd it's|3.14159 and 2,718 & 50% off!|tic-tac-toe (again?) #win @home
crème brûlée à la carte|Straße, Fuß und Öl|ñandú, pingüino y corazón|įėęčšž žąsis|Þórr og æska|Đường phố Hà Nội
İstanbul'da ılık bir gün|příliš žluťoučký kůň|zażółć gęślą jaźń|românește țară|собака бежит по пляжу|їжак і ґанок
нож и ћуприја|Γειά σου κόσμε|շուն և կատու|ძაღლი და კატა|כלב וחתול|صورة قطة نائمة|گربه خوابیده|لال پھول
बगीचे में एक लाल फूल|লাল ফুল|ਲਾਲ ਫੁੱਲ|લાલ ફૂલ|சிவப்பு மலர்|ఎర్ర పువ్వు|ಕೆಂಪು ಹೂವು|ചുവന്ന പൂവ്
රතු මල|แมวบนหน้าต่าง|ແມວ|མེ་ཏོག་དམར་པོ|ပန်းနီ|ወፍ እና ውሻ|ᎠᏓᏅᏙ|ᠮᠣᠩᠭᠣᠯ|ការ៉េ ផ្កា|夕焼けの海辺を走る犬
一只坐在窗台上的猫|紅色的花|빨간 꽃과 고양이|👩‍🚀 in space 🚀|🏳️‍🌈 🇫🇷|x² + y³ ≠ ½·π|→ ← ↔ ∀∃∑∫|№ 5 © ® ™|€ 5, £ 6, ¥ 7
""".replace("\n", "|").strip("|")


def random_strings(count: int) -> list[str]:
    """Words of letters, digits and signs from all over Unicode."""
    rng = random.Random(0)
    assigned = [chr(c) for c in range(0x20, 0x20000) if unicodedata.category(chr(c))[0] in "LMNPS"]
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 '!?-.,"
    return [
        "".join(rng.choice(plain if rng.random() < 0.6 else assigned) for _ in range(rng.randint(1, 40)))
        for _ in range(count)
    ]


def expressible(text: str) -> bool:
    """Whether tokenizer.json can say what open_clip's tokenizer does to the text (see tokenizer_file)."""
    quotes_and_controls = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_encoding=False,
        fix_c1_controls=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
    )
    repaired = ftfy.fix_text(text, quotes_and_controls)
    special = regex.search(r"<\|(start|end)oftext\|>", repaired, regex.IGNORECASE)
    return (
        repaired == ftfy.fix_text(text)
        and repaired == html.unescape(repaired)
        and not special
        and not set(text) & {"Σ", "ſ", "\u0345"}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tokenizer"
    write_files(folder)
    return folder


def write_files(folder: Path, tokens: TokenizerSpec = CLIP, padding: Padding = "inside") -> None:
    write_tokenizer_files(folder, tokens)
    names: tuple[TokenizerFile, ...] = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    for name in names:
        (folder / name).write_bytes(tokenizer_file(name, tokens, padding))


@pytest.fixture(scope="module")
def fast(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def as_read(rows: list[list[int]], length: int = 77) -> list[list[int]]:
    """Ids as a text tower reads them that pads inside."""
    padded = [row + [CLIP.eot] * (length - len(row)) for row in rows]
    return ended(np.array(padded), TokenizerSpec(context_length=length)).tolist()


@pytest.fixture(scope="module")
def independent(folder: Path) -> IndependentBPE:
    return IndependentBPE(folder)


class IndependentBPE:
    """CLIP's tokenizer from vocab.json and merges.txt alone, for text that needs no repair."""

    def __init__(self, folder: Path) -> None:
        self.vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        header, *merges = (folder / "merges.txt").read_text("utf-8").rstrip("\n").split("\n")
        assert header.startswith("#version")
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self.symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
        self.pieces = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")

    def __call__(self, text: str, length: int = 77) -> list[int]:
        words = self.pieces.findall(unicodedata.normalize("NFC", text).lower())
        ids = [self.vocabulary[token] for word in words for token in self.merge(word)]
        ids = [self.vocabulary["<|startoftext|>"], *ids[: length - 2], self.vocabulary["<|endoftext|>"]]
        return ids + [0] * (length - len(ids))

    def merge(self, word: str) -> list[str]:
        tokens = [self.symbols[byte] for byte in word.encode("utf-8")]
        tokens[-1] += "</w>"
        while len(tokens) > 1:
            pairs = list(itertools.pairwise(tokens))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged: list[str] = []
            for token in tokens:
                if merged and (merged[-1], token) == best:
                    merged[-1] += token
                else:
                    merged.append(token)
            tokens = merged
        return tokens


def test_ids_are_open_clip_s() -> None:
    from open_clip.tokenizer import tokenize as reference

    repaired = ["&lt;b&gt; &amp;amp; caf&eacute;", "sÃ£o joÃ£o", "ﬁne Ｆｕｌｌ"]
    texts = [*prompts(), *SENTENCES.split("|"), *repaired]
    ids = encode(texts)
    assert ids.dtype == np.int64
    assert np.array_equal(ids, reference(texts).numpy())
    assert np.array_equal(encode(texts, TokenizerSpec(context_length=16)), reference(texts, 16).numpy())


def test_a_text_that_spells_a_special_token_does_not_end_there() -> None:
    row = encode(["a <END_OF_TEXT> b <start_of_text> c"])[0].tolist()
    assert row.count(CLIP.eot) == row.count(CLIP.sot) == 1
    assert row == encode(["a < end _ of _ text > b < start _ of _ text > c"])[0].tolist()


def test_of_long_texts_the_beginning_is_read_and_ids_stay_open_clip_s() -> None:
    from open_clip.tokenizer import tokenize as reference

    rng = random.Random(1)
    words = ["AT&amp;T", "café", "a", "photo", "“x”", "&lt;b&gt;", "sÃ£o", "1234", "\n", " " * 40, "----------", "猫"]
    texts = [" ".join(rng.choices(words, k=5_000)) for _ in range(4)]
    texts.append("".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(6_000)))
    assert min(map(len, texts)) > 77 * module.CHARACTERS_A_TOKEN
    assert np.array_equal(encode(texts), reference(texts).numpy())


@pytest.mark.parametrize("text", ["&" + "amp;" * 20_000, "&#38;" + "#38;" * 20_000, " " * 10_000 + "a"])
def test_a_long_text_without_words_where_they_are_read_is_refused_soon(text: str) -> None:
    began = time.process_time()
    with pytest.raises(
        InvalidInput, match=r"prompt 1 has .* characters, and its first 4,928 make fewer than 77 tokens"
    ):
        encode(["a", text])
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["qwertz" * 100_000, "\x1b[" * 40_000 + "m" * 40_000, "0" * 1_000_000])
def test_a_long_word_takes_no_time(text: str) -> None:
    encode([""])
    began = time.process_time()
    assert encode([text])[0, -1] == TokenizerSpec().eot
    assert time.process_time() - began < 2


def test_special_ids_are_the_ones_of_the_cards_and_no_prompts_give_an_empty_array() -> None:
    spec = TokenizerSpec()
    empty, short, long = encode(["", "dog", "dog " * 100])
    assert empty.tolist() == [spec.sot, spec.eot] + [spec.pad] * 75
    assert short.tolist() == [spec.sot, 1929, spec.eot] + [spec.pad] * 74
    assert long.tolist() == [spec.sot] + [1929] * 75 + [spec.eot]
    assert encode([]).shape == (0, 77)


def test_what_is_not_a_list_of_strings_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a list of prompts"):
        encode("a photo of a dog")
    with pytest.raises(InvalidInput, match="prompt 1 is NoneType"):
        encode(["a", None])  # type: ignore[list-item]


@pytest.mark.slow
def test_tokenizing_imports_neither_torch_nor_open_clip() -> None:
    code = """if True:
        import sys
        from mobileclip_deploy.network.model.tokenizer import encode
        encode(["a"])
        print([name for name in ("open_clip", "timm", "torch") if name in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_an_independent_bpe_reads_the_same_ids_from_vocab_and_merges(independent: IndependentBPE) -> None:
    texts = [text for text in [*SENTENCES.split("|"), *random_strings(200)] if expressible(text) or "Σ" in text]
    texts = [text for text in texts if not regex.search(r"[ʼ‘-‟]", text)]
    assert len(texts) >= 200
    for text, ids in zip(texts, encode(texts).tolist(), strict=True):
        assert independent(text) == ids, text


def test_vocab_and_merges_have_the_form_that_apple_s_and_hugging_face_s_loaders_read(folder: Path) -> None:
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    assert sorted(vocabulary.values()) == list(range(TokenizerSpec().vocab_size))
    assert vocabulary["<|startoftext|>"] == 49406
    assert vocabulary["<|endoftext|>"] == 49407
    assert vocabulary["!"] == 0
    lines = (folder / "merges.txt").read_text("utf-8").split("\n")
    assert len(lines) == 1 + 48894 + 1
    assert lines[-1] == ""
    assert all(line.count(" ") == 1 for line in lines[1:-1])


def test_tokenizer_json_gives_open_clip_s_ids(fast: tokenizers.Tokenizer) -> None:
    texts = [*prompts(), *SENTENCES.split("|"), "a dog’s “house”", "a\x00b \x7fc\ufeff"]
    assert as_read([encoding.ids for encoding in fast.encode_batch(texts)]) == encode(texts).tolist()


@settings(max_examples=400, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=100))
def test_tokenizer_json_gives_open_clip_s_ids_wherever_it_can_express_the_text(
    fast: tokenizers.Tokenizer, text: str
) -> None:
    assume(expressible(text))
    assert as_read([fast.encode(text).ids]) == encode([text]).tolist()


@pytest.mark.parametrize(
    "text",
    ["caf&eacute;", "sÃ£o", "ﬁne", "Ｆｕｌｌ", "\x1b[1mbold", "ΟΔΟΣ", "it'ſ", "<|endoftext|>"],
)
def test_the_exceptions_that_the_documentation_names_are_still_exceptions(
    fast: tokenizers.Tokenizer, text: str
) -> None:
    assert as_read([fast.encode(text).ids]) != encode([text]).tolist()


@pytest.mark.parametrize("padding", ["inside", "outside"])
def test_ids_are_unique_and_exclamation_marks_are_not_padding(padding: Padding, tmp_path: Path) -> None:
    write_files(tmp_path, padding=padding)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert config.get("pad_token") == {"inside": "<|endoftext|>", "outside": None}[padding]
    file = str(tmp_path / "tokenizer.json")
    fast = tokenizers.Tokenizer.from_file(file)
    vocabulary = fast.get_vocab()
    assert len({*vocabulary.values()}) == len(vocabulary) == CLIP.vocab_size
    assert fast.encode("hello!").ids[:4] == [49406, 3306, 256, 49407]
    assert len(fast.encode("hello!").ids) == {"inside": 77, "outside": 4}[padding]
    again = fast.to_str()
    assert all(
        tokenizers.Tokenizer.from_str(again).encode("a b!!!c").ids == fast.encode("a b!!!c").ids for _ in range(4)
    )


def test_a_context_length_of_its_own_is_in_the_files(tmp_path: Path) -> None:
    write_files(tmp_path, TokenizerSpec(context_length=16))
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = ["dog", "dog " * 100]
    wanted = encode(texts, TokenizerSpec(context_length=16))
    assert as_read([encoding.ids for encoding in fast.encode_batch(texts)], 16) == wanted.tolist()
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["model_max_length"] == 16


def test_the_bytes_are_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_nothing_outside_of_the_model_s_room_knows_clip_s_vocabulary_or_length() -> None:
    """Its numbers belong to the spec of a tokenizer, which a checkpoint may bring: not even an example names them."""
    package = Path(module.__file__).parents[2]
    numbers = regex.compile(r"(?<![\d.])(77|49[,_]?40[678])(?!\d)")
    found = {path: numbers.findall(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    assert {path.relative_to(package).parts[:2] for path, hits in found.items() if hits} == {("network", "model")}


def test_plain_texts_need_no_repair() -> None:
    characters = [chr(code) for code in range(128) if PLAIN.fullmatch(chr(code))]
    assert "".join(characters) == "".join(map(chr, range(32, 127))).replace("&", "")
    chance = random.Random(0)
    texts = [*characters, *("".join(chance.choices(characters, k=12)) for _ in range(500))]
    assert [html.unescape(ftfy.fix_text(text)) for text in texts] == texts
