"""Smaller embeddings: both towers end on fitted axes, and what is wrong with them is seen by `verify`."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refusal, refused, run
from exports import rehash
from json_files import edited_json
from PIL import Image
from safetensors.numpy import load_file, save_file
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.provenance import tensors_sha256
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.search import spaces
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.library import int8_scale
from mobileclip_deploy.spaces.axes import fit_axes, mean_axes
from mobileclip_deploy.spaces.compacting import read_fitting_set

SIZE, CAPTIONS = 6, 30


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny checkpoint, while its card is known; pictures to fit to are in `pictures` beside it."""
    folder = tmp_path_factory.mktemp("compact")
    write_pictures(folder / "pictures", 4 * SIZE)
    (folder / "pictures" / "prompts.txt").write_text("\n".join(f"a thing of {n}" for n in range(CAPTIONS)))
    with known(folder) as checkpoint:
        yield checkpoint


@pytest.fixture(scope="module")
def bundle(words: Path) -> mcd.Bundle:
    return mcd.export(
        mcd.load_model(WORDS, words),
        "onnx",
        "fp32",
        words.parent,
        embedding_size=SIZE,
        fit=words.parent / "pictures",
        verify=False,
    )


@pytest.fixture(scope="module")
def whole(words: Path) -> mcd.Bundle:
    """The same checkpoint with full embeddings."""
    return mcd.export(mcd.load_model(WORDS, words), "onnx", "fp32", words.parent / "whole", verify=False)


@pytest.mark.slow
def test_both_towers_end_on_the_axes(words: Path, bundle: mcd.Bundle) -> None:
    manifest, model = bundle.manifest, mcd.load_model(WORDS, words)
    told, space = manifest.checkpoint.compacted, mcd.load_model(WORDS, words).provenance.embedding_space
    assert bundle.path.name == f"{WORDS}-e{SIZE}-onnx-fp32"
    assert manifest.embedding_space == f"{space}-e{SIZE}-{told.axes_sha256[:8]}"
    assert (told.from_space, told.size, told.full_size, manifest.embed_dim) == (space, SIZE, 24, SIZE)
    assert (told.pictures, told.captions, told.own_captions) == (4 * SIZE, CAPTIONS, True)
    assert manifest.logit_scale == pytest.approx(min(100, told.logit_scale), rel=1e-6)
    assert told.full_logit_scale == model.logit_factor != told.logit_scale
    assert int8_scale(bundle) == manifest.int8_scale == told.int8_scale

    axes = load_file(bundle.axes)["axes"]
    assert tensors_sha256({"axes": axes}) == told.axes_sha256
    pixels = np.random.default_rng(1).random((3, 3, 64, 64), np.float32)
    full = mcd.load_runner(model, "image")(pixels)
    found = mcd.load_runner(bundle, "image")(pixels)
    np.testing.assert_allclose(found, full @ axes, rtol=0, atol=1e-4 * np.abs(full).max())
    report = mcd.verify(bundle, checkpoint=words)
    assert report.passed


def test_axes_are_those_of_both_towers_and_keep_all_where_all_are_kept() -> None:
    generator = np.random.default_rng(0)
    spread = np.array([3, 2, 1, 1, 0.1, 0.1, 0.1, 0.1])
    images = generator.standard_normal((200, 8)) * spread
    texts = generator.standard_normal((200, 8)) * spread[[0, 2, 1, 3, 4, 5, 6, 7]]
    axes, _ = fit_axes(images, texts, 4, 20)
    np.testing.assert_allclose(axes @ axes.T, np.diag([1, 1, 1, 1, 0, 0, 0, 0]), atol=0.2)
    assert np.linalg.norm(axes[4:], axis=1).max() < 0.3
    whole, scale = fit_axes(images, texts, 8, 20)
    assert scale == pytest.approx(20, rel=1e-4)
    np.testing.assert_allclose(whole @ whole.T, np.eye(8), atol=1e-5)


def test_axes_are_turned_so_that_signs_find_more_and_cosines_stay() -> None:
    generator = np.random.default_rng(0)
    pictures, texts = (generator.standard_normal((400, 16)) * np.linspace(3, 0.2, 16) for _ in range(2))
    mean, turned = mean_axes(pictures, texts, 16), fit_axes(pictures, texts, 16, 20)[0].astype(np.float64)
    asked = pictures + 0.3 * generator.standard_normal(pictures.shape)
    np.testing.assert_allclose(asked @ turned @ (pictures @ turned).T, asked @ pictures.T, atol=1e-3)
    found = [(np.sign(asked @ axes) @ np.sign(pictures @ axes).T).argmax(axis=1) for axes in (mean, turned)]
    unturned, after = ((rows == np.arange(400)).mean() for rows in found)
    assert after > unturned + 0.1, (unturned, after)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.full((50, 8), np.nan), "not finite"),
        (np.zeros((50, 8)), "zero or not finite"),
        (np.ones((50, 8)), "are equal within"),
        (1 + 1e-4 * np.eye(50, 8), "are equal within"),
    ],
)
def test_embeddings_that_tell_nothing_are_refused(rows: np.ndarray, says: str) -> None:
    sound = np.random.default_rng(0).standard_normal((50, 8))
    for images, texts in ((rows, sound), (sound, rows)):
        with pytest.raises(InvalidInput, match=says):
            fit_axes(images, texts, 4, 20)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0, "must be at least 1"),
        (25, "has 24 dimensions; give 1 to 24"),
        (7, "holds 24 pictures; an embedding of 7 dimensions"),
    ],
)
def test_sizes_that_cannot_be_are_refused(words: Path, size: int, says: str) -> None:
    model = mcd.load_model(WORDS, words)
    with pytest.raises((UsageError, InvalidInput), match=says):
        mcd.export(model, "onnx", "fp32", words.parent / "none", embedding_size=size, fit=words.parent / "pictures")
    assert not (words.parent / "none").exists()


def test_pictures_count_once_and_none_is_the_gates_own(words: Path, tmp_path: Path) -> None:
    model, folder = mcd.load_model(WORDS, words), Path(shutil.copytree(words.parent / "pictures", tmp_path / "mine"))
    (folder / "000.png").unlink()
    shutil.copy(folder / "001.png", folder / "again.png")
    with pytest.raises(InvalidInput, match="holds 23 different pictures in 24 files"):
        mcd.export(model, "onnx", "fp32", tmp_path, embedding_size=SIZE, fit=folder)
    shutil.copy(image_paths()[0], folder / "mine.jpg")
    with pytest.raises(InvalidInput, match=r"mine\.jpg is the picture .*, which the gates measure on"):
        mcd.export(model, "onnx", "fp32", tmp_path, embedding_size=SIZE, fit=folder)


def test_others_are_taken_where_those_chosen_repeat(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second of 24 pictures is chosen at first, the first and its copy among them."""
    folder = Path(shutil.copytree(words.parent / "pictures", tmp_path / "mine"))
    shutil.copy(folder / "000.png", folder / "002.png")
    monkeypatch.setattr("mobileclip_deploy.spaces.compacting.MOST_PICTURES", 12)
    assert len(read_fitting_set(3, folder, None, mcd.load_model(WORDS, words).variant, None).pixels) == 23


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--embedding-size", "8"], "needs --fit"),
        (["--fit", "."], "needs --fit"),
        (["--captions", "a.txt"], "needs --fit"),
        (["--embedding-size", "8", "--fit", "nowhere"], "--fit nowhere: no such folder"),
    ],
)
def test_words_that_lack_another_are_refused(arguments: list[str], says: str, tmp_path: Path) -> None:
    assert says in refusal(run("export", "--target", "onnx", *arguments, "-o", str(tmp_path / "out")))


def change(edit: Callable[[dict[str, Any]], object], folder: Path) -> None:
    with edited_json(folder / "manifest.json") as manifest:
        edit(manifest)


def replace_axes(folder: Path, axes: np.ndarray, whole: bool = True) -> None:
    """Other axes, with their hashes repaired; and that of the numbers where `whole`."""
    save_file({"axes": np.ascontiguousarray(axes)}, folder / "axes.safetensors")
    file = folder / "axes.safetensors"
    entry = {"sha256": artifact_sha256(file), "bytes": file.stat().st_size}

    def edit(manifest: dict[str, Any]) -> None:
        manifest["axes"] |= entry
        if whole:
            told = manifest["checkpoint"]["compacted"]
            old, told["axes_sha256"] = told["axes_sha256"], tensors_sha256({"axes": axes})
            manifest["embedding_space"] = manifest["embedding_space"].replace(old[:8], told["axes_sha256"][:8])

    change(edit, folder)


def rotated(axes: np.ndarray) -> np.ndarray:
    turn = np.eye(SIZE, dtype=np.float32)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    return axes @ turn


def failed(folder: Path, checkpoint: Path) -> set[str]:
    return {f"{check.tower} {check.step}" for check in mcd.verify(folder, checkpoint=checkpoint, thorough=False).failed}


def test_other_axes_are_seen_and_so_is_another_size(words: Path, bundle: mcd.Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    axes = load_file(bundle.axes)["axes"]
    save_file({"axes": rotated(axes)}, folder / "axes.safetensors")
    with pytest.raises(InvalidInput, match=r"axes\.safetensors is not the file that was exported"):
        mcd.verify(folder, checkpoint=words)
    replace_axes(folder, rotated(axes), whole=False)
    assert {"both settings", "image shipped", "text shipped"} <= failed(folder, words)
    replace_axes(folder, rotated(axes))
    assert {"image golden", "text golden", "image shipped", "text weights"} <= failed(folder, words)
    signs = np.where(np.arange(SIZE) == 1, -1, 1).astype(np.float32)
    replace_axes(folder, axes * signs)  # keeps every cosine, and is another space all the same
    assert {"image shipped", "text shipped"} <= failed(folder, words)
    replace_axes(folder, load_file(bundle.axes)["axes"][:, :5])
    assert {"both settings", "image structure"} & failed(folder, words)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda axes: axes * np.float32(1.01), "not orthonormal"),
        (lambda axes: np.where(axes == axes.max(), np.float32(np.nan), axes), "not orthonormal"),
        (lambda axes: axes[:20] / np.linalg.norm(axes[:20], axis=0), "not orthonormal|are for embeddings of 20"),
        (lambda axes: axes.astype(np.float64), "float32"),
        (lambda axes: np.linalg.qr(axes.T)[0].astype(np.float32)[:, :3], "are for embeddings of 6 dimensions"),
    ],
)
def test_no_axes_are_refused(
    words: Path, bundle: mcd.Bundle, spoil: Callable[[np.ndarray], np.ndarray], says: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    replace_axes(folder, spoil(load_file(bundle.axes)["axes"]))
    with pytest.raises(InvalidInput, match=says):
        mcd.verify(folder, checkpoint=words)


@pytest.mark.slow  # other axes are seen, above
def test_a_logit_scale_that_was_not_fitted_and_another_int8_scale_are_seen(
    words: Path, bundle: mcd.Bundle, whole: mcd.Bundle, tmp_path: Path
) -> None:
    full = mcd.load_model(WORDS, words).logit_factor
    small, large = (Path(shutil.copytree(one.path, tmp_path / one.path.name)) for one in (bundle, whole))
    change(lambda manifest: manifest.update(logit_scale=full, int8_scale=manifest["int8_scale"] * 1.1), small)
    change(lambda manifest: manifest.update(int8_scale=manifest["int8_scale"] / 2), large)
    for folder, names in ((small, ("int8_scale", "logit_scale")), (large, ("int8_scale",))):
        checks = mcd.verify(folder, checkpoint=words, thorough=False).failed
        assert [(check.step, all(name in (check.detail or "") for name in names)) for check in checks] == [
            ("settings", True)
        ]


def test_what_the_manifest_says_of_the_space_is_held(words: Path, bundle: mcd.Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    change(lambda manifest: manifest["checkpoint"]["compacted"].update(from_space="another"), folder)
    assert "both settings" in failed(folder, words)
    rehash(folder)


@pytest.mark.slow
def test_full_and_small_embeddings_are_compared_each_in_its_space(
    words: Path, bundle: mcd.Bundle, whole: mcd.Bundle
) -> None:
    dataset = words.parent / "few.csv"
    dataset.write_text(
        "image,label,text\n" + "".join(f"pictures/00{n}.png,{name},a {name}\n" for n, name in enumerate(("cat", "dog")))
    )
    found = mcd.compare([bundle, whole], checkpoint=words, dataset=dataset)
    assert len({row.embedding_space for row in found.bundles}) == 2
    assert whole.manifest.axes is None
    assert "compacted" not in json.dumps(whole.manifest.as_dict())


def test_a_library_is_cut_without_its_pictures(
    words: Path, bundle: mcd.Bundle, whole: mcd.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "cache_folder", lambda name: tmp_path / "cache" / name)
    photos = words.parent / "pictures"
    for source, name, store in ((whole, "full", "float32"), (bundle, "anew", "int8"), (whole, "signs", "bits-only")):
        mcd.embed(source, photos, tmp_path / f"{name}.mcdx", store=store)
    full, anew = (Index(tmp_path / f"{name}.mcdx") for name in ("full", "anew"))
    shutil.rmtree(tmp_path / "cache")  # as where no index of that space was ever written
    by_bundle = ("bridge", "--from", tmp_path / "full.mcdx", "--by", bundle.path, "-o", tmp_path / "cut.mcdx")
    written = run(*by_bundle, "--json").json
    assert "exists" in refused(*by_bundle)
    spaces_of = f"converted from {full.description.embedding_space} to {anew.description.embedding_space}"
    assert f"{4 * SIZE} embeddings {spaces_of}" in run(*by_bundle, "--force").stdout
    assert len(mcd.search(tmp_path / "cut.mcdx", "a red car", top=3).answers[0].matches) == 3
    cut = Index(tmp_path / "cut.mcdx")
    assert (written["count"], written["bridge"]["store"]) == (4 * SIZE, "float32")
    assert (cut.description.bridged_from, cut.description.artifact) == (None, bundle.manifest.towers["image"].sha256)
    assert cut.description.embedding_space == anew.description.embedding_space == bundle.manifest.embedding_space
    (_, fresh), (_, brought) = next(anew.vectors()), next(cut.vectors())
    np.testing.assert_allclose(brought, fresh, atol=anew.store.scale)
    for wrong, says in (
        (tmp_path / "anew.mcdx", "has the embedding space"),
        (tmp_path / "signs.mcdx", "signs only"),
    ):
        with pytest.raises(InvalidInput, match=says):
            mcd.bridge(wrong, by=bundle.path, output=tmp_path / "none.mcdx")
    with pytest.raises(InvalidInput, match="has full embeddings"):
        mcd.bridge(full, by=whole, output=tmp_path / "none.mcdx")
    with pytest.raises(UsageError, match=r"ends with \.mcdx"):
        mcd.bridge(full, by=bundle, output=tmp_path / "map.safetensors")


@pytest.mark.slow
def test_axes_are_fitted_again_to_the_same_pictures(words: Path, bundle: mcd.Bundle, tmp_path: Path) -> None:
    photos = words.parent / "pictures"
    checks = {check.step: check for check in mcd.verify(bundle, checkpoint=words, fit=photos, thorough=False).checks}
    assert checks["fit"].status == "passed"
    folder = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))

    def unfitted(manifest: dict[str, Any]) -> None:
        told = manifest["checkpoint"]["compacted"]
        told["logit_scale"] = manifest["logit_scale"] = told["full_logit_scale"]

    change(unfitted, folder)  # everywhere: nothing else in the bundle says otherwise
    report = mcd.verify(folder, checkpoint=words, fit=photos, thorough=False)
    assert ["logit_scale" in (check.detail or "") for check in report.failed if check.step == "fit"] == [True]
    others = Path(shutil.copytree(photos, tmp_path / "others"))
    (others / "000.png").rename(others / "zzz.png")
    with pytest.raises(InvalidInput, match="does not contain the pictures and captions"):
        mcd.verify(folder, checkpoint=words, fit=others, thorough=False)
