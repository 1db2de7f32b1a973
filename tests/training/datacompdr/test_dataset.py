"""Shards made by the published description are read, joined with their images, and trained on."""

import gc
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published_shards as published
import pytest
import torch
from command_line import refusal, run
from emoji_pairs import write_pairs
from packed import saved, write_tar
from PIL import Image
from tiny import tiny_variant

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.training.datacompdr.dataset import Drawn, PublishedDataset
from mobileclip_deploy.training.datacompdr.settings import PublishedTeacher, ShardSettings
from mobileclip_deploy.training.reinforcement.samples import collate

VARIANT = tiny_variant("tiny_mci")
DIMENSIONS = published.TEACHERS
SETTINGS = ShardSettings(teachers=tuple(PublishedTeacher(embed_dim=size, scale=10.0 * size) for size in DIMENSIONS))
SHARD = "00000000.tar"


@pytest.fixture(autouse=True)
def small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny variants have 92 tokens: a text is here its length and its last letters."""

    def ids(texts: list[str], tokens: TokenizerSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        length = tokens.context_length
        return np.array(
            [[len(text), *(ord(one) % 90 for one in text[1 - length :].rjust(length - 1))] for text in texts]
        )

    monkeypatch.setattr("mobileclip_deploy.training.datacompdr.dataset.encode", ids)


def settings(folder: Path, **more: object) -> ShardSettings:
    return SETTINGS.model_copy(update={"images": folder / "images", **more})


def opened(folder: Path, **more: object) -> PublishedDataset:
    return PublishedDataset(folder / "dr", VARIANT, settings(folder, **more))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_a_sample_is_what_the_published_reader_makes_of_it(tmp_path: Path, text: bool, bf16: bool) -> None:
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, range(4), text=text, bf16=bf16)
    dataset = opened(tmp_path)
    raw = published.read(tmp_path / "dr" / SHARD)
    assert len(dataset) == 4
    for row, (key, sample) in enumerate(raw.items()):
        drawn = sample["paug.json"]["param_aug"]
        drawn = json.loads(drawn) if isinstance(drawn, str) else drawn
        stored = sample["pth.gz" if bf16 else "npz"]
        found = dataset[Drawn(row, view=0.4, chosen_set=0.9, caption=0.6, mixed=0.0)]
        view = torch.as_tensor(stored["image_emb"])[1].float()  # 0.4 of three augmentations
        texts = torch.as_tensor(stored["text_emb"])[[0, 2]].float()  # the true caption, and 0.6 of two
        assert torch.equal(torch.cat(found.images), view)
        assert torch.equal(torch.cat(found.texts, dim=1), texts)
        assert [len(part) for part in found.images] == list(DIMENSIONS)
        assert found.ids.tolist()[0][0] == len(f"true {row}")
        assert found.ids.tolist()[1][0] == len(sample["syn.json"]["syn_text"][1])
        assert tuple(found.crop.shape) == (3, 64, 64)
        assert found.crop.dtype == torch.uint8
        assert key == published.uid(row)
        assert drawn[1][0] == [1, 2, 40, 50]


def test_pixels_go_to_the_student_as_they_were_replayed(tmp_path: Path) -> None:
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, range(2))
    dataset = opened(tmp_path)
    samples = [dataset[Drawn(row, 0.99, 0.0, 0.0, 0.0)] for row in (0, 1)]
    batch = collate(samples)
    assert torch.equal(batch.pixels, torch.stack([sample.crop for sample in samples]).float() / 255)
    assert tuple(batch.ids.shape) == (2, 2, 8)
    # The last augmentation is the whole image, which is resized and nothing else.
    whole = Image.open(io.BytesIO(published.jpeg(1))).resize((64, 64), Image.Resampling.BICUBIC)
    assert torch.equal(samples[1].crop, torch.from_numpy(np.array(whole)).permute(2, 0, 1))


def test_samples_are_joined_by_shard_and_uid(tmp_path: Path) -> None:
    dr, images = tmp_path / "dr", tmp_path / "images"
    for shard, numbers in (("00/00000000.tar", (1, 2, 3)), ("01/00000000.tar", (4, 5))):
        published.write_pair(dr, images, shard, numbers)
    others = {published.uid(number): published.source(number) for number in (3, 1, 9)}
    others[published.uid(3)]["txt"] = b""
    write_tar(images / "00/00000000.tar", published.named(others))
    dataset = opened(tmp_path)
    assert (len(dataset), dataset.joined.without_image, dataset.joined.without_text) == (3, 1, 1)
    assert [dataset.said(row).text for row in range(3)] == ["true 1", "true 4", "true 5"]


def test_shards_numbered_by_img2dataset_are_joined_by_the_uid_in_their_json(tmp_path: Path) -> None:
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, (1, 2))
    numbered = {f"{number:09d}": published.source(number) for number in (2, 1)}
    write_tar(tmp_path / "images" / SHARD, published.named(numbered))
    assert [opened(tmp_path).said(row).text for row in (0, 1)] == ["true 1", "true 2"]


def test_images_may_stand_in_the_reinforced_shards(tmp_path: Path) -> None:
    joined = {published.uid(number): published.reinforcement(number) | published.source(number) for number in (1, 2)}
    write_tar(tmp_path / "dr" / SHARD, published.named(joined))
    dataset = PublishedDataset(tmp_path / "dr", VARIANT, SETTINGS)
    assert [dataset[Drawn(row, 0.0, 0.0, 0.0, 0.0)].row for row in (0, 1)] == [0, 1]


def test_an_image_that_cannot_be_used_is_skipped_and_counted(tmp_path: Path) -> None:
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, range(3))
    sources = {published.uid(number): published.source(number) for number in range(3)}
    sources[published.uid(0)]["jpg"] = b"<html>not found</html>"
    sources[published.uid(1)]["jpg"] = published.jpeg(1, 20, 20)  # smaller than the crop of it
    write_tar(tmp_path / "images" / SHARD, published.named(sources))
    dataset = opened(tmp_path)
    samples = [dataset[Drawn(row, 0.0, 0.0, 0.0, 0.0)] for row in range(3)]
    assert [(sample.row, sample.skipped) for sample in samples] == [(2, 2), (2, 1), (2, 0)]
    assert collate(samples).skipped == 3


def test_several_sets_of_captions_have_arrays_of_their_own(tmp_path: Path) -> None:
    members = published.reinforcement(1) | published.source(1)
    chance = np.random.default_rng(0)
    arrays = {"image_emb": published.unit(3, chance), "text_emb": published.unit(1, chance)}
    sets = {"syn_text_a": ["a"], "syn_text_b": ["b", "bb"], "other_captions": ["c"]}
    arrays |= {f"{name}_emb": published.unit(len(texts), chance) for name, texts in sets.items()}
    members |= {"syn.json": json.dumps(sets).encode(), "npz": published.npz(arrays)}
    write_tar(tmp_path / "dr" / SHARD, published.named({published.uid(1): members}))

    def taken(share: float, **more: object) -> torch.Tensor:
        dataset = PublishedDataset(tmp_path / "dr", VARIANT, SETTINGS.model_copy(update=more))
        return torch.cat(dataset[Drawn(0, 0.0, share, 0.9, share)].texts, dim=1)

    wanted = {name: torch.from_numpy(value) for name, value in arrays.items()}
    assert torch.equal(taken(0.1), torch.stack((wanted["text_emb"][0], wanted["syn_text_a_emb"][0])))
    assert torch.equal(taken(0.9), torch.stack((wanted["text_emb"][0], wanted["syn_text_b_emb"][1])))
    assert torch.equal(taken(0.1, captions="^syn_text_b$")[1], wanted["syn_text_b_emb"][1])
    assert torch.equal(taken(0.1, mix_synthetic=0.5), wanted["syn_text_a_emb"][:1])
    assert torch.equal(taken(0.9, mix_synthetic=0.5), wanted["text_emb"])


def test_a_batch_depends_on_the_generator_alone_and_holds_no_sample_twice(tmp_path: Path) -> None:
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, range(5))
    dataset = opened(tmp_path)
    first, again, other = (dataset.choose(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(one.row for one in first) == list(range(5))
    dataset.joined.rows = dataset.joined.rows._replace(file=np.zeros(10_000, np.int32))
    assert len({one.row for one in dataset.choose(100, torch.Generator().manual_seed(1))}) == 100


NAN = np.full((3, sum(DIMENSIONS)), np.nan, np.float32)
BOMB = published.npz({"image_emb": np.zeros((3, 100_000), np.float32)})


def both(images: tuple[int, int], texts: tuple[int, int]) -> bytes:
    return published.npz({"image_emb": np.ones(images, np.float32), "text_emb": np.ones(texts, np.float32)})


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    return saved(lambda stream: np.lib.format.write_array_header_1_0(stream, header))


def _claims() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image_emb.npy", _npy_header((1 << 40, 9)))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("ending", "content", "what"),
    [
        ("npz", published.npz({"image_emb": NAN, "text_emb": NAN}), "has NaN or infinite"),
        (
            "npz",
            published.npz({"image_emb": np.array([published.Runs()])}, pickled=True),
            "pickled objects, which are never run",
        ),
        ("npz", published.npz({"image_emb": np.ones((3, 7), np.float32)}), "no text_emb"),
        ("npz", both((3, 7), (3, 7)), "7 values, but the teachers have 5 \\+ 4"),
        ("npz", both((2, 9), (3, 9)), "3 augmentations, but image_emb has 2"),
        ("npz", both((3, 9), (2, 9)), "text_emb has 2 rows, but there are 3 captions"),
        ("npz", b"PK but no zip", "the npz is damaged"),
        ("npz", BOMB, "unpacks to more than"),
        ("npz", _claims(), "not an array of floats"),
        ("pth.gz", published.pth_gz({"image_emb": published.Runs()}), "pickled objects, which are never run"),
        ("pth.gz", published.pth_gz([1, 2]), "something other than named tensors"),
        ("pth.gz", published.pth_gz({"image_emb": torch.zeros(3, 9).char()}), "int8 \\[3, 9\\], not embeddings"),
        ("pth.gz", published.pth_gz({"image_emb": torch.zeros(1, 1).expand(1 << 40, 9)}), "something other than named"),
        ("pth.gz", published.pth_gz({"image_emb": torch.zeros(3, 100_000)}), "unpacks to more than"),
        ("pth.gz", b"no gzip", "the pth.gz is damaged"),
        ("paug.json", b'{"param_aug": "[[["}', "invalid JSON at line 1, column 4"),
        ("paug.json", b"[" * 100_000, "nested too deeply"),
        ("paug.json", b'{"other": 1}', "param_aug is not a list"),
        ("syn.json", b'{"syn_text": [1]}', "syn_text is not a list of texts"),
        ("txt", b"\xff\xff", "not valid UTF-8"),
    ],
)
def test_a_damaged_member_is_refused_with_shard_and_name_or_left_out(
    tmp_path: Path, ending: str, content: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobileclip_deploy.training.datacompdr.members.LIMIT", 1 << 20)
    parts = {number: published.reinforcement(number) | published.source(number) for number in (0, 1)}
    if ending == "pth.gz":
        del parts[0]["npz"]
    parts[0][ending] = content
    write_tar(tmp_path / "dr" / SHARD, published.named({published.uid(n): part for n, part in parts.items()}))
    with pytest.raises(InvalidInput, match=what) as refused:
        PublishedDataset(tmp_path / "dr", VARIANT, SETTINGS)
    assert f"{SHARD}: {published.uid(0)}." in refused.value.line
    assert ("`teachers` under `datacompdr:`" if "teachers" in what else "skip_bad: true") in refused.value.line
    lenient = PublishedDataset(tmp_path / "dr", VARIANT, SETTINGS.model_copy(update={"skip_bad": True}))
    sample = lenient[Drawn(0, 0.0, 0.0, 0.0, 0.0)]
    assert (sample.row, sample.skipped) == (1, 1)


def _with(header: tarfile.TarInfo) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            archive.addfile(header)

    return write


def _header(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, "/etc/passwd"
    return header


def _truncated(path: Path) -> None:
    write_tar(path, [("a.jpg", b"x" * 5000)])
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (_with(_header("../a.jpg")), "points outside the folder"),
        (_with(_header("/etc/a.jpg")), "points outside the folder"),
        (_with(_header("a.jpg", tarfile.SYMTYPE)), "a link or a special file"),
        (_with(_header("a.jpg", tarfile.LNKTYPE)), "a link or a special file"),
        (_with(_header("a.jpg", tarfile.CHRTYPE)), "a link or a special file"),
        (lambda path: path.write_bytes(b"no tar" * 200), "is not a readable tar"),
        (_truncated, "is not a readable tar"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: write_tar(path, [("a.txt", b"1"), ("a.txt", b"2")]), "twice"),
        (lambda path: write_tar(path, [("a.jpg", b"1"), ("a.txt", b"2")]), "the sample is not reinforced"),
    ],
)
def test_a_shard_that_cannot_be_used_is_refused_or_left_out(
    tmp_path: Path, write: Callable[[Path], None], what: str
) -> None:
    joined = {published.uid(1): published.reinforcement(1) | published.source(1)}
    write_tar(tmp_path / "dr" / "00000001.tar", published.named(joined))
    write(tmp_path / "dr" / SHARD)
    with pytest.raises(InvalidInput, match=what) as refused:
        PublishedDataset(tmp_path / "dr", VARIANT, SETTINGS)
    assert SHARD in refused.value.line
    assert "\n" not in str(refused.value)
    lenient = PublishedDataset(tmp_path / "dr", VARIANT, SETTINGS.model_copy(update={"skip_bad": True}))
    assert len(lenient) == 1
    assert len(lenient.joined.bad) == 1
    assert what in lenient.joined.bad[0]


RECIPE = """\
version: 1
preset: datacompdr-12m
variant: nano
data: dr
evaluation: pairs
steps: 2
batch: 4
warmup_steps: 1
evaluate_every: 2
datacompdr:
  teachers: [{embed_dim: 5, scale: 50}, {embed_dim: 4, scale: 40}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mobileclip_deploy.training.datacompdr.dataset.encode", encode)
    write_pairs(tmp_path / "pairs", 4)
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, range(6))
    kept = {published.uid(number): published.source(number) for number in range(5)}
    write_tar(tmp_path / "images" / SHARD, published.named(kept))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_train_takes_the_shards_on_the_command_line(folder: Path) -> None:
    line = refusal(run("train", folder / "recipe.yaml", "-o", folder / "out"))
    assert "6 without image" in line
    assert "--images" in line
    assert not (folder / "out").exists()
    done = run("train", folder / "recipe.yaml", "--images", folder / "images", "-o", folder / "out", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["left_out"] == {"samples": 5, "without_image": 1, "without_text": 0, "skipped": 0, "bad": []}
    assert found["log"][0]["step"] == 2
    assert found["log"][0]["loss"] > 0


def test_a_refusal_of_a_process_that_loads_data_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)  # torch waits for its process as long
    parts = {published.uid(number): published.reinforcement(number) for number in range(5)}
    for number in range(1, 5):
        parts[published.uid(number)]["npz"] = published.npz({"image_emb": NAN, "text_emb": NAN})
    write_tar(folder / "dr" / SHARD, published.named(parts))
    (folder / "recipe.yaml").write_text(RECIPE + "  images: images\nworkers: 1\n")
    line = refusal(run("train", folder / "recipe.yaml", "-o", folder / "out"))
    gc.collect()
    assert "has NaN or infinite elements" in line
    assert SHARD in line


def test_where_a_sample_lies_takes_some_ninety_bytes(tmp_path: Path) -> None:
    published.write_pair(tmp_path / "dr", tmp_path / "images", SHARD, range(2))
    joined = opened(tmp_path).joined
    arrays = joined.rows
    assert sum(array.nbytes for array in arrays) == 2 * 87
