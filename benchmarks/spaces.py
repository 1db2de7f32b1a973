"""What each store of an index loses, and what a bridge between two networks keeps, on nano's held-out pictures.

    python benchmarks/spaces.py [--second CHECKPOINT]

Reads tests/embeddings/spaces.safetensors: embeddings of length 1, float16, of the 1,911 held-out captions and pictures
by nano, and of the pictures by a second nano (models/nano/README.md); with its checkpoint these are written anew.
Smaller embeddings are on axes that are fitted to the same captions and pictures. Writes the tables of docs/figures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measuring import ROOT, Figures, markdown
from safetensors.numpy import load_file, save_file

from mobileclip_deploy.base.intervals import Interval, mean_interval
from mobileclip_deploy.errors import GateFailed
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.metrics import percentage
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.inputs import embed_images, embed_texts
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.search.bridging import Bridge, BridgeDescription, cross, learn
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import STORES, Store
from mobileclip_deploy.search.writing import create
from mobileclip_deploy.spaces.axes import fit_axes
from mobileclip_deploy.spaces.int8 import rounded_scale

SPACES = ROOT / "tests" / "embeddings" / "spaces.safetensors"
BYTES = {"int8": "D", "float16": "2 D", "float32": "4 D", "bits": "D + D / 8", "bits-only": "D / 8"}
SMALL = 64
SHARED = (100, 300, 600, 1911)
"""Pictures that a bridge is learned from; a fifth is held back."""
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


def bridges(spaces: dict[str, Floats], folder: Path) -> str:
    """A row per direction and number of shared pictures: what is kept, on held-back ones; and of a cut by the axes."""
    rows = []
    order = np.random.default_rng(0).permutation(len(spaces["pictures"]))
    for names in (("pictures", "second"), ("second", "pictures"), ("pictures", "e64"), ("e64", "pictures")):
        for count in SHARED:
            old, new = (
                index(folder / f"{name}-{count}-{number}.mcdx", spaces[name][order[:count]], space=name)
                for number, name in enumerate(names)
            )
            rows.append([*(NAMES[name] for name in names), f"{count:,}", *learned(old, new)])
    heads = ("from", "to", ">shared pictures", "map", ">own first", ">of the first ten", ">cosine")
    return "\n".join([*markdown(heads, rows), cut(spaces, folder)])


NAMES = {"pictures": "nano", "second": "second nano", "e64": "nano-e64"}


def cut(spaces: dict[str, Floats], folder: Path) -> str:
    """A row of int8 embeddings that are cut by the axes, beside those of towers that end on them."""
    old = index(folder / "full.mcdx", spaces["pictures"], "int8")
    new = index(folder / "anew.mcdx", spaces["e64"], "int8", "e64")
    told_of = BridgeDescription(
        from_space="nano", to_space="e64", variant="nano", artifact="", store="int8", scale=new.store.scale
    )
    brought = cross(old, Bridge(axes(spaces), np.zeros(SMALL, np.float32), told_of), folder / "cut.mcdx")
    rows = [[[match.row for match in found] for found in one.search(spaces["e64"], 11)] for one in (new, brought)]
    own = percentage(np.asarray([found[0] == number for number, found in enumerate(rows[1])]))
    ten = [[[row for row in found if row != n][:10] for n, found in enumerate(one)] for one in rows]
    shared = np.asarray([len({*one} & {*other}) / 10 for one, other in zip(*ten, strict=True)])
    cosine = float((at_length_one(next(brought.vectors())[1]) * spaces["e64"]).sum(1).mean())
    figures = told(own), told(mean_interval(shared)), f"{cosine:.3f}"
    return f"| nano | nano-e64 | | its axes (`--by BUNDLE`) | {' | '.join(figures)} |"


def axes(spaces: dict[str, Floats]) -> Floats:
    wide = {name: values.astype(np.float64) for name, values in spaces.items()}
    return fit_axes(wide["pictures"], wide["texts"], SMALL, 1.0)[0]


def learned(old: Index, new: Index) -> tuple[str, ...]:
    """Kind and figures of a bridge, or that it is refused."""
    try:
        figures = learn(old, new).description.figures
    except GateFailed as error:
        return "refused", "", str(error).partition("share ")[2].partition(" of the first")[0], ""
    assert figures is not None
    return figures.kind, told(figures.own_first), told(figures.shared), f"{figures.cosine:.3f}"


def told(interval: Interval) -> str:
    """A percentage and its 95% interval."""
    return f"{interval.value:.1f} ({interval.low:.1f} to {interval.high:.1f})"


def write_spaces(second: Path) -> None:
    """The embeddings of both networks, and in a line how well the second finds a picture by its caption."""
    data = builtin_dataset()
    files = [Path(str(one)) for one in data.images]
    kept: dict[str, Floats] = {}
    for name, model in (("pictures", load_model()), ("second", load_model("nano", second))):
        pixels = load_batch(files, model.variant.preprocess)
        kept[name] = at_length_one(embed_images(model, pixels)).astype(np.float32)
        ids = encode(list(data.captions), model.variant.tokens)
        texts = at_length_one(embed_texts(model, ids)).astype(np.float32)
        kept.setdefault("texts", texts)  # nano's
        with tempfile.TemporaryDirectory() as folder:
            first, ten = recall(index(Path(folder) / "whole.mcdx", kept[name]), texts)
        print(f"{NAMES[name]}, text to image: {told(first)}% @1, {told(ten)}% @10")
    save_file({name: values.astype(np.float16) for name, values in kept.items()}, SPACES)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--second", type=Path, help="the checkpoint of the second nano")
    given = parser.parse_args()
    if given.second is not None:
        write_spaces(given.second)
    spaces = {name: at_length_one(values).astype(np.float32) for name, values in load_file(SPACES).items()}
    spaces["e64"] = at_length_one(spaces["pictures"] @ axes(spaces)).astype(np.float32)
    page = Figures("spaces", "figures/search.md")
    with tempfile.TemporaryDirectory() as folder:
        page.show(stores(spaces, Path(folder)), "<!-- stores -->", "<!-- end of stores -->")
        page.show(bridges(spaces, Path(folder)), "<!-- bridges -->", "<!-- end of bridges -->")


if __name__ == "__main__":
    main()
