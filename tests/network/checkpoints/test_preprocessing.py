"""Which pictures a checkpoint was trained on: what says so, what is asked for, and what the bundle records."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import refusal, run
from hub_server import HubServer
from tiny import WORDS, checkpoint, known

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.convert import convert
from mobileclip_deploy.network.checkpoints.hub import fetch
from mobileclip_deploy.network.checkpoints.hub_reader import HubFile
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.provenance import TakenPreprocess

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic")
OWN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear")
OTHER = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "shortest"}
CONFIG = {"model_cfg": {"embed_dim": 24}, "preprocess_cfg": OTHER}


def finetuned(folder: Path, name: str = "epoch_3.pt", **left: Any) -> Path:
    """As open_clip's training writes it."""
    weights = {f"module.{key}": value for key, value in checkpoint("tiny_five", "open_clip").items()}
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}} | left, folder / name)
    return folder / name


def pictures(model: MobileCLIP) -> tuple[object, ...]:
    own = model.variant.preprocess
    return own.mean, own.std, own.interpolation


def taken(model: MobileCLIP) -> TakenPreprocess:
    assert model.provenance.preprocess is not None
    return model.provenance.preprocess


def test_what_open_clip_trained_on_is_asked_for_by_name(tmp_path: Path) -> None:
    path = finetuned(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"\(it holds epoch, optimizer, the prefix `module\.`\), and does not record"
    ):
        load(path)
    line = refusal(run("reparameterize", "--checkpoint", path, "-o", tmp_path / "x.safetensors"))
    assert "say which with --preprocess openai or --preprocess card, or give the open_clip_config.json" in line
    openai, card = load(path, preprocess="OpenAI"), load(path, preprocess="card")
    assert openai.variant.name == "tiny_five"
    assert (pictures(openai), taken(openai).taken_from) == (OPENAI, "openai")
    assert (pictures(card), taken(card).taken_from) == (OWN, "card")
    assert openai.provenance.embedding_space.startswith(f"{card.provenance.embedding_space}-")
    assert "pictures as openai says: mean 0.4815, 0.4578, 0.4082, std " in openai.provenance.notes[-1]


def test_what_was_not_trained_on_is_not_asked_for(tmp_path: Path) -> None:
    torch.save(checkpoint("tiny_five", "open_clip"), tmp_path / "bare.pt")
    bare = load(tmp_path / "bare.pt")
    assert (pictures(bare), bare.provenance.preprocess) == (OWN, None)
    torch.save({"epoch": 1, "state_dict": checkpoint("tiny_stem", "apple")}, tmp_path / "tiny_stem.pt")
    assert pictures(load(tmp_path / "tiny_stem.pt")) == OWN  # Apple's code takes the variant's own


def test_open_clips_file_beside_it_says_it(tmp_path: Path) -> None:
    path = finetuned(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    found = load(path)
    assert pictures(found) == ((0.5,) * 3, (0.25,) * 3, "bilinear")
    assert taken(found).taken_from == "open_clip_config.json"
    another = CONFIG | {"model_cfg": {"embed_dim": 512}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(another))
    with pytest.raises(CheckpointError, match="does not record its preprocessing"):
        load(path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG | {"preprocess_cfg": {}}))
    assert pictures(load(path)) == OPENAI  # what open_clip leaves out


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}, ((0.5,) * 3, (0.25,) * 3, "bicubic")),
        ({"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear"}, OWN),
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 0}, "interpolation: not 'bilinear'"),
        (OTHER | {"resize_mode": "squash"}, "resize_mode 'squash' does not match this network's, 'shortest'"),
        (OTHER | {"std": [0, 1, 1]}, "std.0: not above 0"),
        ({"architectures": ["CLIPModel"]}, "has no mean, std or interpolation"),
        ([1], "has no JSON object"),
    ],
    ids=["transformers", "bare", "nearest", "squash", "zero", "another", "list"],
)
def test_a_file_that_is_named_says_it(tmp_path: Path, told: object, found: object) -> None:
    (tmp_path / "said.json").write_text(json.dumps(told))
    path = finetuned(tmp_path)
    if isinstance(found, str):
        with pytest.raises(InvalidInput, match=found.replace(".", r"\.")):
            load(path, preprocess=tmp_path / "said.json")
    else:
        assert pictures(load(path, preprocess=str(tmp_path / "said.json"))) == found


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"preprocess_cfg": [1]}', '{"mean": "\\ud800"}', "{" + '"a": 1,' * 300_000 + '"b": 1}']
)
def test_a_file_that_is_no_settings_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "said.json").write_text(text)
    with pytest.raises(InvalidInput):
        load(finetuned(tmp_path), preprocess=tmp_path / "said.json")


def test_a_configuration_of_another_shape_says_nothing_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": 5, "preprocess_cfg": {}}')
    with pytest.raises(CheckpointError, match="does not record its preprocessing"):
        load(finetuned(tmp_path))
    with pytest.raises(
        UsageError, match=r"`preprocess` 'opena1' is not a file, did you mean openai\?; say openai, card"
    ):
        load(finetuned(tmp_path), preprocess="opena1")


def test_what_is_made_of_it_keeps_it(tmp_path: Path) -> None:
    path = finetuned(tmp_path)
    with pytest.raises(CheckpointError, match="does not record its preprocessing"):
        convert(path, "open_clip", tmp_path / "bare.safetensors")
    convert(path, "open_clip", tmp_path / "bare.safetensors", preprocess="openai")
    convert(path, "folded", tmp_path / "folded.safetensors", preprocess="openai")
    bare, folded = load(tmp_path / "bare.safetensors"), load(tmp_path / "folded.safetensors")
    assert pictures(bare) == pictures(folded) == OPENAI
    assert bare.provenance.embedding_space == folded.provenance.embedding_space


@pytest.mark.slow
def test_a_bundle_records_it_and_is_held_to_it(tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    with known(tmp_path / "cards") as path:
        arguments = ("--target", "onnx", "--tower", "image", "--precision", "fp32", "-o", tmp_path)
        done = run("export", *arguments, "--checkpoint", path, "--preprocess", "openai")
        assert done.code == 0, done.stderr
        bundle = mcd.Bundle.open(tmp_path / f"{WORDS}-onnx-fp32")
        told = json.loads((bundle.path / "manifest.json").read_text())
        assert told["checkpoint"]["preprocess"]["taken_from"] == "openai"
        assert (tuple(told["preprocess"]["mean"]), told["preprocess"]["interpolation"]) == (OPENAI[0], "bicubic")
        assert mcd.verify(bundle, checkpoint=path, thorough=False).passed
        own = load(path)
    size = own.variant.preprocess.size
    image = torch.rand(1, 3, size, size)
    normal = (image - torch.tensor(OPENAI[0]).view(3, 1, 1)) / torch.tensor(OPENAI[1]).view(3, 1, 1)
    with torch.no_grad():
        wanted = own.encode_image(normal)
    assert mcd.load_runner(bundle, "image")(image.numpy()) == pytest.approx(wanted.numpy(), abs=1e-4)


def test_somebodys_own_repository_brings_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = finetuned(tmp_path).read_bytes()
    server = HubServer("me/mine", {"epoch_3.pt": weights, "open_clip_config.json": json.dumps(CONFIG).encode()})
    try:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        fetched = fetch(HubFile("me/mine"), cache=tmp_path / "cache")
        assert pictures(load(fetched.path)) == ((0.5,) * 3, (0.25,) * 3, "bilinear")
        del server.commits["me/mine"][0]["open_clip_config.json"]
        fetched = fetch(HubFile("me/mine"), cache=tmp_path / "another")
        assert [path.name for path in fetched.path.parent.iterdir()] == ["epoch_3.pt"]
    finally:
        server.close()
