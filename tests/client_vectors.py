"""Writes clients/vectors/: what the clients of every language have to answer, beside tokenizer_vectors.py's ids.

python tests/client_vectors.py
"""

import base64
import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hostile_vectors import hostile_vectors, refusal_vectors
from lock_vectors import lock_vectors
from manifest_vectors import manifest_vectors
from picture_vectors import digests, noise, picture_vectors
from PIL import Image
from safetensors.numpy import save

from mobileclip_deploy.artifacts.heads.label_head import LabelHead, Thresholds, digest_rows
from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.preprocessing import rgb_image, tower_bytes
from mobileclip_deploy.network.model.variants import Preprocess, load_variant
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import STORES, Store
from mobileclip_deploy.search.writing import IndexWriter, create
from mobileclip_deploy.spaces.int8 import integers_of, rounded_scale
from mobileclip_deploy.spaces.relevance import Relevance
from mobileclip_deploy.spaces.relevance_fit import MatchThreshold

__all__ = ["FOLDER", "WRITERS", "noise", "random_pictures"]

FOLDER = Path(__file__).parents[1] / "clients" / "vectors"
SIZES = (
    *((64, 64), (65, 64), (64, 65), (67, 131), (131, 67), (640, 427), (427, 640), (31, 40), (40, 31), (1, 1)),
    *((1, 500), (500, 1), (2, 3), (3, 2), (63, 63), (1000, 64), (255, 257), (129, 128)),
)
TALL = (69, 292), (120, 249), (66, 300)
"""Of these Pillow resizes the height first since 13.0 (python-pillow/Pillow#9549), which gives other last bits."""
LARGE = 1000, 750
"""Nearly twelve times as small in the end, as a phone's picture of 12 megapixels is at 256."""
ROWS, DIMENSION = 60, 40
SPACE = "vectors-0000000000000000"


def random_pictures(seed: int, count: int) -> Iterator[tuple[npt.NDArray[np.uint8], Preprocess]]:
    """Noise [H, W, 3] of up to 300 pixels a side, and how each is prepared: by either filter, cropped or not."""
    chance = random.Random(seed)
    for number in range(count):
        width, height = chance.randint(1, 300), chance.randint(1, 300)
        changes = {"interpolation": chance.choice(["bilinear", "bicubic"]), "crop_fraction": chance.choice([None, 0.9])}
        pixels = noise(width * height * 3, seed + number).reshape(height, width, 3)
        yield pixels, load_variant("nano").preprocess.model_copy(update=changes)


def resize_vectors() -> dict[str, Any]:
    """Pictures of noise, and digests of the bytes [3, S, S] that a tower gets of each."""
    return {"schema_version": 1, "cases": list(_resizes())}


def _resizes() -> Iterator[dict[str, Any]]:
    plain = load_variant("nano").preprocess
    ways = [{"interpolation": "bilinear"}, {"interpolation": "bicubic"}]
    for number, (width, height) in enumerate(SIZES):
        for changes in ways:
            yield _resized((width, height, 3), number + 1, plain.model_copy(update=changes))
    others = ({"interpolation": "bicubic", "crop_fraction": 0.9}, {"resize": "squash"}, {"size": 256})
    for number, changes in enumerate(others):
        yield _resized((301, 200, 3), 100 + number, plain.model_copy(update=changes))
    for number, (width, height) in enumerate(TALL):
        yield _resized((width, height, 3), 150 + number, plain) | {"since": "Pillow 13.0"}
    yield _resized((301, 200, 4), 200, plain)
    yield _resized((*LARGE, 3), 300, plain)


def _resized(shape: tuple[int, int, int], seed: int, spec: Preprocess) -> dict[str, Any]:
    width, height, channels = shape
    picture = Image.fromarray(noise(width * height * channels, seed).reshape(height, width, channels))
    answer = tower_bytes(rgb_image(picture, "noise"), spec)
    told = {"size": spec.size, "resize": spec.resize, "crop": spec.crop, "interpolation": spec.interpolation}
    told |= {} if spec.crop_fraction is None else {"crop_fraction": spec.crop_fraction}
    picture_told = {"width": width, "height": height, "channels": channels, "seed": seed, "preprocess": told}
    return picture_told | digests(np.asarray(answer).tobytes())


def search_vectors() -> dict[str, Any]:
    """An index of each store with two blocks, equal rows and removed ones, and what is found in it; and files that are
    refused."""
    indices = {store: _index(store) for store in STORES}
    cases = [_searched(store, content) for store, content in indices.items()]
    return {
        "schema_version": 1,
        "embedding_space": SPACE,
        "cases": cases,
        "refused": [
            {"what": what, "code": code, "index": _text(content)} for what, code, content in _refused(indices["int8"])
        ],
    }


def _units(count: int, seed: int) -> npt.NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def _index(store: str) -> bytes:
    vectors = _units(ROWS, 5)
    vectors[20] = vectors[3]  # equal scores: the lower row comes first
    scale = 0.75 / 127 if store in ("int8", "bits") else 0.0
    header = Header(Store(store, DIMENSION, scale), Description(embedding_space=SPACE, variant="nano"))
    ids = [f"IMG_{number:04}.jpg" for number in range(ROWS)]
    ids[7], ids[8] = "Фото/猫 🐈.png", "a\nb"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.mcdx"
        create(path, header, [(ids[:40], [0] * 40, vectors[:40])])
        with IndexWriter.open(path) as (writer, _):
            writer.add(ids[40:], [0] * 20, vectors[40:])
            writer.remove([5, 41])
            writer.commit()
        return path.read_bytes()


def _searched(store: str, content: bytes) -> dict[str, Any]:
    vectors = _units(ROWS, 5)
    # A row itself, one that is there twice, one that was removed, and others.
    queries = [vectors[0], vectors[3], vectors[5], *_units(5, 6)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.mcdx"
        path.write_bytes(content)
        found = Index(path).search(np.stack(queries), 8)
    asked = [
        {
            "query": [float(value) for value in query],
            "found": [{"id": one.id, "row": one.row, "score": one.score} for one in matches],
        }
        for query, matches in zip(queries, found, strict=True)
    ]
    return {"store": store, "index": _text(content), "length": ROWS - 2, "top": 8, "queries": asked}


def _refused(whole: bytes) -> Iterator[tuple[str, str, bytes]]:
    def changed(place: int, value: int) -> bytes:
        return whole[:place] + bytes([value]) + whole[place + 1 :]

    yield "no index", "index", b"PK\x03\x04" + whole[4:]
    yield "a newer version", "newer", changed(8, 2)
    yield "a scale that was changed", "index", changed(32, whole[32] ^ 1)
    yield "a description that was changed", "index", changed(130, whole[130] ^ 1)
    yield "cut in the middle", "index", whole[: len(whole) // 2]
    yield "cut in the header", "index", whole[:100]
    yield "empty", "index", b""
    yield "both slots damaged", "index", whole[:64] + bytes(64) + whole[128:]
    yield "an embedding that was changed", "index", changed(512, whole[512] ^ 1)


def relevance_vectors() -> dict[str, Any]:
    """A bundle's `relevance.safetensors`, the manifest's numbers, and the cosine that each query needs."""
    background, scale = integers_of(_units(300, 8), rounded_scale(1.0))
    weights = (np.random.default_rng(9).standard_normal(DIMENSION) / 20).astype(np.float32)
    fitted = MatchThreshold(weights.astype(np.float64), 1.25, 0.7, 0.0125)
    relevance, queries = Relevance(background, scale, fitted), _units(6, 10)
    return {
        "schema_version": 1,
        "file": _text(save({"background": background, "weights": weights})),
        "manifest": {"images": 300, "scale": scale, "spread": 1.25, "intercept": 0.7, "slope": 0.0125},
        "queries": [[float(value) for value in query] for query in queries],
        "needed": {str(size): [round(one, 9) for one in relevance.needed(queries, size)] for size in (0, 1, 60, 10**6)},
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tag_vectors() -> dict[str, Any]:
    """Thresholds of learned labels, probabilities, and the labels that are present, the most probable first."""
    chance, cases = np.random.default_rng(61), []
    for number in range(40):
        count = int(chance.integers(2, 9))
        shares = chance.dirichlet(np.full(count + 1, 0.4)).astype(np.float32)
        ratios = chance.choice([0.0, 0.5, 1.0, 2.5, 30.0], count).tolist()
        if number < 4:  # the bounds themselves, and nothing but "none of these"
            shares, ratios = np.float32([0.5, 0.25, 0.25, 0.0] if number % 2 else [0, 0, 0, 1]), [1.0, 2.0, 0.5]
        if number == 5:
            shares = np.eye(1, count + 1, dtype=np.float32)[0]
        cases.append({"ratios": ratios, "share": 0.1, "probabilities": shares.tolist()})
    fixed = {"method": "texts", "examples": 1, "background": 0, "pictures_sha256": "0" * 64, "aim": 0.05}
    fixed |= {"false_tags": 0, "true_tags": 1, "right": 1}
    for case in cases:
        rule = Thresholds(ratios=case["ratios"], share=case["share"], **fixed)
        case["present"] = rule.present(np.array(case["probabilities"], np.float32))
    return {"schema_version": 1, "cases": cases, "learned": learned_labels(), "refused": list(refused_labels())}


TAGS = {"cat": 2.0, "dog": 0.5, "Katze \N{CAT FACE}": 30.0}
"""Labels of the file, and their ratios."""


def label_file(tensors: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A file of labels as `LabelHead.save` writes it; `changes` of its description and its thresholds."""
    chance = np.random.default_rng(62)
    arrays = {"weights": 4 * chance.standard_normal((4, 6)), "biases": chance.standard_normal(4)}
    digests = digest_rows(f"{number:016x}" for number in range(5))
    sha256 = content_sha256(digests.tobytes())
    rule = {"ratios": [*TAGS.values()], "share": 0.1, "method": "texts", "examples": 4, "background": 1}
    rule |= {"pictures_sha256": sha256, "aim": 0.05, "false_tags": 0.0, "true_tags": 1.0, "right": 1.0}
    described: dict[str, Any] = {"format": "mobileclip-deploy labels 1", "embedding_space": SPACE, "labels": [*TAGS]}
    described |= {name: value for name, value in changes.items() if name not in rule}
    described["thresholds"] = rule | {name: value for name, value in changes.items() if name in rule}
    found = {name: array.astype(np.float32) for name, array in arrays.items()} | {"digests": digests} | (tensors or {})
    return save({name: array for name, array in found.items() if array is not None}, {"labels": json.dumps(described)})


def learned_labels() -> dict[str, Any]:
    """A file of labels, embeddings of its space, their probabilities, and the labels that are present."""
    head, queries = _read_labels(label_file()), np.random.default_rng(63).standard_normal((12, 6)).astype(np.float32)
    embeddings = [
        {
            "values": query.tolist(),
            "probabilities": {name: round(float(share), 7) for name, share in zip(head.names, shares, strict=True)},
            "present": [head.names[index] for index in head.thresholds.present(shares)],
        }
        for query, shares in zip(queries, head.probabilities(queries), strict=True)
    ]
    found = {"file": _text(label_file()), "embedding_space": SPACE, "labels": [*TAGS], "embeddings": embeddings}
    assert {len(one["present"]) for one in embeddings} >= {0, 1, 2}
    return found


def _read_labels(content: bytes) -> LabelHead:
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "labels.safetensors").write_bytes(content)
        return LabelHead.read(path)


def refused_labels() -> Iterator[dict[str, Any]]:
    """Files that are not valid, which Python refuses too."""
    whole, ones = label_file(), np.ones((4, 6), np.float32)
    files = {
        "no file": b"",
        "cut": whole[:-100],
        "a header that is longer than the file": b"\xff\xff\xff\x7f\0\0\0\0" + whole[8:],
        "no description": save({"weights": ones}),
        "a description that is no JSON": save({"weights": ones}, {"labels": "{"}),
        "a key twice": label_file(labelz=[*TAGS]).replace(b"labelz", b"labels"),
        "another format": label_file(format="labels"),
        "one label": label_file(labels=["cat"], ratios=[1.0]),
        "none of these as a label": label_file(labels=["cat", "dog", "none of these"]),
        "a label that is a number": label_file(labels=["cat", "dog", 1]),
        "a label of 1,001 characters": label_file(labels=["cat", "dog", "c" * 1001]),
        "no embedding space": label_file(embedding_space=None),
        "a ratio too few": label_file(ratios=[1.0, 2.0]),
        "a negative ratio": label_file(ratios=[1.0, 2.0, -1.0]),
        "a ratio of ten millions": label_file(ratios=[1.0, 2.0, 1e7]),
        "a share of 2": label_file(share=2.0),
        "no examples": label_file(examples=0, background=5),
        "the least number of pictures": label_file(examples=-(1 << 63)),
        "another number of pictures": label_file(examples=5),
        "a row too few": label_file({"weights": ones[:3]}),
        "a weight that is NaN": label_file({"weights": ones * np.nan}),
        "an infinite bias": label_file({"biases": ones[:, 0] * np.inf}),
        "weights of float16": label_file({"weights": ones.astype(np.float16)}),
        "no biases": label_file({"biases": None}),
    }
    for what, content in (files | {"a newer format": label_file(format="mobileclip-deploy labels 2")}).items():
        with contextlib.suppress(InvalidInput):
            raise AssertionError(f"{what}: {_read_labels(content)}")
        yield {"what": what, "code": "newer" if what == "a newer format" else "bundle", "file": _text(content)}


WRITERS = {
    "resize": resize_vectors,
    "pictures": picture_vectors,
    "manifests": manifest_vectors,
    "search": search_vectors,
    "relevance": relevance_vectors,
    "tags": tag_vectors,
    "hostile": hostile_vectors,
    "refusals": refusal_vectors,
    "locks": lock_vectors,
}

if __name__ == "__main__":
    for name, write in WRITERS.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(write(), indent=1) + "\n", encoding="utf-8")
