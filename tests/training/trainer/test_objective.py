"""The loss with anchors is what its definition says, in float64 and one number at a time."""

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.training.reinforcement.policy import AugmentationPolicy
from mobileclip_deploy.training.reinforcement.samples import Batch, PlainDataset, collate
from mobileclip_deploy.training.trainer.objective import AnchoredObjective, Towers
from mobileclip_deploy.training.trainer.recipe import AnchorSettings

ROWS = (("cat", ("pet", "tabby")), ("dog", ("pet",)), ("cat", ("feline",)), ("car", ()), ("dog", ("hound",)))
CAPTIONS, SMOOTHING = 4, 0.1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PlainDataset:
    """Five images of three concepts; "pet" is a caption of a cat and of a dog."""
    folder = tmp_path_factory.mktemp("pairs")
    noise = np.random.default_rng(0)
    lines = []
    for number, (text, captions) in enumerate(ROWS):
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "text": text, "captions": captions}))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return PlainDataset(read_pairs(folder), load_variant("nano"), AugmentationPolicy(), seed=0)


@pytest.fixture(scope="module")
def model() -> MobileCLIP:
    return mcd.load_model().double()


@pytest.fixture(scope="module")
def anchored(dataset: PlainDataset, model: MobileCLIP) -> AnchoredObjective:
    torch.manual_seed(0)
    settings = AnchorSettings(captions=CAPTIONS, label_smoothing=SMOOTHING)
    return AnchoredObjective(dataset.pairs, model.variant.embed_dim, settings).double()


def in_double(batch: Batch) -> Batch:
    return Batch(batch.rows, batch.pixels.double(), batch.captions, batch.ids, (), ())


def surprise(logits: Sequence[float], targets: Sequence[float]) -> float:
    """Cross-entropy of one row, from the definition."""
    largest = max(logits)
    total = largest + math.log(sum(math.exp(value - largest) for value in logits))
    return sum(target * (total - value) for value, target in zip(logits, targets, strict=True))


def shares(positives: Sequence[bool], smoothing: float = 0.0) -> list[float]:
    return [(1 - smoothing) * one / sum(positives) + smoothing / len(positives) for one in positives]


@torch.no_grad()
def test_the_loss_is_its_definition(dataset: PlainDataset, model: MobileCLIP, anchored: AnchoredObjective) -> None:
    batch = in_double(collate([dataset[choice] for choice in dataset.choose(5, torch.Generator().manual_seed(1))]))
    rows = [ROWS[row] for row in batch.rows]
    names = ["cat", "dog", "car"]
    flat = [text for name, captions in ROWS for text in (name, *captions)]
    read = [flat[batch.captions[number, number % 2]] for number in range(CAPTIONS)]
    true_of = {text: {name for name, captions in ROWS if text in (name, *captions)} for text in flat}

    images = F.normalize(model.encode_image(batch.pixels), dim=1)
    texts = F.normalize(model.encode_text(torch.stack([batch.ids[n, n % 2] for n in range(CAPTIONS)])), dim=1)
    anchors, scale = F.normalize(anchored.weight, dim=1), model.logit_scale.exp()
    image_anchor, text_anchor = (scale * images @ anchors.T).tolist(), (scale * texts @ anchors.T).tolist()
    text_image = (scale * texts @ images.T).tolist()

    def loss(lines: Iterable[Sequence[float]], told: Iterable[Sequence[bool]], smoothing: float = 0.0) -> float:
        """The mean over the rows that have a positive: the captions of an image may all be left unread."""
        rows = [surprise(line, shares(own, smoothing)) for line, own in zip(lines, told, strict=True) if any(own)]
        return sum(rows) / len(rows)

    wanted = loss(image_anchor, [[name == row[0] for name in names] for row in rows], SMOOTHING)
    wanted += loss(text_anchor, [[name in true_of[text] for name in names] for text in read], SMOOTHING)
    together = [[row[0] in true_of[text] for row in rows] for text in read]
    wanted += 0.5 * loss(text_image, together)
    wanted += 0.5 * loss(zip(*text_image, strict=True), zip(*together, strict=True))
    found = anchored.loss(Towers(model)(batch.pixels, anchored.read(batch)), batch)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_a_caption_of_two_concepts_is_a_positive_of_both(anchored: AnchoredObjective) -> None:
    assert anchored.concepts.tolist() == [0, 1, 0, 2, 1]
    assert anchored.owners == [[0], [0, 1], [0], [1], [0, 1], [0], [0], [2], [1], [1]]


def test_anchors_of_a_training_that_goes_on_stand_where_their_captions_do(
    dataset: PlainDataset, model: MobileCLIP
) -> None:
    anchored = AnchoredObjective(dataset.pairs, model.variant.embed_dim, AnchorSettings()).double()
    anchored.place(model, dataset)
    for number, name in enumerate(("cat", "dog", "car")):
        ids = dataset.ids[dataset.first_caption[[row[0] for row in ROWS].index(name)]]
        wanted = F.normalize(model.encode_text(ids[None]), dim=1)[0]
        assert torch.allclose(anchored.weight[number], wanted)


def test_an_augmentation_of_plain_pairs_is_decided_by_its_number(dataset: PlainDataset) -> None:
    first, again, other = (dataset.choose(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again != other
    for one, same in zip(first, again, strict=True):
        assert torch.equal(dataset[one].crop, dataset[same].crop)
        assert torch.equal(dataset[one].parameters, dataset[same].parameters)
    assert len({choice.augmentation for choice in (*first, *other)}) == 6
