"""`embed` keeps an index of a folder of pictures up to date, and `search` finds them."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, run
from exports import Exports
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.embedding import unit
from mobileclip_deploy.search import spaces
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.library import int8_scale
from mobileclip_deploy.search.writing import create

PICTURES = models_dir() / "nano" / "evaluation" / "images"
NAMED = {"1f697": "automobile", "1f355": "pizza", "1f431": "cat face", "1f680": "rocket"}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(spaces, "cache_folder", lambda name: tmp_path / "cache" / name)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMED:
        Image.open(PICTURES / f"{name}.png").save(folder / f"{name}.png")
    return folder


def test_an_index_is_kept_up_to_date_and_found_in(
    exports: Exports, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle, library = exports.unverified("onnx", "w8", "both"), tmp_path / "library.mcdx"
    (photos / "broken.png").write_bytes(b"none")
    found = run("embed", bundle.path, photos, "-o", library, "--json")
    assert (found.code, found.json["count"], found.json["added"], found.json["store"]) == (0, 4, 4, "int8")
    assert found.json["clipped"] == 0
    assert "broken.png" in found.stderr

    for name, text in NAMED.items():
        answer = run("search", library, text, "--top", "1", "--json").json["answers"][0]
        assert (answer["query"], answer["matches"][0]["id"]) == (text, str(photos / f"{name}.png"))
    found = run("search", library, "--image", photos / "1f431.png", "--top", "2")
    assert (found.code, found.stdout.count(".png")) == (0, 3)
    assert "1.00" in found.stdout or "0.99" in found.stdout

    (photos / "1f355.png").rename(tmp_path / "away.png")
    found = run("search", library, "rocket <b>", "--top", "4", "--html", tmp_path / "found.html")
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert (found.code, page.count("data:image/jpeg;base64,"), page.count(">cannot be read<")) == (0, 3, 1)
    assert "<h2>rocket &lt;b&gt;</h2>" in page
    assert "exists" in refused("search", library, "rocket", "--html", tmp_path / "found.html")
    (tmp_path / "away.png").rename(photos / "1f355.png")

    app, held = tmp_path / "app.mcdx", Index(library)  # rows without stamps, as an app writes them
    ids, _, vectors = next(held.parts())
    create(app, held.header, [(ids, [0] * len(ids), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))])
    (photos / "broken.png").unlink()
    assert run("embed", bundle.path, photos, "-o", app, "--incremental", "--json").json["computed"] == 0
    before = library.read_bytes()
    (photos / "phone.HEIC").write_bytes(b"")
    assert run("embed", bundle.path, photos, "-o", library, "--incremental", "--json").json["computed"] == 0
    assert "left out of this folder: 1 .heic; convert them to JPEG or PNG" in caplog.text
    assert library.read_bytes() == before

    Image.open(PICTURES / "1f431.png").save(photos / "1f697.png")  # the automobile's file holds a cat now
    os.utime(photos / "1f697.png", (1, 1))
    Image.open(PICTURES / "1f697.png").save(photos / "car.png")
    (photos / "1f680.png").unlink()
    told = run("embed", bundle.path, photos, "-o", library, "--incremental", "--json").json
    assert {key: told[key] for key in ("count", "added", "replaced", "removed", "missing", "computed")} == {
        "count": 5, "added": 1, "replaced": 1, "removed": 0, "missing": 1, "computed": 2,
    }  # fmt: skip
    assert mcd.search(library, "automobile", top=1).answers[0].matches[0].id == str(photos / "car.png")
    told = run("embed", bundle.path, photos, "-o", library, "--incremental", "--prune")
    assert "1 removed; it holds 4 image embeddings" in told.stdout
    assert sorted(Path(name).name for _, name, _ in Index(library)) == [
        "1f355.png",
        "1f431.png",
        "1f697.png",
        "car.png",
    ]


def test_prune_from_another_folder_is_refused_and_removes_nothing(
    exports: Exports, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, library = exports.unverified("onnx", "w8", "both"), tmp_path / "library.mcdx"
    monkeypatch.chdir(tmp_path)
    mcd.embed(bundle, "photos", library)
    before = library.read_bytes()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (photos / "1f697.png").rename(elsewhere / "new.png")
    monkeypatch.chdir(elsewhere)
    told = refused("embed", bundle.path, "new.png", "-o", library, "--incremental", "--prune")
    assert "--prune would remove all 4 pictures" in told
    assert f"photos/1f355.png is not below {elsewhere}" in told
    assert library.read_bytes() == before
    assert mcd.embed(bundle, "../photos", library, incremental=True).missing == 4  # without `prune` all are kept


def test_its_vectors_are_those_of_embed_and_its_scale_is_the_spaces(
    exports: Exports, photos: Path, tmp_path: Path
) -> None:
    fp16, w8 = exports.bundle("onnx", "fp16"), exports.unverified("onnx", "w8", "both")
    assert int8_scale(fp16) == int8_scale(w8) == w8.manifest.int8_scale
    until_now = replace(w8, manifest=w8.manifest.model_copy(update={"int8_scale": None}))
    assert int8_scale(until_now) == int8_scale(w8)
    mcd.embed(w8, photos, tmp_path / "a.npy", normalise=True)
    mcd.embed(w8, photos, tmp_path / "a.mcdx")
    names, vectors = next(Index(tmp_path / "a.mcdx").vectors())
    assert names == sorted(str(path) for path in photos.iterdir())
    np.testing.assert_allclose(vectors, np.load(tmp_path / "a.npy"), atol=int8_scale(w8) * 0.501)
    mcd.embed(fp16, photos, tmp_path / "a.mcdx", incremental=True)  # another precision is the same space


def test_texts_are_searched_as_well(exports: Exports, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a red car\na dog\na dog\na pizza\n", encoding="utf-8")
    told = mcd.embed(exports.unverified("onnx", "w8", "both"), tmp_path / "t.txt", tmp_path / "t.mcdx", store="bits")
    assert (told.count, told.tower) == (3, "text")
    found = mcd.search(tmp_path / "t.mcdx", ["pizza", "dog"], images=photos / "1f697.png", top=1)
    assert [answer.matches[0].id for answer in found.answers] == ["a pizza", "a dog", "a red car"]


def test_what_does_not_fit_is_refused(exports: Exports, photos: Path, tmp_path: Path) -> None:
    bundle, library = exports.unverified("onnx", "w8", "both"), tmp_path / "a.mcdx"
    (tmp_path / "t.txt").write_text("a dog\n", encoding="utf-8")
    mcd.embed(bundle, photos, library)
    before = library.read_bytes()
    add = ("embed", bundle.path, photos, "-o", library)
    assert "exists; add to it with --incremental, replace it with --force, or choose" in refused(*add)
    assert "--store and --force are for a new index" in refused(*add, "--incremental", "--store", "bits")
    assert "--prune needs --incremental" in refused(*add, "--prune", "--force")
    assert "was written without --fast-jpeg" in refused(*add, "--incremental", "--fast-jpeg")
    assert "are for an index" in refused("embed", bundle.path, photos, "-o", tmp_path / "a.npy", "--incremental")
    both = ("embed", bundle.path, photos, tmp_path / "t.txt", "-o", tmp_path / "both.mcdx")
    assert "a file of texts must be the only source" in refused(*both)
    assert "not of texts" in refused("embed", bundle.path, tmp_path / "t.txt", "-o", library, "--incremental")
    assert "no query: add a text, or --image FILE" in refused("search", library)
    assert "is not an index" in refused("search", photos / "1f431.png", "a dog")
    assert "cannot be read: there is none; give a file that" in refused("search", tmp_path / "no.mcdx", "a dog")
    assert "the query is empty" in refused("search", library, " ")
    assert "no.png: no such file or folder" in (told := refused("search", library, "--image", tmp_path / "no.png"))
    assert "--skip-bad" not in told
    (tmp_path / "b.npy").touch()
    assert "choose another output with --export" in refused("search", library, "--export", tmp_path / "b.npy")
    refused("embed", bundle.path, tmp_path / "no.png", "-o", tmp_path / "no.mcdx")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert "is a folder, not an index" in refused("search", bundle.path, "a dog")
    assert "query it with `mobileclip-deploy search`" in refused("inspect", library)
    assert library.read_bytes() == before
    for note in spaces.cache_folder("spaces").iterdir():
        os.utime(note, (1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaces, "system_temporary", lambda: tmp_path / "temporary")  # the clone may be below the system's
        assert run("search", library, "a dog").code == 0
        patch.setattr(spaces, "system_temporary", lambda: bundle.path.parent)
        assert "no bundle is known that embeds the query" in refused("search", library, "a dog")
    for note in spaces.cache_folder("spaces").iterdir():
        note.unlink()
    assert "name one of the embedding space nano-" in refused("search", library, "a dog")


def test_an_index_is_searched_by_the_bundle_that_wrote_it(exports: Exports, photos: Path, tmp_path: Path) -> None:
    """Another index of the same space, by a bundle of another precision, changes nothing."""
    for precision, name in (("w8", "mine"), ("fp32", "theirs")):
        bundle = exports.unverified("onnx", precision, "both").path
        assert run("embed", bundle, photos, "-o", tmp_path / f"{name}.mcdx").code == 0
    found = run("search", tmp_path / "mine.mcdx", "a dog", "--json").json
    assert found["bundle"] == str(exports.unverified("onnx", "w8", "both").path)


def test_a_bundle_of_another_space_is_refused(
    exports: Exports, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indices import units, written

    other = written(tmp_path / "other.mcdx", units(3, dimension=128))
    add = ("embed", exports.unverified("onnx", "w8", "both").path, photos, "-o", other, "--incremental")
    assert "they cannot be compared; write another index" in refused(*add)
    assert "they cannot be compared" in refused(
        "search", other, "a dog", "--bundle", exports.unverified("onnx", "w8", "both").path
    )


def test_an_index_that_version_0_4_bridged_is_searched_but_not_added_to(
    exports: Exports, photos: Path, tmp_path: Path
) -> None:
    bundle, library = exports.unverified("onnx", "w8", "both"), tmp_path / "library.mcdx"
    mcd.embed(bundle, photos, library)
    index = Index(library)
    header = replace(index.header, description=index.description.model_copy(update={"bridged_from": "old"}))
    create(tmp_path / "bridged.mcdx", header, ((ids, stamps, unit(rows)) for ids, stamps, rows in index.parts()))
    found = run("search", tmp_path / "bridged.mcdx", "pizza", "--top", "1")
    assert "the index was converted from old by a bridge: matches are approximate" in found.stderr
    assert mcd.search(tmp_path / "bridged.mcdx", "pizza").bridged_from == "old"
    add = ("embed", bundle.path, photos, "-o", tmp_path / "bridged.mcdx", "--incremental")
    assert "new embeddings cannot be mixed with bridged ones" in refused(*add)
