"""What is read of parallel sentences, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.tokenizer import CLIP, encode
from mobileclip_deploy.training.language.distilling import LearnedTexts, _divided
from mobileclip_deploy.training.language.parallel import Filters, check_columns, own_script, read_parallel

ROWS = [("a red dog", "ein roter Hund"), ("the sea at night", "das Meer bei Nacht"), ("hot coffee", "heißer Kaffee")]


def tsv(path: Path, rows: Sequence[Sequence[str]], header: str = "en\tde") -> Path:
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_the_three_kinds_of_table_say_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    jsonl = tmp_path / "pairs.jsonl"
    jsonl.write_text("".join(f'{{"en": "{en}", "de": "{de}"}}\n' for en, de in ROWS), encoding="utf-8")
    table = tmp_path / "pairs.parquet"
    columns = {"en": [en for en, _ in ROWS], "de": [de for _, de in ROWS]}
    parquet.write_table(pyarrow.table(columns), table)
    read = [read_parallel([file], ["de"]) for file in (tsv(tmp_path / "pairs.tsv", ROWS), jsonl, table)]
    assert read[0] == read[1] == read[2]
    assert (read[0].english, read[0].texts) == tuple(zip(*ROWS, strict=True))


def test_a_row_may_lack_a_language_and_several_files_are_one_table(tmp_path: Path) -> None:
    first = tsv(tmp_path / "a.tsv", [("dog", "Hund", ""), ("sea", "", "море")], "en\tde\tru")
    second = tsv(tmp_path / "b.tsv", [("dog", "Hündchen")])
    found = read_parallel([first, second], ["de", "ru"])
    assert found.counts() == {"de": 2, "ru": 1}
    assert [found.english[number] for number in found.english_of] == ["dog", "sea", "dog"]


def test_a_weight_says_how_often_a_row_is_drawn(tmp_path: Path) -> None:
    """Three times as heavy is drawn three times as often, in English too."""
    rows = [("3", "dog", "Hund"), ("", "sea", "Meer")]
    pairs = read_parallel([tsv(tmp_path / "pairs.tsv", rows, "weight\ten\tde")], ["de"])
    texts = LearnedTexts(pairs, CLIP)
    drawn, sentences = texts.drawn(40_000, 0.5, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=4) / len(drawn)
    assert counts.tolist() == pytest.approx([0.375, 0.125, 0.375, 0.125], abs=0.01)
    assert torch.equal(sentences, drawn % 2)
    with pytest.raises(InvalidInput, match="instead of a number above 0"):
        read_parallel([tsv(tmp_path / "bad.tsv", [("often", "dog", "Hund")], "weight\ten\tde")], ["de"])


def test_too_few_sentences_are_refused_with_their_number(tmp_path: Path) -> None:
    pairs = read_parallel([tsv(tmp_path / "pairs.tsv", [("dog", "Hund"), ("sea", "Meer")])], ["de"])
    with pytest.raises(InvalidInput, match=r"too few sentences for a held-out set \(de\).*; give 250 or more"):
        _divided(pairs)


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [*ROWS, *[ROWS[0]] * 1000, ("", "leer"), ("long", "x" * 10_000), ("dog", "собака"), ("10 €", "10 €")]
    found = read_parallel([tsv(tmp_path / "pairs.tsv", rows)], ["de"], Filters(longest=300))
    assert len(found) == len(ROWS) + 1  # signs are of every script
    assert found.left_out == {
        "the same pair again": 1000,
        "an empty side": 1,
        "more than 300 characters": 1,
        "de in another script": 1,
    }


@pytest.mark.parametrize(
    ("write", "named"),
    [
        pytest.param(lambda path: tsv(path, [("dog",)], "en"), "first line names one column", id="one column"),
        pytest.param(lambda path: tsv(path, ROWS, "a\tb"), "columns are 'a', 'b'", id="no header"),
        pytest.param(lambda path: tsv(path, [("dog", "Hund", "chien")]), "3 columns instead of 2", id="too many"),
        pytest.param(lambda path: tsv(path, [("dog", "")]), "no pair of de is left", id="no line"),
        pytest.param(lambda path: tsv(path, [("dog", "собака")]), "1 de in another script", id="wrong script"),
        pytest.param(lambda path: tsv(path, [("dog", "chien")], "en\tfr"), "no column de; .*en, fr$", id="no language"),
        pytest.param(lambda path: tsv(path, [], "en\tde\tde"), "the same name", id="twice"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, write: Callable[[Path], Path], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        read_parallel([write(tmp_path / "pairs.tsv")], ["de"])


def test_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_bytes("en\tde\nthe coffee\theißer Kaffee\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        read_parallel([file], ["de"])


@pytest.mark.parametrize("languages", [[], ["de", "de"], ["en"]])
def test_languages_are_named_once_and_without_english(tmp_path: Path, languages: list[str]) -> None:
    with pytest.raises(UsageError, match="languages"):
        read_parallel([tsv(tmp_path / "pairs.tsv", ROWS)], languages)


def test_swapped_columns_are_refused_by_the_teachers_own_tokens(tmp_path: Path) -> None:
    def tokens_of(texts: Sequence[str]) -> list[int]:
        return [int(number) for number in (encode(texts, CLIP) != 0).sum(axis=1)]

    right = read_parallel(
        [tsv(tmp_path / "pairs.tsv", [(f"{en} {n}", f"{de} {n}") for en, de in ROWS for n in range(9)])], ["de"]
    )
    check_columns(right, tokens_of)
    swapped = tsv(tmp_path / "swapped.tsv", [(f"{de} {n}", f"{en} {n}") for en, de in ROWS for n in range(9)])
    with pytest.raises(InvalidInput, match="the columns seem to be swapped"):
        check_columns(read_parallel([swapped], ["de"]), tokens_of)


def test_a_script_is_told_by_letters_alone() -> None:
    assert own_script("Кофе 2 €!", "ru") == own_script("☕", "ru") == own_script("anything", "xx") == 1
    assert own_script("コーヒーと漢字", "ja") == 1
    assert own_script("coffee кофе", "ru") == pytest.approx(0.4)
