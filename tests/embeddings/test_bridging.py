"""A library changes its model by a map that was learned from shared pictures, where that keeps what is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refused, run
from embeddings.indices import units
from safetensors.torch import load_file, save_file

from mobileclip_deploy.errors import GateFailed, InvalidInput
from mobileclip_deploy.search.bridging import Bridge, learn
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import Store
from mobileclip_deploy.search.writing import create

OLD, NEW = 24, 32


def index(path: Path, vectors: np.ndarray, space: str, first: int = 0, **told: Any) -> Path:
    """An index of pictures p<first>, p<first + 1>, ..."""
    header = Header(Store("float32", vectors.shape[1]), Description(embedding_space=space, variant="nano", **told))
    create(path, header, [([f"p{first + number}" for number in range(len(vectors))], [5] * len(vectors), vectors)])
    return path


def worlds(noise: float, offset: float = 0.0, count: int = 600, new: int = NEW) -> tuple[np.ndarray, np.ndarray]:
    """The same pictures in two spaces: what they show, turned, moved, with noise of each network's own."""
    chance = np.random.default_rng(4)
    shown = chance.standard_normal((count, 16))  # fewer directions than either space has
    found = []
    for size in (OLD, new):
        turned = shown @ np.linalg.qr(chance.standard_normal((size, size)))[0][:16]
        turned += noise * chance.standard_normal(turned.shape) + offset * chance.standard_normal(size)
        found.append((turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32))
    return found[0], found[1]


def test_a_library_is_brought_across_and_found_in(tmp_path: Path) -> None:
    old, new = worlds(0.1)
    before = index(tmp_path / "old.mcdx", old, "a")
    after = index(tmp_path / "new.mcdx", new[:400], "b")  # 200 pictures were never embedded anew
    found = run("bridge", "--from", before, "--to", after, "-o", tmp_path / "map.safetensors", "--json")
    figures = found.json["bridge"]["figures"]
    assert (found.code, figures["pairs"], figures["held_back"]) == (0, 320, 80)
    assert figures["shared"]["low"] > 70
    assert figures["own_first"]["low"] > 95

    told = run("bridge", "--from", before, "--by", tmp_path / "map.safetensors", "-o", tmp_path / "library.mcdx")
    assert (told.code, "600 embeddings converted from a to b" in told.stdout) == (0, True)
    library = Index(tmp_path / "library.mcdx")
    assert (library.description.embedding_space, library.description.bridged_from) == ("b", "a")
    assert [(name, stamp) for _, name, stamp in library] == [(f"p{number}", 5) for number in range(600)]
    unseen = library.search(new[400:], 1)
    assert sum(match[0].id == f"p{400 + number}" for number, match in enumerate(unseen)) > 190


@pytest.mark.parametrize("new", [NEW, OLD])
def test_a_rotation_is_learned_where_there_are_few_pictures_for_more(new: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(4)
    old = units(100, dimension=OLD)
    turned = old @ np.linalg.qr(chance.standard_normal((new, new)))[0][:OLD] + 0.02 * chance.standard_normal((100, new))
    turned = (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)
    learned = learn(Index(index(tmp_path / "a.mcdx", old, "a")), Index(index(tmp_path / "b.mcdx", turned, "b")))
    assert (learned.description.figures.kind, learned.matrix.shape) == ("orthogonal", (OLD, new))
    np.testing.assert_allclose(learned.matrix @ learned.matrix.T, np.eye(OLD), atol=1e-5)
    assert not learned.offset.any()


def test_an_affine_map_is_learned_where_a_rotation_cannot_do(tmp_path: Path) -> None:
    old, new = worlds(0.1, offset=3.0)
    learned = learn(Index(index(tmp_path / "a.mcdx", old, "a")), Index(index(tmp_path / "b.mcdx", new, "b")))
    assert (learned.description.figures.kind, learned.matrix.shape) == ("affine", (OLD, NEW))
    assert learned.offset.any()


def test_what_is_not_the_same_pictures_is_refused_with_exit_code_1(tmp_path: Path) -> None:
    old, new = worlds(0.1)
    before = index(tmp_path / "old.mcdx", old, "a")
    after = index(tmp_path / "new.mcdx", np.roll(new, 1, axis=0), "b")  # each id is of another picture
    with pytest.raises(GateFailed, match="of the first matches"):
        learn(Index(before), Index(after))
    found = run("bridge", "--from", before, "--to", after, "-o", tmp_path / "map.safetensors")
    assert (found.code, found.stdout, (tmp_path / "map.safetensors").exists()) == (1, "", False)


def test_figures_are_of_pictures_that_were_not_learned_from(tmp_path: Path) -> None:
    """As many pairs as numbers: a map that fits them all says nothing of others, and is seen to."""
    old, new = units(75, dimension=60), units(75, seed=1, dimension=60)
    with pytest.raises(GateFailed, match="embed the pictures again, or learn from more of them"):
        learn(Index(index(tmp_path / "a.mcdx", old, "a")), Index(index(tmp_path / "b.mcdx", new, "b")))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    old, new = worlds(0.1)
    before, after = index(tmp_path / "old.mcdx", old, "a"), index(tmp_path / "new.mcdx", new, "b")
    path, learnt = tmp_path / "map.safetensors", ("bridge", "--from", before, "--to", after)

    assert "no bridge is needed" in refused("bridge", "--from", before, "--to", before, "-o", path)
    few = index(tmp_path / "few.mcdx", new[:63], "b")
    assert "share 63 ids, and a bridge needs 64" in refused("bridge", "--from", before, "--to", few, "-o", path)
    texts = index(tmp_path / "texts.mcdx", new, "b", tower="text")
    assert "holds images and" in refused("bridge", "--from", before, "--to", texts, "-o", path)
    assert "give --to" in refused("bridge", "--from", before, "-o", path)
    assert "ends with .safetensors" in refused(*learnt, "-o", tmp_path / "map.mcdx")
    assert run(*learnt, "-o", path).code == 0
    assert "exists" in refused(*learnt, "-o", path)
    crossing = ("bridge", "--by", path, "-o", tmp_path / "library.mcdx")
    assert "the bridge is from a" in refused(*crossing, "--from", after)
    tensors, told = load_file(path), {"bridge": Bridge.read(path).description.model_dump_json()}
    narrow, infinite = tensors["matrix"][:, 1:].contiguous(), tensors["matrix"] / 0
    flat = {
        "bridge": Bridge.read(path).description.model_copy(update={"store": "int8", "scale": 0.0}).model_dump_json()
    }
    damaged = [({"matrix": narrow}, told), ({"matrix": infinite}, told), ({}, {"bridge": "{}"}), ({}, {}), ({}, flat)]
    for changed, words in damaged:
        save_file(tensors | changed, tmp_path / "damaged.safetensors", words)
        with pytest.raises(InvalidInput, match=r"is not a (valid )?bridge"):
            Bridge.read(tmp_path / "damaged.safetensors")
    with pytest.raises(InvalidInput, match="not a valid safetensors file"):
        Bridge.read(before)


def test_a_library_of_nano_is_brought_to_a_second_nano_that_was_trained_from_other_weights(tmp_path: Path) -> None:
    """docs/search.md has the figures of more pictures; `python benchmarks/spaces.py`."""
    spaces = {name: values.float() for name, values in load_file(Path(__file__).parent / "spaces.safetensors").items()}
    old, new = (np.asarray(spaces[name] / spaces[name].norm(dim=1, keepdim=True)) for name in ("pictures", "second"))
    learned = learn(
        Index(index(tmp_path / "old.mcdx", old[::3], "a")), Index(index(tmp_path / "new.mcdx", new[::3], "b"))
    )
    figures = learned.description.figures
    assert (figures.held_back, figures.kind) == (127, "affine")
    assert figures.shared.low > 57
    assert figures.own_first.low > 88
    unseen = np.asarray((learned(old[1::3]) * new[1::3]).sum(1))
    assert unseen.mean() == pytest.approx(figures.cosine, abs=0.01)
    straight = (old[1::3] * new[1::3]).sum(1).mean()  # without a map the axes mean nothing to each other
    assert abs(straight) < 0.5
