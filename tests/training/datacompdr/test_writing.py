"""What `reinforce --write datacompdr` stores is read back as it was said, by this reader and by the published rules."""

import json
from pathlib import Path

import numpy as np
import published_shards as published
import pytest
import torch
from command_line import killed, refusal, run
from emoji_pairs import contents, invert, write_pairs
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.training.datacompdr import members
from mobileclip_deploy.training.datacompdr.dataset import PublishedDataset
from mobileclip_deploy.training.datacompdr.writing import said
from mobileclip_deploy.training.reinforcement.samples import ReinforcedDataset
from mobileclip_deploy.training.reinforcement.teachers import Teacher

COUNT, SHARD = 5, 3
RECIPE = "version: 1\nvariant: nano\ndata: made\nevaluation: pairs\nsteps: 1\nbatch: 4\nlearning_rate: 0.001\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("written")
    pairs = write_pairs(place / "pairs", COUNT)
    first = json.loads((pairs / "pairs.jsonl").read_text().splitlines()[0])
    with Image.open(pairs / first["image"]) as image:  # a format that the published readers do not know
        image.convert("RGB").save(pairs / "first.bmp")
    rows = (pairs / "pairs.jsonl").read_text().replace(first["image"], "first.bmp")
    (pairs / "pairs.jsonl").write_text(rows)
    return place


@pytest.fixture(scope="module")
def teacher() -> mcd.MobileCLIP:
    return mcd.load_model()


def write(folder: Path, teacher: mcd.MobileCLIP, name: str, form: str = "datacompdr") -> Path:
    mcd.reinforce(folder / "pairs", teacher, folder / name, augmentations=2, shard_rows=SHARD, write=form)
    return folder / name


@pytest.fixture(scope="module")
def made(folder: Path, teacher: mcd.MobileCLIP) -> Path:
    return write(folder, teacher, "made")


def test_a_round_trip_gives_what_teachers_say_of_what_is_replayed(
    folder: Path, made: Path, teacher: mcd.MobileCLIP
) -> None:
    dataset = PublishedDataset(made, load_variant("nano"))
    rows = [json.loads(line) for line in (folder / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert [shard.name for shard in dataset.joined.shards] == ["00000000.tar", "00000001.tar"]
    assert len(dataset) == COUNT
    for number, row in enumerate(rows):
        read = dataset.said(number)
        assert (read.text, read.synthetic) == (row["text"], {"syn_text": tuple(row["captions"])})
        where = dataset.joined.where(number, "image")
        assert where is not None
        shard, place = where
        content = shard.read_bytes()[place.offset : place.offset + place.size]
        texts = (read.text, *read.synthetic["syn_text"])
        images, captions = said(members.image(content), read.augmentations, texts, [Teacher.of(teacher)])
        assert torch.equal(read.images, images)
        assert torch.equal(torch.cat((read.true, read.sets["syn_text"])), captions)


@pytest.mark.parametrize("form", ["datacompdr", "datacompdr-bf16"])
def test_the_published_rules_read_what_is_written(folder: Path, made: Path, teacher: mcd.MobileCLIP, form: str) -> None:
    place = made if form == "datacompdr" else write(folder, teacher, form, form)
    samples = {key: one for shard in sorted(place.glob("*.tar")) for key, one in published.read(shard).items()}
    rows = [json.loads(line) for line in (folder / "pairs" / "pairs.jsonl").read_text().splitlines()]
    float32 = [one["npz"] for shard in sorted(made.glob("*.tar")) for one in published.read(shard).values()]
    for sample, row, wanted in zip(samples.values(), rows, float32, strict=True):
        assert sample["txt"] == row["text"]
        assert sample["syn.json"] == {"syn_text": row["captions"]}
        box, operations = sample["paug.json"]["param_aug"][1]
        assert len(box) == 4
        assert [len(one) for one in operations] == [2, 2]
        stored = sample["npz" if form == "datacompdr" else "pth.gz"]
        assert {name: tuple(value.shape) for name, value in stored.items()} == {
            "image_emb": (2, 128),
            "text_emb": (1 + len(row["captions"]), 128),
        }
        for name, value in stored.items():
            if form == "datacompdr":
                assert value.dtype == np.float32
                np.testing.assert_allclose(np.linalg.norm(value, axis=1), 1, atol=1e-6)
            else:
                assert torch.equal(value, torch.from_numpy(wanted[name]).bfloat16())
    assert "png" in next(iter(samples.values()))
    assert len(samples) == COUNT


def test_what_was_written_is_trained_on_with_the_teachers_of_its_index(folder: Path, made: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE)
    trained = mcd.train(folder / "recipe.yaml", folder / "trained")
    assert (trained.left_out.samples, trained.left_out.skipped) == (COUNT, 0)
    dataset = PublishedDataset(made, load_variant("nano"))
    assert [teacher.embed_dim for teacher in dataset.teachers] == [128]
    assert dataset.teachers[0].scale == pytest.approx(mcd.load_model().logit_factor)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes(folder: Path, made: Path) -> None:
    program = (
        "import os, signal, mobileclip_deploy.training.datacompdr.writing as w\n"
        "write = w.write_whole\n"
        "def dying(path, content):\n"
        "    if path.name == '00000001.tar': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, content)\n"
        "w.write_whole = dying"
    )
    arguments = ["reinforce", str(folder / "pairs"), "--augmentations", "2", "--shard-rows", str(SHARD)]
    arguments += ["--write", "datacompdr", "-o", str(folder / "killed")]
    killed(program, *arguments)
    with pytest.raises(InvalidInput, match="has 3 of 5 pairs"):
        PublishedDataset(folder / "killed", load_variant("nano"))
    again = run(*arguments)
    assert "1 shards made and 1 kept" in again.stdout, again.stderr
    assert contents(folder / "killed") == contents(made)


def test_pairs_without_synthetic_captions_are_trained_from(teacher: mcd.MobileCLIP, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", COUNT)
    rows = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text().splitlines()]
    bare = [json.dumps({"image": row["image"], "text": row["text"]}) for row in rows[:-1]]  # the last one keeps its
    (pairs / "pairs.jsonl").write_text("\n".join([*bare, json.dumps(rows[-1])]))
    write(tmp_path, teacher, "made")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert mcd.train(tmp_path / "recipe.yaml", tmp_path / "trained").weights.is_file()


def test_of_a_picture_that_changed_its_shard_alone_is_made_again(teacher: mcd.MobileCLIP, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", COUNT)
    before = contents(write(tmp_path, teacher, "made"))
    invert(pairs, 4)
    result = mcd.reinforce(pairs, teacher, tmp_path / "made", augmentations=2, shard_rows=SHARD, write="datacompdr")
    assert (result.made, result.kept) == (1, 1)
    after = contents(tmp_path / "made")
    assert [name for name in before if name.endswith(".tar") and before[name] != after[name]] == ["00000001.tar"]


def test_what_the_form_cannot_hold_is_refused(folder: Path, made: Path, teacher: mcd.MobileCLIP) -> None:
    with pytest.raises(UsageError, match="leave `policy` out"):
        mcd.reinforce(folder / "pairs", teacher, folder / "x", write="datacompdr", policy=mcd.AugmentationPolicy())
    with pytest.raises(UsageError, match="unknown format 'datacomp', did you mean datacompdr"):
        mcd.reinforce(folder / "pairs", teacher, folder / "x", write="datacomp")
    plain = write_pairs(folder / "plain", 1, captions=False)
    line = refusal(run("reinforce", plain, "--write", "datacompdr", "-o", folder / "x"))
    assert "has no caption, which DataCompDR's format needs" in line
    with pytest.raises(InvalidInput, match="DataCompDR's format, which only `train`"):
        ReinforcedDataset(made, load_variant("nano"))
    line = refusal(run("reinforce", folder / "pairs", "--augmentations", "2", "--shard-rows", "3", "-o", made))
    assert "other format" in line
