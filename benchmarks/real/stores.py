"""An exported .parquet in vector stores: each finds the same matches as the index, by the lines of docs/search.md.

python benchmarks/real/stores.py: needs duckdb, lancedb, qdrant-client, pgserver and psycopg[binary]. A store that is
missing has a row that says so.
"""

import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as parquet

import mobileclip_deploy as mcd
from mobileclip_deploy.network.samples import image_paths, prompts

TOP = 5
Query = npt.NDArray[np.float32]


def duckdb(file: Path, query: Query) -> list[str]:
    select = f"SELECT id FROM '{file}' ORDER BY list_dot_product(vector, ?) DESC LIMIT {TOP}"
    return [row[0] for row in import_module("duckdb").execute(select, [query.tolist()]).fetchall()]


def lancedb(file: Path, query: Query) -> list[str]:
    table = import_module("lancedb").connect(file.with_name("lance")).create_table("p", parquet.read_table(file))
    return [row["id"] for row in table.search(query).distance_type("dot").limit(TOP).to_list()]


def qdrant(file: Path, query: Query) -> list[str]:
    package: Any = import_module("qdrant_client")
    models, client = package.models, package.QdrantClient(":memory:")
    settings = models.VectorParams(size=len(query), distance=models.Distance.DOT)
    client.create_collection("p", vectors_config=settings)
    rows = enumerate(parquet.read_table(file).to_pylist())
    client.upload_points(
        "p", (models.PointStruct(id=n, vector=row["vector"], payload={"id": row["id"]}) for n, row in rows)
    )
    return [point.payload["id"] for point in client.query_points("p", query=query.tolist(), limit=TOP).points]


def pgvector(file: Path, query: Query) -> list[str]:
    server: Any = import_module("pgserver").get_server(file.with_name("postgres"), cleanup_mode="delete")
    try:
        with import_module("psycopg").connect(server.get_uri()) as database:
            database.execute("CREATE EXTENSION vector")
            database.execute(f"CREATE TABLE p (id text, vector vector({len(query)}))")
            with database.cursor().copy("COPY p FROM STDIN") as copy:
                for row in parquet.read_table(file).to_pylist():
                    copy.write_row((row["id"], str(row["vector"])))
            select = f"SELECT id FROM p ORDER BY vector <#> %s::vector LIMIT {TOP}"
            return [row[0] for row in database.execute(select, (str(query.tolist()),)).fetchall()]
    finally:
        server.cleanup()


STORES: dict[str, Callable[[Path, Query], list[str]]] = {
    "duckdb": duckdb,
    "lancedb": lancedb,
    "qdrant-client": qdrant,
    "pgserver": pgvector,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = mcd.export(mcd.load_model(), "onnx", "fp32", folder, verify=False)
        index, file = folder / "library.mcdx", folder / "library.parquet"
        mcd.embed(bundle, image_paths(), index)
        mcd.export_index(index, file)
        query = mcd.load_runner(bundle, "text")(mcd.tokenize(prompts()[:1], bundle))[0]
        query /= np.linalg.norm(query)
        wanted = [match.id for match in mcd.Index(index).search(query, TOP)[0]]
        for store, find in STORES.items():
            try:
                same = find(file, query) == wanted
            except ModuleNotFoundError as error:
                print(f"{store}: not run, {error.name} is not installed")
                continue
            print(f"{store} {version(store)}: {'the same' if same else 'OTHER'} matches")


if __name__ == "__main__":
    main()
