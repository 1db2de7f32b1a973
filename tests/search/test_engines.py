"""An index as other engines read it: each is asked by its own library."""

import json
from pathlib import Path

import apsw
import numpy as np
import pytest
import sqlite_vec
from command_line import refusal, run
from indices import header, units, written
from usearch.index import Index as Graph

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.writing import IndexWriter, create


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = written(tmp_path / "a.mcdx", units(200))
    with IndexWriter.open(path) as (writer, _):
        writer.remove([0, 150])
        writer.commit()
    return path


def wanted(path: Path) -> list[str]:
    return [match.id for match in Index(path).search(units(1, seed=5), 5)[0]]


def test_numpy_reads_the_array_and_json_the_ids(path: Path, tmp_path: Path) -> None:
    found = run("search", path, "--export", tmp_path / "a.npy")
    assert (found.code, found.stdout) == (0, f"wrote {tmp_path / 'a.npy'} and {tmp_path / 'a.json'}\n")
    names = json.loads((tmp_path / "a.json").read_text())["names"]
    scores = np.load(tmp_path / "a.npy") @ units(1, seed=5)[0]
    assert [names[row] for row in np.argsort(-scores)[:5]] == wanted(path)
    assert "exists" in refusal(run("search", path, "--export", tmp_path / "a.npy"))


def test_rows_have_length_1_and_two_exports_do_not_share_their_ids(path: Path, tmp_path: Path) -> None:
    assert run("search", path, "--export", tmp_path / "a.npy").code == 0
    lengths = np.linalg.norm(np.load(tmp_path / "a.npy").astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() < 1e-7
    told = refusal(run("search", path, "--export", tmp_path / "a.usearch", "--force"))
    assert "a.json contains the ids of a.npy; choose another name than a.usearch" in told
    assert not (tmp_path / "a.usearch").exists()
    assert run("search", path, "--export", tmp_path / "a.npy", "--force").code == 0


def test_parquet_holds_ids_vectors_and_the_space(path: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pip install 'mobileclip-deploy[parquet]'")
    assert run("search", path, "--export", tmp_path / "a.parquet").stdout == f"wrote {tmp_path / 'a.parquet'}\n"
    table = parquet.read_table(tmp_path / "a.parquet")
    assert (table.num_rows, table.column_names) == (198, ["id", "vector"])
    assert table.schema.metadata[b"embedding_space"] == b"space"
    vectors = np.stack(table["vector"].to_numpy())
    assert (vectors.dtype, vectors.shape) == (np.float32, (198, 24))
    found = np.argsort(-(vectors @ units(1, seed=5)[0]))[:5]
    assert [table["id"][int(row)].as_py() for row in found] == wanted(path)


def test_usearch_finds_the_same(path: Path, tmp_path: Path) -> None:
    assert run("search", path, "--export", tmp_path / "a.usearch").code == 0
    names = json.loads((tmp_path / "a.json").read_text())["names"]
    graph = Graph.restore(str(tmp_path / "a.usearch"))
    assert (len(graph), graph.ndim) == (198, 24)
    found = graph.search(units(1, seed=5)[0], 5, exact=True)
    assert [names[int(key)] for key in found.keys] == wanted(path)


def test_sqlite_vec_finds_the_same_in_the_table_and_in_its_own(path: Path, tmp_path: Path) -> None:
    assert run("search", path, "--export", tmp_path / "a.sqlite").code == 0
    database = apsw.Connection(str(tmp_path / "a.sqlite"))
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    query = (units(1, seed=5)[0].tobytes(),)
    rows = database.execute("SELECT id FROM embeddings ORDER BY vec_distance_cosine(embedding, ?) LIMIT 5", query)
    assert [row[0] for row in rows] == wanted(path)
    database.execute("CREATE VIRTUAL TABLE own USING vec0(embedding FLOAT[24] DISTANCE_METRIC=cosine, +id TEXT)")
    database.execute("INSERT INTO own(embedding, id) SELECT embedding, id FROM embeddings")
    rows = database.execute("SELECT id FROM own WHERE embedding MATCH ? AND k = 5 ORDER BY distance", query)
    assert [row[0] for row in rows] == wanted(path)
    assert dict(database.execute("SELECT key, value FROM about"))["embedding_space"] == "space"


def test_another_suffix_is_refused(path: Path, tmp_path: Path) -> None:
    told = refusal(run("search", path, "--export", tmp_path / "a.faiss"))
    assert "ends with .npy, .usearch, .sqlite, .parquet" in told
    assert "--export goes alone" in refusal(run("search", path, "a dog", "--export", tmp_path / "a.npy"))


def test_what_stands_beside_an_array_is_what_embed_writes_also_of_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    names = ["caf\udce9.png", "Käse.png"]
    create(tmp_path / "a.mcdx", header("int8"), iter([(names, [0, 0], units(2))]))
    assert run("search", tmp_path / "a.mcdx", "--export", tmp_path / "a.npy").code == 0
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    told = json.loads(text)
    assert (told["names"], "Käse" in text) == (names, True)
    assert told["sha256"] == file_sha256(tmp_path / "a.npy")
    assert (told["dtype"], told["count"], told["normalised"], told["embedding_space"]) == ("float32", 2, True, "space")
