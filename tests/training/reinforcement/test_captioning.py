"""Synthetic captions are drawn as published, depend on the seed alone, and go on where they were stopped."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from command_line import refusal, run
from emoji_pairs import write_pairs
from open_clip import factory
from published_shards import Runs

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.training.reinforcement import captioning
from mobileclip_deploy.training.reinforcement.captioning import Captioner, load_captioner

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "attentional_pool": True,
                   "attn_pooler_heads": 1, "output_tokens": True},
    "text_cfg": {"context_length": 76, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1, "embed_cls": True,
                 "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1,
                       "attn_pooler_heads": 1},
    "custom_text": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small CoCa model with random weights, known to open_clip for as long as these tests run."""
    folder = tmp_path_factory.mktemp("coca")
    (folder / "coca_tiny.json").write_text(json.dumps(TINY))
    paths, configs = list(factory._MODEL_CONFIG_PATHS), dict(factory._MODEL_CONFIGS)
    open_clip.add_model_config(folder / "coca_tiny.json")
    model = open_clip.create_model("coca_tiny")
    # All of them here: open_clip leaves some at zero, with which every token is as probable as any other, and others at
    # what the memory held before.
    numbers = torch.Generator().manual_seed(0)
    weights = model.state_dict()
    for key, value in model.named_parameters():
        if value.ndim > 1:
            weights[key] = torch.randn(value.shape, generator=numbers) / value.shape[-1] ** 0.5
        elif value.ndim == 1:
            norm = "ln" in key and key.endswith("weight")
            weights[key] = torch.ones(value.shape) if norm else 0.1 * torch.randn(value.shape, generator=numbers)
    torch.save(weights, folder / "weights.pt")
    yield f"coca_tiny:{folder / 'weights.pt'}"
    factory._MODEL_CONFIG_PATHS[:] = paths
    factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(configs)


@pytest.fixture(scope="module")
def captioner(name: str) -> Captioner:
    return load_captioner(name)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions of eight tokens: each takes a step of the model."""
    monkeypatch.setattr(captioning, "LONGEST", 8)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 9)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_nucleus_is_the_fewest_tokens_with_the_share() -> None:
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]])
    found = captioning.nucleus(probabilities.log(), 0.8)
    torch.testing.assert_close(found, torch.tensor([[0.0, 5 / 9, 1 / 6, 5 / 18], [1.0, 0.0, 0.0, 0.0]]))
    chance = torch.randn(50, 20, generator=torch.Generator().manual_seed(0)).softmax(1)
    for row, kept in zip(chance, captioning.nucleus(chance.log(), 0.9), strict=True):
        wanted, total = set(), 0.0
        for token in sorted(range(20), key=lambda one: -row[one]):  # by hand, one token after another
            if total >= 0.9:
                break
            wanted.add(token)
            total += float(row[token])
        assert set(kept.nonzero().flatten().tolist()) == wanted


def test_with_the_smallest_nucleus_the_model_s_own_forward_gives_the_tokens(
    captioner: Captioner, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioning, "LONGEST", 30)
    monkeypatch.setattr(captioning.nucleus, "__defaults__", (1e-9,))
    image = load_image(next(pairs.glob("*.png")))
    pixels = captioner.preprocess(image)[None]
    texts = torch.full((1, 1), 49406)
    with torch.no_grad():
        for length in range(1, 29):
            logits = captioner.model(pixels, texts, output_labels=False)["logits"][:, -1]
            if length < 5:
                logits[:, 49407] = -torch.inf
            texts = torch.cat((texts, logits.argmax(1, keepdim=True)), dim=1)
            if texts[0, -1] == 49407:
                break
    wanted = open_clip.decode(texts[0]).split("<end_of_text>")[0].split("<start_of_text>")[-1].split(".")[0].rstrip()
    assert captioner.captions([image], 1, generators(0)) == [[wanted]]


def test_captions_depend_on_their_image_s_generator_alone(captioner: Captioner, pairs: Path) -> None:
    images = [load_image(file) for file in sorted(pairs.glob("*.png"))[:3]]
    together = captioner.captions(images, 2, generators(5, 6, 7))
    assert captioner.captions(images[1:2], 2, generators(6)) == together[1:2]
    assert captioner.captions(images[1:2], 2, generators(8)) != together[1:2]
    assert all(len(texts) == 2 and texts[0] != texts[1] for texts in together)
    assert not any("end_of_text" in text or "." in text for texts in together for text in texts)


def test_the_command_stores_them_behind_the_others_and_goes_on(
    name: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("reinforce", pairs, "--captioner", name, "--synthetic", 1, "--augmentations", 1, "-o", tmp_path / "made")
    done = run(*map(str, command))
    assert done.code == 0, done.stderr
    before = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text().splitlines()]
    after = [json.loads(line) for line in (tmp_path / "made" / "pairs.jsonl").read_text().splitlines()]
    assert [row["captions"][:-1] for row in after] == [row["captions"] for row in before]
    # Another run on the same pictures has nothing to draw; without what was kept it draws the same.
    drawn: list[int] = []
    captions = Captioner.captions
    monkeypatch.setattr(Captioner, "captions", lambda *given: drawn.append(1) or captions(*given))  # type: ignore[func-returns-value]
    assert "0 shards made and 1 kept" in run(*map(str, command)).stdout
    assert drawn == []
    kept = tmp_path / "made.captions.jsonl"
    kept.write_text(kept.read_text()[:-9])  # stopped while the second batch was written
    assert "0 shards made and 1 kept" in run(*map(str, command)).stdout
    assert drawn == [1]


def test_what_is_no_captioner_is_refused(name: str, pairs: Path, tmp_path: Path) -> None:
    for given, what in {
        "coca_ViT-L-15:x": "open_clip has no 'coca_ViT-L-15', did you mean coca_ViT-L-14?",
        "coca_tiny": "is not a captioner",
        "coca_tiny:/nowhere.pt": "cannot be loaded",
        "ViT-B-32-quickgelu:": "is not a captioner",
    }.items():
        line = refusal(run("reinforce", pairs, "--captioner", given, "-o", tmp_path / "made"))
        assert what in line
    other = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(2)}, other)
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        load_captioner(f"coca_tiny:{other}")
    torch.save({"a": Runs()}, other)
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        load_captioner(f"coca_tiny:{other}")
    shutil.rmtree(pairs)
    write_pairs(pairs, 2, captions=False)
    with pytest.raises(InvalidInput, match="no true captions"):
        mcd.reinforce(pairs, mcd.load_model(), tmp_path / "made", captioner=name)
    assert not (tmp_path / "made").exists()
    with pytest.raises(UsageError):
        load_captioner("x")
