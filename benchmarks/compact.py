"""What smaller embeddings lose: nano's held-out pictures, by size and store, by axes, and by what they were fitted to.

    python benchmarks/compact.py [--pairs FOLDER] [--embeddings FILE.npz] [--only PART]... [--write]

Axes are fitted to nano's calibration set (384 pictures in training styles, 1,024 captions), none of it evaluated. With
`--pairs`, the folder of `models/nano/build_data.py --pairs`, also to as many of all training pictures and captions.
Scores are sums of the numbers that an index holds, in its order; a loss is paired with full embeddings in float32, with
the 95% interval over the 1,911 captions. `--write`: into benchmarks/results/compact.json and docs/figures, after each
part; what `--only` leaves out stays as it was measured.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from export_cost import write_golden
from measuring import Figures, in_turns, markdown, processor, random_index
from search import interval

from mobileclip_deploy.artifacts.towers.calibration import spread_evenly
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.metrics import paired_difference, percentage
from mobileclip_deploy.evaluation.user_samples import judged_texts
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.network.samples import prompts, read_prompts
from mobileclip_deploy.search.index import RESCORED
from mobileclip_deploy.search.scoring import Query
from mobileclip_deploy.search.storage import Store, signs
from mobileclip_deploy.spaces.axes import SHRINKAGE, fit_axes, mean_axes, turned_for_signs
from mobileclip_deploy.spaces.int8 import rounded_scale

KEPT = Figures("compact", "figures/search.md")
CALIBRATION = models_dir() / "nano" / "calibration"
SIZES, STORES = (128, 96, 80, 64, 48, 32), ("float32", "int8", "bits-only", "bits")
NAMES = {"bits-only": "bits", "bits": "bits, the best rescored by int8"}
FITTED = (16, 64, 256, 384, 1024, 4096)
TRAINING = ("training_images", "training_texts")
TOP, LIBRARY, ROUNDS = 10, 200_000, 15
SIZES_OF_S0, SIZES_OF_SIGNS = (512, 128, 64), (128, 96, 64)
PARTS = ("full", "sizes", "ways", "turns", "curve", "training", "search", "artifacts")
KEYS = ("R@1", "R@5", "R@10", "top-1")
LOST = tuple(f">{key}" for key in KEYS)
Doubles = npt.NDArray[np.float64]
Row = dict[str, Any]
Map = tuple[Doubles, Doubles]
"""What image embeddings and what text embeddings are multiplied by, [D, N]."""


@dataclass(frozen=True)
class Nano:
    """Embeddings of nano, unit length: of its evaluation, and of what axes are fitted to."""

    images: Doubles
    captions: Doubles
    classes: Doubles
    labels: npt.NDArray[np.int64]
    fit_images: Doubles
    fit_texts: Doubles
    packaged: Doubles
    logit_scale: float


def unit(rows: npt.NDArray[Any]) -> Doubles:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float64)


def nano(kept: Path | None, pairs: Path | None) -> tuple[Nano, list[Doubles]]:
    """The embeddings, and those of training pictures and captions; computed where no file has them."""
    if kept is not None and kept.is_file():
        found: dict[str, Any] = dict(np.load(kept))
        found["logit_scale"] = float(found["logit_scale"])
        more: list[Doubles] = [found.pop(name) for name in TRAINING if name in found]
        return Nano(**found), more
    model = load_model()
    spec, data = model.variant.preprocess, builtin_dataset()
    named = [data.templates[0].replace("{}", name) for name in data.classes]

    def images(files: list[Path]) -> Doubles:
        return unit(embed_images(model, load_batch(files, spec)))

    def texts(lines: list[str]) -> Doubles:
        return unit(embed_texts(model, encode(lines, model.variant.tokens)))

    own = Nano(
        images=images([Path(str(one)) for one in data.images]),
        captions=texts(list(data.captions)),
        classes=texts(named),
        labels=np.asarray(data.labels),
        fit_images=images(image_files(CALIBRATION)),
        fit_texts=texts(read_prompts(CALIBRATION / "prompts.txt")),
        packaged=texts(prompts()),
        logit_scale=model.logit_factor,
    )
    more = []
    if pairs is not None:
        files, captions = training(pairs)
        more = [images(spread_evenly(files, max(FITTED))), texts(spread_evenly(captions, max(FITTED)))]
    if kept is not None:
        stored: dict[str, Any] = vars(own) | dict(zip(TRAINING, more, strict=False))
        np.savez(kept, **stored)
    return own, more


def training(pairs: Path) -> tuple[list[Path], list[str]]:
    """All training pictures, and all training captions that the evaluation does not ask for."""
    lines = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = set(judged_texts(builtin_dataset()))
    asked |= {text.removeprefix("an emoji of ") for text in asked} | {f"an emoji of {text}" for text in asked}
    captions = dict.fromkeys(text for line in lines for text in line["captions"] if text not in asked)
    return [pairs / line["image"] for line in lines], list(captions)


def hits(data: Nano, by: Map, store: str, scale_of: Doubles) -> dict[str, npt.NDArray[np.bool_]]:
    """For each caption whether its picture is among the first 1, 5 and 10, and for each picture whether its class is
    first: with the numbers that an index of a store holds, in its order (docs/index_format.md)."""
    images, captions, classes = (
        unit(rows @ by[n]).astype(np.float32) for rows, n in ((data.images, 0), (data.captions, 1), (data.classes, 1))
    )
    fitted = np.abs(unit(scale_of @ by[0]))
    kept = Store(
        store, images.shape[1], rounded_scale(float(np.quantile(fitted, 0.9999))) if "32" not in store else 0.0
    )
    arrays, _ = kept.encode(images)
    queries = np.stack([Query.of(vector).integers for vector in captions]).astype(np.float32)
    scores = {"int8": lambda: queries @ arrays["int8"].astype(np.float32).T, "float32": lambda: captions @ images.T}
    scores["bits"] = lambda: queries @ signs(arrays["bits"], kept.dimension).T
    found = scores[next(iter(arrays))]()
    order = np.argsort(-found, axis=1, kind="stable")
    if store == "bits":
        first = np.sort(order[:, : max(RESCORED, 5 * TOP)], axis=1)
        again = np.take_along_axis(scores["int8"](), first, axis=1)
        order = np.take_along_axis(first, np.argsort(-again, axis=1, kind="stable"), axis=1)
    places = order[:, :TOP] == np.arange(len(order))[:, None]
    told = {f"R@{k}": places[:, :k].any(axis=1) for k in (1, 5, 10)}
    nearest = (unit(kept.decode(arrays)) @ classes.T).argmax(axis=1)
    return told | {"top-1": nearest == data.labels}


def row(name: str, found: dict[str, npt.NDArray[np.bool_]], full: dict[str, npt.NDArray[np.bool_]]) -> Row:
    """Figures in percent, and what they lost in points, with intervals."""
    figures = {key: percentage(values).model_dump() for key, values in found.items()}
    changes = {key: paired_difference(values, full[key]).model_dump() for key, values in found.items()}
    return {"name": name, "figures": figures, "changes": changes}


def moment(rows: Doubles, centred: bool = False) -> Doubles:
    rows = rows - rows.mean(axis=0) * centred
    return rows.T @ rows / len(rows)


def of_matrix(matrix: Doubles, function: Callable[[Doubles], Doubles]) -> Doubles:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * function(np.maximum(values, 1e-12))) @ vectors.T)


def strongest(matrix: Doubles, size: int) -> Doubles:
    return np.ascontiguousarray(np.linalg.eigh(matrix)[1][:, ::-1][:, :size])


def shrunk(matrix: Doubles, part: float = SHRINKAGE) -> Doubles:
    return (1 - part) * matrix + part * np.trace(matrix) / len(matrix) * np.eye(len(matrix))


def ways(images: Doubles, texts: Doubles, size: int) -> dict[str, Map]:
    """Axes by each way, of the same pictures and captions. Those of one matrix serve both towers."""
    one, two = moment(images), moment(texts)
    half, inverse = of_matrix(shrunk(one), np.sqrt), of_matrix(shrunk(one), lambda values: values**-0.5)
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((size, size)))[0]
    mean = mean_axes(images, texts, size)
    axes = {
        "first numbers, as they come": np.eye(images.shape[1])[:, :size],
        "principal axes of pictures": strongest(one, size),
        "the same, centred": strongest(moment(images, True), size),
        "principal axes of captions": strongest(two, size),
        "of the sum of both moments": strongest(one / np.trace(one) + two / np.trace(two), size),
        "of the log-Euclidean mean, turned for signs (ours)": ours(images, texts, size)[0],
        "the same, not turned": mean,
        "the same, turned by chance": mean @ turn,
        "the same, turned to lose least to int8": turned_for_int8(images, mean),
        "of the geometric mean": strongest(half @ of_matrix(inverse @ shrunk(two) @ inverse, np.sqrt) @ half, size),
        "of what scores vary by (cross moment)": strongest(one @ two @ one, size),
    }
    found = {name: (matrix, matrix) for name, matrix in axes.items()}
    white = strongest(one, size)
    lengths = np.sqrt(np.diag(white.T @ one @ white))
    found["principal axes of pictures, whitened"] = (white / lengths, white / lengths)
    return found


def turned_for_int8(images: Doubles, axes: Doubles, rounds: int = 50) -> Doubles:
    """Axes [D, N], turned within themselves so that int8 of one scale is as near as it comes: what integers say, and
    the rotation that is nearest to that (Procrustes), in turns, as `turned_for_signs` does for signs."""
    rows = unit(images @ axes)
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((rows.shape[1], rows.shape[1])))[0]
    for _ in range(rounds):
        found = rows @ turn
        scale = np.quantile(np.abs(found), 0.9999) / 127
        left, _, right = np.linalg.svd(rows.T @ (np.clip(np.rint(found / scale), -127, 127) * scale))
        turn = left @ right
    return np.asarray(axes @ turn)


def ours(images: Doubles, texts: Doubles, size: int) -> Map:
    axes = fit_axes(images, texts, size, 1.0)[0].astype(np.float64)
    return axes, axes


def turns(data: Nano, full: dict[str, npt.NDArray[np.bool_]], more: list[Doubles]) -> list[Row]:
    """Signs, and the best of them rescored by int8, on the same axes turned in different ways."""
    rows = []
    for size in SIZES_OF_SIGNS:
        mean = mean_axes(data.fit_images, data.fit_texts, size)
        chance = np.linalg.qr(np.random.default_rng(4).standard_normal((size, size)))[0]
        found = {"not": mean, "by chance": mean @ chance, "for signs (ours)": turned_for_signs(data.fit_images, mean)}
        if more:
            found[f"for signs, by {len(more[0]):,} pictures"] = turned_for_signs(more[0], mean)
        for name, axes in found.items():
            for store in ("bits-only", "bits"):
                kept = row(name, hits(data, (axes, axes), store, data.fit_images), full)
                rows.append({"size": size, "store": store} | kept)
    return rows


def sizes(data: Nano, full: dict[str, npt.NDArray[np.bool_]]) -> list[Row]:
    rows = []
    for size in SIZES:
        by = ours(data.fit_images, data.fit_texts, size)
        for store in STORES:
            kept = Store(store, size)
            told = sum(np.dtype(dtype).itemsize * columns for dtype, columns in kept.arrays.values())
            rows.append(
                {"size": size, "store": store, "bytes": told} | row(store, hits(data, by, store, data.fit_images), full)
            )
    return rows


def fitted_to(data: Nano, full: dict[str, npt.NDArray[np.bool_]], source: str, by: tuple[Doubles, Doubles]) -> Row:
    """64 int8 numbers on axes that are fitted to some pictures and captions."""
    images, texts = by
    told = {"source": source, "pictures": len(images), "captions": len(texts)}
    return told | row(source, hits(data, ours(images, texts, 64), "int8", images), full)


def curve(data: Nano, full: dict[str, npt.NDArray[np.bool_]]) -> list[Row]:
    """By parts of the calibration set that axes are fitted to."""
    counts = [one for one in FITTED if one <= len(data.fit_images)]
    some = [np.stack(spread_evenly(list(data.fit_images), count)) for count in counts]
    rows = [fitted_to(data, full, "calibration set", (images, data.fit_texts)) for images in some]
    others = {
        "calibration set, packaged prompts": (data.fit_images, data.packaged),
        "what is asked for itself": (data.images, data.captions),
    }
    return rows + [fitted_to(data, full, source, by) for source, by in others.items()]


def training_curve(data: Nano, full: dict[str, npt.NDArray[np.bool_]], more: list[Doubles]) -> list[Row]:
    """By as many of all training pictures and captions."""
    parts = [[np.stack(spread_evenly(list(part), count)) for part in more] for count in FITTED[3:]]
    return [fitted_to(data, full, "all training styles", (images, texts)) for images, texts in parts]


def search_times() -> dict[str, Any]:
    """CPU time of one exact search over int8 of 64 numbers, as a ratio of 512, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        chance = np.random.default_rng(3)
        indices = {size: random_index(Path(folder) / f"{size}.mcdx", LIBRARY, size) for size in (512, 64)}
        asked = {size: chance.standard_normal(size).astype(np.float32) for size in indices}
        calls = {str(size): (lambda size=size: indices[size].search(asked[size], 20)) for size in indices}
        times = in_turns(calls, ROUNDS, 1)
        told = {str(size): index.path.stat().st_size for size, index in indices.items()}
    ratio = interval(np.asarray(times["64"]) / np.asarray(times["512"]))
    return {
        "pictures": LIBRARY,
        "processor": processor(),
        "bytes": told,
        "ms": {k: float(np.median(v)) for k, v in times.items()},
        "ratio": ratio,
    }


def artifact_bytes() -> dict[str, dict[str, int]]:
    """Bytes of S0's artifacts (golden weights, ONNX at w8) by the size of the embedding, and of each tower."""
    from mobileclip_deploy.export.door import export

    pictures = spread_evenly([Path(str(one)) for one in builtin_dataset().images], 5 * max(SIZES_OF_S0[1:]))
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_golden("mobileclip_s0", folder / "s0.safetensors", "")
        for size in SIZES_OF_S0:
            fit = folder / f"fit-{size}"
            fit.mkdir()
            for path in pictures[: 5 * size]:  # some look alike
                (fit / path.name).symlink_to(path)
            smaller: dict[str, Any] = {} if size == max(SIZES_OF_S0) else {"embedding_size": size, "fit": fit}
            model = load_model("mobileclip_s0", folder / "s0.safetensors")
            bundle = export(model, "onnx", "w8", folder / str(size), verify=False, **smaller)
            towers = bundle.manifest.towers
            found[str(size)] = {str(tower): bundle.artifact(tower).stat().st_size for tower in towers}
    return found


def told(change: dict[str, float]) -> str:
    return f"{change['value']:+.1f} ({change['low']:+.1f} to {change['high']:+.1f})"


def tables(result: dict[str, Any]) -> str:
    """By size and store, by axes, and by parts of the calibration set; and how long a search takes."""
    base = result["full"]["figures"]
    rows = [["128", "full, float32", "512", *(f"{base[key]['value']:.1f}%" for key in KEYS)]]
    for one in result["sizes"]:
        rows.append([str(one["size"]), NAMES.get(one["store"], one["store"]), str(one["bytes"]), *losses(one)])
    lines = markdown((">numbers", "stored as", ">bytes", *LOST), rows)
    lines += ["", "64 int8 numbers on other axes, fitted to the same:", ""]
    lines += markdown(("axes", *LOST), ([one["name"], *losses(one)] for one in result["ways"]))
    lines += ["", "Signs, by how the axes were turned within themselves:", ""]
    turned = ([str(one["size"]), NAMES[one["store"]], one["name"], *losses(one)] for one in result["turns"])
    lines += markdown((">numbers", "stored as", "turned", *LOST), turned)
    lines += ["", "64 int8 numbers, by what the axes were fitted to:", "", by_source(result["curve"])]
    search = result["search"]
    pictures, by = f"{search['pictures']:,}", search["processor"]
    ratio = "{:.2f} ({:.2f} to {:.2f})".format(*search["ratio"])
    small, large = (f"{search['bytes'][size] / 1e6:.0f}" for size in ("64", "512"))
    lines += [
        "",
        f"A search in {pictures} pictures by 64 int8 numbers took {ratio} of the CPU time of one\n"
        f"by 512 ({by}), in an index of {small} MB for {large}.",
        "",
        "S0's artifacts (golden weights, ONNX at `w8`) end on smaller projections:",
        "",
    ]
    heads = (">numbers", ">bytes of an int8 embedding", ">image tower, MB", ">text tower, MB")
    artifacts = result["artifacts"].items()
    return "\n".join(
        lines
        + markdown(heads, ([size, size, *(f"{size / 1e6:.3f}" for size in by.values())] for size, by in artifacts))
    )


def by_source(rows: list[Row]) -> str:
    told = ([one["source"], f"{one['pictures']:,}", f"{one['captions']:,}", *losses(one)] for one in rows)
    return "\n".join(markdown(("fitted to", ">pictures", ">captions", *LOST), told))


def losses(one: Row) -> list[str]:
    return [told(one["changes"][key]) for key in KEYS]


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--embeddings", type=Path, help="an .npz to keep embeddings in, and to take them from")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    began = time.process_time()
    result: dict[str, Any] = KEPT.read()
    for part, found in measure(given.embeddings, given.pairs, given.only or PARTS):
        result[part] = found
        print(f"{part}: {time.process_time() - began:.0f} s of CPU time", flush=True)
        if given.write:
            KEPT.write(result)
    print(tables(result), by_source(result["training"]), sep="\n\n")
    if given.write:
        KEPT.show(tables(result))
        training = by_source(result["training"])
        KEPT.show(training, "<!-- begin: benchmarks/compact.py --pairs -->", "<!-- end of pairs -->")


def measure(kept: Path | None, pairs: Path | None, parts: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Parts of the result, one after the other; what only training pictures tell, where there are some."""
    data, more = nano(kept, pairs)
    whole = np.eye(data.images.shape[1])
    full = hits(data, (whole, whole), "float32", data.fit_images)
    ways_by = ways(data.fit_images, data.fit_texts, 64) if "ways" in parts else {}
    calls: dict[str, Callable[[], Any]] = {
        "full": lambda: row("full", full, full),
        "sizes": lambda: sizes(data, full),
        "ways": lambda: [row(name, hits(data, by, "int8", data.fit_images), full) for name, by in ways_by.items()],
        "turns": lambda: turns(data, full, more),
        "curve": lambda: curve(data, full),
        "training": lambda: training_curve(data, full, more),
        "search": search_times,
        "artifacts": artifact_bytes,
    }
    for part in parts:
        if part != "training" or more:
            yield part, calls[part]()


if __name__ == "__main__":
    main()
