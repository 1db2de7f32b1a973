"""An index answers exactly, whatever its store, its blocks and what was removed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from indices import DIMENSION, SCALE, header, units, written

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.search import writing
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.scoring import Query
from mobileclip_deploy.search.searching import foreign_letters
from mobileclip_deploy.search.storage import STORES
from mobileclip_deploy.search.writing import IndexWriter, create


def ids(index: Index, query: np.ndarray, top: int) -> list[str]:
    return [match.id for match in index.search(query, top)[0]]


@pytest.mark.parametrize("elements", ["int8", "float16", "float32"])
def test_the_nearest_are_those_of_float64_arithmetic_on_what_is_stored(
    elements: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "AT_ONCE", 100)  # ten blocks
    vectors, queries = units(1000), 3 * units(5, seed=1)
    index = Index(written(tmp_path / "a.mcdx", vectors, elements))
    assert (len(index), len(index.blocks)) == (1000, 11)
    stored = np.concatenate([part for _, part in index.vectors()]).astype(np.float64)
    np.testing.assert_allclose(stored, vectors, atol=SCALE / 2 if elements == "int8" else 1e-3)
    for query, found in zip(queries, index.search(queries, 10), strict=True):
        asked = Query.of((query / np.linalg.norm(query)).astype(np.float32))
        wanted = stored @ (asked.integers * asked.scale if elements == "int8" else asked.vector.astype(np.float64))
        assert [match.row for match in found] == np.lexsort((np.arange(1000), -wanted.round(7)))[:10].tolist()
        np.testing.assert_allclose([match.score for match in found], np.sort(wanted)[::-1][:10], rtol=1e-5)


@pytest.mark.parametrize("elements", STORES)
def test_numpy_and_numkong_give_the_same_scores_to_the_bit(
    elements: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numkong")
    index, queries = Index(written(tmp_path / "a.mcdx", units(300), elements)), units(4, seed=1)
    fast = index.search(queries, 20)
    monkeypatch.setitem(sys.modules, "numkong", None)
    assert index.search(queries, 20) == fast


def test_vectors_of_more_numbers_than_float32_can_sum_are_summed_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numkong", None)
    vectors = np.full((3, 4096), 1 / 64, np.float32)
    vectors[1, 0], vectors[2, :] = 0.98 / 64, -1 / 64
    index = Index(written(tmp_path / "a.mcdx", vectors / np.linalg.norm(vectors, axis=1, keepdims=True), together=3))
    first, second, last = index.search(vectors[0], 3)[0]
    assert (first.row, second.row, last.row) == (0, 1, 2)
    steps = round(1 / 64 / SCALE)  # each component's integer
    assert first.score == pytest.approx(4096 * steps * 127 * SCALE * (1 / 64 / 127), rel=1e-6)


def test_of_equal_scores_the_one_that_was_added_first_comes_first(tmp_path: Path) -> None:
    vectors = np.repeat(units(2), [600, 600], axis=0)
    index = Index(written(tmp_path / "a.mcdx", vectors))
    assert ids(index, vectors[0], 5) == ["0", "1", "2", "3", "4"]
    assert ids(index, vectors[-1], 3) == ["600", "601", "602"]
    assert ids(index, vectors[0], 5000)[598:602] == ["598", "599", "600", "601"]


def test_bits_propose_and_integers_decide(tmp_path: Path) -> None:
    vectors, queries = units(2000), units(20, seed=1)
    both, alone = (
        Index(written(tmp_path / f"{elements}.mcdx", vectors, elements)) for elements in ("bits", "bits-only")
    )
    exact = Index(written(tmp_path / "int8.mcdx", vectors))
    shared = {"bits": 0, "bits-only": 0}
    for query in queries:
        wanted = exact.search(query, 10)[0]
        for name, index in (("bits", both), ("bits-only", alone)):
            shared[name] += len({match.id for match in wanted} & set(ids(index, query, 10)))
        # What was scored again has the integers' own score.
        known = {match.id: match.score for match in exact.search(query, 2000)[0]}
        assert all(match.score == known[match.id] for match in both.search(query, 10)[0])
    assert shared["bits"] > 1.5 * shared["bits-only"] > 0
    assert (tmp_path / "bits-only.mcdx").stat().st_size < (tmp_path / "int8.mcdx").stat().st_size


def test_components_beyond_the_scale_are_clipped_and_counted(tmp_path: Path) -> None:
    vectors = np.eye(DIMENSION, dtype=np.float32)  # one component of 1 each, beyond 0.9
    assert create(tmp_path / "a.mcdx", header("int8"), [(list("abc"), [0] * 3, vectors[:3])]) == 3
    assert next(Index(tmp_path / "a.mcdx").vectors())[1].max() == pytest.approx(0.9)


def test_names_are_kept_to_the_byte(tmp_path: Path) -> None:
    names = ["a\nb", "x" * 4096, "", "Pizza \U0001f355", "caf\udce9.png", "a\0b"]  # the fifth is no UTF-8 on the disk
    create(tmp_path / "a.mcdx", header("int8"), [(names, range(6), units(6))])
    index = Index(tmp_path / "a.mcdx")
    assert [(name, stamp) for _, name, stamp in index] == list(zip(names, range(6), strict=True))
    assert index.search(units(6), 1)[1][0].id == "x" * 4096


def test_a_query_that_has_no_direction_is_refused(tmp_path: Path) -> None:
    index = Index(written(tmp_path / "a.mcdx", units(3)))
    zeros = np.zeros(DIMENSION, np.float32)
    for query in (zeros, zeros + np.nan, zeros + np.inf):
        with pytest.raises(InvalidInput, match="NaN or infinite elements, or only zeros"):
            index.search(query)
    with pytest.raises(InvalidInput, match=r"queries \[1, 23\] do not fit an index of dimension 24"):
        index.search(zeros[1:] + 1)
    with pytest.raises(UsageError, match="at least 1"):
        index.search(zeros + 1, 0)


@pytest.mark.parametrize("elements", ["float16", "float32"])
def test_an_index_with_embeddings_that_are_not_finite_is_refused(elements: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcdx", units(3), elements)
    index = Index(path)
    content = bytearray(path.read_bytes())
    content[index.blocks[0].start : index.blocks[0].start + 4] = b"\xff" * 4  # NaN
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="not finite; write it again"):
        Index(path, check=False).search(units(1))  # whoever wrote it computed its checksums


def test_an_embedding_that_is_none_is_not_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcdx", units(3))
    before = path.read_bytes()
    for vectors, told in (
        (2 * units(1), "of length 2, not 1"),
        (units(1) * np.nan, "length nan"),
        (units(1)[:, 1:], "do not fit"),
    ):
        with IndexWriter.open(path) as (writer, _), pytest.raises(InvalidInput, match=told):
            writer.add(["new"], [0], vectors)
    with IndexWriter.open(path) as (writer, _), pytest.raises(InvalidInput, match="more than 65,536 bytes"):
        writer.add(["x" * 70_000], [0], units(1))
    assert path.read_bytes() == before


def test_letters_that_english_does_not_use_are_known() -> None:
    assert not any(foreign_letters(text) for text in ("a dog", "a woman\N{RIGHT SINGLE QUOTATION MARK}s", "42 \N{DOG}"))
    assert all(foreign_letters(text) for text in ("собака", "犬", "ein Fuß"))
