"""Embeddings as files: what stands in them, and that an interrupted run ends as one that was not."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from command_line import refusal, run
from evaluation.embedders import by_colour
from exports import Exports
from PIL import Image
from safetensors import safe_open

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import file_sha256, read_regular
from mobileclip_deploy.base.files.tensors import RowParts, write_rows, write_tensors
from mobileclip_deploy.base.progress import rate
from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.pictures import cache
from mobileclip_deploy.pictures.image_listing import ImageListing
from mobileclip_deploy.pictures.image_sources import IMAGE_BYTES
from mobileclip_deploy.search import embedding_files
from mobileclip_deploy.targets.onnx import OnnxTarget
from mobileclip_deploy.targets.onnx.runner import OnnxRunner


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images that all differ, some in a folder below."""
    for number in range(150):
        path = tmp_path / "photos" / ("a" if number < 100 else "b/c") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 255 - number, 40)).save(path)
    return tmp_path / "photos"


def test_a_safetensors_file_says_what_it_holds(exports: Exports, photos: Path, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp16")
    found = run("embed", bundle.path, photos, "-o", tmp_path / "e.safetensors", "--normalise", "--json")
    assert (found.code, found.json["count"], found.json["tower"]) == (0, 150, "image")
    with safe_open(tmp_path / "e.safetensors", framework="np") as file:
        values, metadata = file.get_tensor("embeddings"), file.metadata()
    assert values.shape == (150, bundle.manifest.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-6)
    assert (metadata["embedding_space"], metadata["normalised"]) == (bundle.manifest.embedding_space, "true")
    assert json.loads(metadata["names"]) == sorted(str(path) for path in photos.rglob("*.png"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_json_lines_hold_what_the_artifact_gives(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp16")
    for name, text in (("t.txt", "a dog\nthe cat\n"), ("t.jsonl", '"a dog"\n{"text": "the cat"}\n')):
        (tmp_path / name).write_text(text, encoding="utf-8")
        mcd.embed(bundle, [tmp_path / name], tmp_path / "e.jsonl", force=True)
        lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["text"] for line in lines] == ["a dog", "the cat"]
        assert {(line["embedding_space"], line["normalised"]) for line in lines} == {
            (bundle.manifest.embedding_space, False)
        }
        from mobileclip_deploy.network.model.tokenizer import encode

        wanted = mcd.load_runner(bundle, "text")(encode(["a dog", "the cat"]))
        assert np.array_equal(np.array([line["embedding"] for line in lines], dtype=np.float32), wanted)


def test_a_run_that_goes_on_ends_with_the_same_bytes_whatever_the_number_of_workers(
    exports: Exports, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exports.bundle("onnx", "fp16")
    monkeypatch.setattr(cache, "SHARD", 64)
    first = mcd.embed(bundle, [photos], tmp_path / "whole.safetensors", workers=3)
    whole, original, seen = (tmp_path / "whole.safetensors").read_bytes(), OnnxRunner.__call__, []

    def dies(self: OnnxRunner, inputs: Any) -> Any:
        seen.append(len(inputs))
        if len(seen) == 30:
            raise KeyboardInterrupt
        return original(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxRunner, "__call__", dies)
        with pytest.raises(KeyboardInterrupt) as stopped:
            mcd.embed(bundle, [photos], tmp_path / "e.safetensors", workers=1)
        kept = tmp_path / ".e.safetensors.partial"
        assert stopped.value.__notes__ == [f"what was embedded is kept in {kept}; the same command goes on with it"]
        assert not (tmp_path / "e.safetensors").exists()
        rest = mcd.embed(bundle, [photos], tmp_path / "e.safetensors", workers=1)
    assert (first.computed, rest.computed) == (150, 150 - 29 * 4)
    assert (tmp_path / "e.safetensors").read_bytes() == whole


def test_a_bad_image_is_left_out_and_named_or_refused(exports: Exports, photos: Path, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp16").path
    (photos / "a" / "000.png").write_bytes(b"x")
    arguments = ["embed", bundle, photos, "-o", tmp_path / "e.jsonl"]
    assert "000.png" in refusal(run(*arguments, "--no-skip-bad"))
    found = run(*arguments, "--json")
    assert (found.code, found.json["count"], "Skipped 1 bad image" in found.stderr) == (0, 149, True)
    assert "000.png" in found.json["skipped"][0]
    assert len((tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()) == 149


def test_how_many_images_a_second_is_said(exports: Exports, photos: Path, tmp_path: Path) -> None:
    found = run("embed", exports.bundle("onnx", "fp16").path, photos / "b", "-o", tmp_path / "e.npy", "--json")
    assert found.json["computed"] == 50
    assert found.json["per_second"] == pytest.approx(50 / found.json["seconds"])
    assert (
        f"50 different images in {found.json['seconds']:.1f} s: {rate(found.json['per_second'])} a second."
        in found.stderr
    )


def test_the_speed_of_an_emulator_is_not_said(
    exports: Exports, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxTarget, "places", Mock(side_effect=NotRun("its time is no latency")))
    found = run("embed", exports.bundle("onnx", "fp16").path, photos / "b", "-o", tmp_path / "e.npy", "--json")
    assert (found.json["computed"], found.json["seconds"], found.json["per_second"]) == (50, 0, None)
    assert "a second" not in found.stderr


def test_large_jpegs_are_decoded_at_a_part_of_their_size_where_that_is_asked_for(
    exports: Exports, tmp_path: Path
) -> None:
    bundle, size = exports.bundle("onnx", "fp16"), 8 * exports.bundle("onnx", "fp16").manifest.preprocess.size
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((size + 40, size), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.jpg", quality=95)
    photo.save(tmp_path / "b.png")
    rows = {}
    for fast in (False, True):
        mcd.embed(bundle, [tmp_path / "a.jpg", tmp_path / "b.png"], tmp_path / "e.npy", fast_jpeg=fast, force=True)
        rows[fast] = np.load(tmp_path / "e.npy")
        assert json.loads((tmp_path / "e.json").read_text(encoding="utf-8")).get("fast_jpeg", False) is fast
    assert np.array_equal(rows[False][1], rows[True][1])  # no JPEG
    assert not np.array_equal(rows[False][0], rows[True][0])
    assert rows[False][0] @ rows[True][0] > 0.99 * np.prod(np.linalg.norm([rows[False][0], rows[True][0]], axis=1))


def test_more_names_than_safetensors_reads_are_refused_before_anything_is_computed(
    exports: Exports, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exports.bundle("onnx", "fp16")
    monkeypatch.setattr(embedding_files, "NAMES_BYTES", 1000)
    with pytest.raises(UsageError, match=r"150 names .*`output` a name that ends with .npy or .jsonl"):
        mcd.embed(bundle, photos, tmp_path / "e.safetensors")
    assert not (tmp_path / ".e.safetensors.partial").exists()


def taken(work: Callable[[], object]) -> int:
    """Bytes of Python's own at the most, while `work` is done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_picture_is_read_into_as_many_bytes_as_it_has(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.bmp")
    assert taken(lambda: read_regular(tmp_path / "a.bmp", IMAGE_BYTES)) < 100_000


@pytest.mark.slow
def test_embedding_takes_the_same_memory_whatever_the_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = Image.new("RGB", (2, 2))
    for number in range(6000):
        path = tmp_path / ("few" if number < 1200 else "many") / f"{number:04d}.bmp"
        path.parent.mkdir(exist_ok=True)
        header.putpixel((0, 0), (number % 256, number // 256, 0))
        header.save(path)
    # Pictures have 8 x 8 pixels, because how many are read ahead depends on which thread is faster.
    small = load_variant("nano").preprocess.model_copy(update={"size": 8})
    monkeypatch.setattr(embedding_files, "embedder_of", lambda *_: by_colour(preprocess=small))
    model: Any = None

    def begun_again(name: str, after: int) -> int:
        """As `taken`, of a run that goes on where one ended after so many batches."""
        embed = lambda: embedding_files.embed_to_file(model, [tmp_path / name], tmp_path / f"{name}.npy")  # noqa: E731
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(embedding_files, "_gathered", lambda parts, _: [next(parts) for _ in range(after)] and 1 / 0)
            embed()
        return taken(embed)

    # The least of two: Python's own table of names makes room for more now and then.
    few, many = (min(begun_again(*one) for _ in range(2)) for one in (("few", 4), ("many", 12)))
    assert many < few + 3600 * 50  # a name alone would take twice as much
    assert len(np.load(tmp_path / "many.npy")) == 4800


def test_files_stand_in_the_order_of_their_paths_each_once(tmp_path: Path) -> None:
    shown = ("a/b.png", "a.png", "a-.png", "a/\u00e9.JPG", "B/c/d.webp", "a b/1.gif")
    for name in (*shown, "B/.hidden.png", "B/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    wanted = sorted(tmp_path / name for name in shown)
    with ImageListing([tmp_path]) as listing:
        assert list(listing) == wanted
        (tmp_path / "later.png").touch()
        assert list(listing) == wanted
    first = tmp_path / "a" / "b.png"
    with ImageListing([first, tmp_path / "B", tmp_path / "a"]) as listing:
        assert list(listing) == [first, tmp_path / "B/c/d.webp", tmp_path / "a" / "\u00e9.JPG"]


def test_rows_are_written_as_safetensors_writes_them(tmp_path: Path) -> None:
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    for names in ("[]", '["a", "\u00e9"]', "abcdefg"):
        metadata = {"z": "1", "names": names}
        write_tensors(tmp_path / "a.safetensors", {"embeddings": rows}, metadata)
        write_rows(
            tmp_path / "b.safetensors", "embeddings", RowParts((5, 3), lambda: iter([rows[:2], rows[2:]])), metadata
        )
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_what_cannot_be_embedded_is_refused(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp16").path
    (tmp_path / "t.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "n.jsonl").write_text('{"image": 1}\n', encoding="utf-8")
    output = tmp_path / "e.jsonl"
    unnamed = refusal(run("embed", bundle, tmp_path / "t.txt", "-o", tmp_path / "e"))
    assert "ends with .safetensors, .jsonl, .npy or .mcdx" in unnamed
    assert "has no texts" in refusal(run("embed", bundle, tmp_path / "t.txt", "-o", output))
    assert "holds no images" in refusal(run("embed", bundle, tmp_path / "empty", "-o", output))
    assert "n.jsonl:1" in refusal(run("embed", bundle, tmp_path / "n.jsonl", "-o", output))
    (tmp_path / "u.txt").write_text("a cat\n", encoding="utf-8")
    both = run("embed", bundle, tmp_path / "t.txt", tmp_path / "u.txt", "-o", output)
    assert "must be the only source" in refusal(both)


def test_an_array_is_described_by_a_file_beside_it(exports: Exports, photos: Path, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp16")
    (photos / "bad.png").write_bytes(b"no image")
    pattern = photos / "b" / "**" / "*.png"
    written = mcd.embed(bundle, [pattern, photos / "bad.png"], tmp_path / "e.npy", normalise=True, skip_bad=True)
    values = np.load(tmp_path / "e.npy")
    told = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert (values.dtype, values.shape, written.description) == (np.float32, (50, 128), tmp_path / "e.json")
    assert told | {"names": None, "sha256": None, "artifact": None} == {
        "schema_version": 1,
        "embeddings": "e.npy",
        "sha256": None,
        "tower": "image",
        "variant": "nano",
        "embedding_space": bundle.manifest.embedding_space,
        "dtype": "float32",
        "count": 50,
        "dimension": 128,
        "normalised": True,
        "artifact": None,
        "names": None,
    }
    assert told["sha256"] == file_sha256(tmp_path / "e.npy")
    assert told["names"] == sorted(str(path) for path in (photos / "b").rglob("*.png"))
    assert len(written.skipped) == 1
    (tmp_path / "e.npy").unlink()
    with pytest.raises(UsageError, match=r"e.json exists; replace it with `force=True`"):
        mcd.embed(bundle, photos, tmp_path / "e.npy")


def test_a_checkpoint_embeds_as_its_bundle(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a dog\nthe cat\n", encoding="utf-8")
    model = mcd.load_model(None, exports.checkpoint)
    mcd.embed(model, tmp_path / "t.txt", tmp_path / "t.npy")
    wanted = mcd.load_runner(model, "text")(mcd.tokenize(["a dog", "the cat"]))
    assert np.array_equal(np.load(tmp_path / "t.npy"), wanted)
    told = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert told["embedding_space"] == exports.bundle("onnx", "fp16").manifest.embedding_space
