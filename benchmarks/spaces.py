"""What each store of an index loses, and what a reduced index keeps, on nano's held-out pictures.

    python benchmarks/spaces.py [--embed]

Reads tests/spaces/spaces.safetensors: embeddings of length 1, float16, of the 1,911 held-out captions and pictures
by nano; with --embed these are written again.
Smaller embeddings are on axes that are fitted to the same captions and pictures. Writes the tables of docs/figures.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measuring import ROOT, Figures, markdown
from safetensors.numpy import load_file, save_file

from mobileclip_deploy.base.intervals import Interval, mean_interval
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.metrics import percentage
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.pictures.embedding import at_length_one, unit
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import STORES, Store
from mobileclip_deploy.search.writing import create
from mobileclip_deploy.spaces.axes import fit_axes
from mobileclip_deploy.spaces.int8 import rounded_scale

SPACES = ROOT / "tests" / "spaces" / "spaces.safetensors"
BYTES = {"int8": "D", "float16": "2 D", "float32": "4 D", "bits": "D + D / 8", "bits-only": "D / 8"}
SMALL = 64
Floats = npt.NDArray[np.float32]


def index(path: Path, vectors: Floats, store: str = "float32", space: str = "nano", first: int = 0) -> Index:
    """An index of pictures called by their numbers."""
    header = Header(
        Store(
            store, vectors.shape[1], rounded_scale(float(np.abs(vectors).max())) if store in ("int8", "bits") else 0.0
        ),
        Description(embedding_space=space, variant="nano"),
    )
    ids = [str(first + number) for number in range(len(vectors))]
    create(path, header, iter([(ids, [0] * len(ids), vectors)]))
    return Index(path)


def recall(library: Index, texts: Floats) -> tuple[Interval, Interval]:
    """Share of the captions whose own picture is the first, and among the first ten."""
    found = [[match.row for match in matches] for matches in library.search(texts, 10)]
    first = np.asarray([rows[0] == number for number, rows in enumerate(found)])
    ten = np.asarray([number in rows for number, rows in enumerate(found)])
    return percentage(first), percentage(ten)


def stores(spaces: dict[str, Floats], folder: Path) -> str:
    """A row per store: bytes, and text-to-image recall of nano."""
    rows = []
    for name in STORES:
        library = index(folder / f"{name}.mcdx", spaces["pictures"], name)
        held = sum(np.dtype(dtype).itemsize * columns for dtype, columns in Store(name, 512).arrays.values())
        figures = (told(one) for one in recall(library, spaces["texts"]))
        rows.append([f"`{name}`", BYTES[name], f"{held / 10:.1f} MB", *figures])
    heads = ("`--store`", ">bytes for D numbers", ">512 numbers, 100,000 pictures", ">recall@1", ">recall@10")
    return "\n".join(markdown(heads, rows))


def reduced(spaces: dict[str, Floats], folder: Path) -> str:
    """A row of int8 embeddings that are cut by the axes, beside those of towers that end on them."""
    old = index(folder / "full.mcdx", spaces["pictures"], "int8")
    new = index(folder / "new.mcdx", spaces["e64"], "int8", "e64")
    cut = ((ids, stamps, unit(vectors @ axes(spaces))) for ids, stamps, vectors in old.parts())
    create(folder / "cut.mcdx", new.header, cut)
    small = Index(folder / "cut.mcdx")
    rows = [[[match.row for match in found] for found in one.search(spaces["e64"], 11)] for one in (new, small)]
    own = percentage(np.asarray([found[0] == number for number, found in enumerate(rows[1])]))
    ten = [[[row for row in found if row != n][:10] for n, found in enumerate(one)] for one in rows]
    shared = np.asarray([len({*one} & {*other}) / 10 for one, other in zip(*ten, strict=True)])
    cosine = float((at_length_one(next(small.vectors())[1]) * spaces["e64"]).sum(1).mean())
    figures = [told(own), told(mean_interval(shared)), f"{cosine:.3f}"]
    return "\n".join(markdown((">own first", ">of the first ten", ">cosine"), [figures]))


def axes(spaces: dict[str, Floats]) -> Floats:
    wide = {name: values.astype(np.float64) for name, values in spaces.items()}
    return fit_axes(wide["pictures"], wide["texts"], SMALL, 1.0)[0]


def told(interval: Interval) -> str:
    """A percentage and its 95% interval."""
    return f"{interval.value:.1f} ({interval.low:.1f} to {interval.high:.1f})"


def write_spaces() -> None:
    """The embeddings of nano."""
    data, model = builtin_dataset(), load_model()
    pixels = load_batch([Path(str(one)) for one in data.images], model.variant.preprocess)
    ids = encode(list(data.captions), model.variant.tokens)
    kept = {"pictures": embed_images(model, pixels), "texts": embed_texts(model, ids)}
    save_file({name: at_length_one(values).astype(np.float16) for name, values in kept.items()}, SPACES)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--embed", action="store_true", help="write the embeddings again")
    if parser.parse_args().embed:
        write_spaces()
    spaces = {name: at_length_one(values).astype(np.float32) for name, values in load_file(SPACES).items()}
    spaces["e64"] = at_length_one(spaces["pictures"] @ axes(spaces)).astype(np.float32)
    page = Figures("spaces", "figures/search.md")
    with tempfile.TemporaryDirectory() as folder:
        page.show(stores(spaces, Path(folder)), "<!-- stores -->", "<!-- end of stores -->")
        page.show(reduced(spaces, Path(folder)), "<!-- reduced -->", "<!-- end of reduced -->")


if __name__ == "__main__":
    main()
