"""Labels that are learned from a few pictures, on made-up embeddings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.heads.label_head import NONE, LabelHead, Thresholds, digest_rows
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.label_figures import average_precision, label_figures
from mobileclip_deploy.network.model.scores import unrounded_softmax
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.spaces.tags import examples
from mobileclip_deploy.spaces.tags.examples import TagsRequest, read_examples
from mobileclip_deploy.spaces.tags.fitting import FittedLabels, fit, present
from mobileclip_deploy.spaces.tags.rows import LabelSamples

EVALUATION = models_dir() / "nano" / "evaluation"
Doubles = npt.NDArray[np.float64]
LABELS, DIMENSION = 6, 32
DIGESTS = digest_rows(f"{index:016x}" for index in range(4))
RULE = Thresholds(
    ratios=(2.0, 3.0),
    method="texts",
    examples=4,
    background=0,
    pictures_sha256=content_sha256(DIGESTS.tobytes()),
    aim=0.05,
    false_tags=0.0,
    true_tags=1.0,
    right=1.0,
    texts_right=1.0,
)


def unit(rows: Doubles) -> Doubles:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def world(seed: int, each: int, blind: bool, others: int = 0) -> tuple[LabelSamples, LabelSamples]:
    """Samples to learn from and to test. Texts lie near their pictures, or are exchanged if the text tower is blind."""
    chance = np.random.default_rng(seed)
    centres = unit(chance.standard_normal((LABELS + 12, DIMENSION)))

    def pictures(kinds: npt.NDArray[np.int64]) -> Doubles:
        return unit(centres[kinds] + 0.2 * chance.standard_normal((len(kinds), DIMENSION)))

    near = unit(centres[:LABELS] + 0.1 * chance.standard_normal((LABELS, DIMENSION)))
    texts = np.roll(near, 1, axis=0) if blind else near
    made = []
    for count in (each, 40):
        labels = np.repeat(np.arange(LABELS), count)
        kinds = chance.integers(LABELS, LABELS + 12, others)
        made.append(LabelSamples(texts, pictures(labels), labels, pictures(kinds), 20.0, LABELS))
    return made[0], made[1]


def right(fitted: FittedLabels, tested: LabelSamples) -> float:
    return float((fitted.rows.odds(tested.pictures).argmax(axis=1) == tested.labels).mean())


def test_labels_that_the_text_tower_knows_keep_what_it_knows() -> None:
    learned, tested = world(0, 3, blind=False)
    assert learned.texts is not None
    by_texts = float(((tested.pictures @ learned.texts.T).argmax(axis=1) == tested.labels).mean())
    assert right(fit(learned, 0.05), tested) >= by_texts - 0.01


def test_labels_that_it_does_not_know_are_learned_from_pictures() -> None:
    learned, tested = world(1, 8, blind=True)
    fitted = fit(learned, 0.05)
    assert fitted.method.name != "texts"
    assert fitted.texts_right is not None
    assert fitted.texts_right < 0.3
    assert right(fitted, tested) > 0.8


def test_groups_of_pictures_that_no_text_names_are_learned_from_eight_each() -> None:
    pictures = load_file(Path(__file__).parent / "spaces.safetensors")["pictures"].astype(np.float64)
    lines = (EVALUATION / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line)["group"] for line in lines]
    names = sorted({*groups} - {"components"})
    truth = np.array([names.index(group) if group in names else -1 for group in groups])
    chosen = np.concatenate([np.flatnonzero(truth == label)[3::9][:8] for label in range(len(names))])
    fitted = fit(LabelSamples(None, unit(pictures[chosen]), truth[chosen], np.zeros((0, 128)), 43.0, len(names)), 0.05)
    tested = np.setdiff1d(np.flatnonzero(truth >= 0), chosen)
    assert (fitted.rows.odds(pictures[tested]).argmax(axis=1) == truth[tested]).mean() > 0.45  # by texts: 0.39


def test_labels_without_texts_are_learned_from_pictures_alone() -> None:
    learned, tested = world(2, 8, blind=False)
    fitted = fit(replace(learned, texts=None), 0.05)
    assert fitted.texts_right is None
    assert right(fitted, tested) > 0.9


def test_a_label_with_one_picture_keeps_its_text() -> None:
    learned, _ = world(3, 8, blind=True)
    kept = np.flatnonzero((learned.labels != 0) | (np.arange(len(learned.labels)) == 0))
    few = replace(learned, pictures=learned.pictures[kept], labels=learned.labels[kept])
    assert few.texts is not None
    rows = fit(few, 0.05).rows
    row = rows.weights[0] - rows.weights[-1]
    if not rows.biases[:-1].std():  # rows that were trained have "none of these" subtracted, too
        assert row @ few.texts[0] / np.linalg.norm(row) > 0.999


def test_false_tags_are_as_rare_as_requested_on_pictures_that_were_not_learned_from() -> None:
    for aim in (0.02, 0.2):
        learned, tested = world(4, 8, blind=False, others=400)
        fitted = fit(learned, aim)
        tags = present(fitted.rows.odds(tested.background), np.log(fitted.ratios))
        assert tags.any(axis=1).mean() <= 1.6 * aim + 0.01
        own = present(fitted.rows.odds(tested.pictures), np.log(fitted.ratios))
        assert own[np.arange(len(own)), tested.labels].mean() > 0.8
        assert fitted.false_tags <= aim


def test_probabilities_are_calibrated_on_pictures_that_were_not_learned_from() -> None:
    learned, tested = world(5, 8, blind=False, others=300)
    odds = fit(learned, 0.05).rows.odds(np.concatenate([tested.pictures, tested.background]))
    chances = unrounded_softmax(np.c_[odds, np.zeros(len(odds))])
    truth = np.r_[tested.labels, np.full(len(tested.background), LABELS)]
    certainty, hits = chances.max(axis=1), chances.argmax(axis=1) == truth
    bins = np.minimum((15 * certainty).astype(int), 14)
    error = sum(abs((certainty - hits)[bins == index].sum()) for index in range(15)) / len(hits)
    assert error < 0.1


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.5, 0.3, 0.05], [0, 1]),  # both fit
        ([0.3, 0.1, 0.6], []),
        ([0.6, 0.05, 0.1], [0]),  # the second is below a tenth of the first
        ([0.2, 0.6, 0.1], [1, 0]),
        ([0.19, 0.6, 0.1], [1]),  # below twice that of "none of these"
        ([1e-7, 1e-8, 0.0], []),  # too small to mean anything
        ([1.0, 0.0, 0.0], [0]),
    ],
)
def test_the_rule_says_one_label_several_or_none(probabilities: list[float], expected: list[int]) -> None:
    assert RULE.present(np.array(probabilities, np.float32)) == expected


def test_a_file_of_labels_is_read_as_it_was_written(tmp_path: Path) -> None:
    head = LabelHead(
        ("cat", "dog"),
        np.eye(3, 4, dtype=np.float32),
        np.arange(3, dtype=np.float32),
        RULE,
        "space",
        "a {}",
        digests=DIGESTS,
    )
    head.save(tmp_path / "labels.safetensors")
    again = LabelHead.read(tmp_path / "labels.safetensors")
    assert (again.names, again.thresholds, again.template) == (("cat", "dog", NONE), RULE, "a {}")
    assert np.array_equal(again.weights, head.weights)
    assert np.array_equal(again.biases, head.biases)
    assert np.array_equal(again.digests, DIGESTS)
    pictures = np.random.default_rng(0).standard_normal((5, 4))
    assert np.array_equal(again.probabilities(pictures), head.probabilities(pictures))
    with pytest.raises(InvalidInput, match="4 dimensions, not 8"):
        again.fitting(8)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.eye(2, 4, dtype=np.float32)},
        {"biases": np.array([0, np.nan, 0], np.float32)},
        {"weights": np.eye(3, 4)},
        {"labels": ("cat", "dog", "bird")},
        {"labels": ("cat", NONE)},
        {"digests": DIGESTS[1:]},
        {"digests": DIGESTS[::-1].copy()},
    ],
)
def test_a_file_whose_parts_disagree_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    rows = np.eye(3, 4, dtype=np.float32), np.zeros(3, np.float32)
    head = LabelHead(("cat", "dog"), *rows, RULE, "space", digests=DIGESTS)
    replace(head, **changes).save(tmp_path / "labels.safetensors")
    with pytest.raises(InvalidInput, match=r"not a valid file of labels .*; learn them again"):
        LabelHead.read(tmp_path / "labels.safetensors")


def pictures(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    chance = np.random.default_rng([seed, len(folder.name), *folder.name.encode()])
    for index in range(count):
        Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def test_examples_are_read_once_each(tmp_path: Path) -> None:
    pictures(tmp_path / "cat", 3)
    pictures(tmp_path / "Dog", 2)
    (tmp_path / "cat" / "again.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes())
    found = read_examples(TagsRequest(tmp_path), LabelSet(("dog", "cat", "bird")))
    assert sorted(found.image_labels.tolist()) == [0, 0, 1, 1, 1]
    assert [note for note in found.notes if "1 pictures repeat others" in note]
    assert [note for note in found.notes if "their texts alone count: bird" in note]


def test_what_examples_cannot_be_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "examples"
    pictures(folder / "cat", 3)
    pictures(folder / "dog", 2)
    one_each = tmp_path / "one"
    pictures(one_each / "cat", 3)
    pictures(one_each / "dog", 1)
    twice = tmp_path / "twice"
    pictures(twice / "cat", 3)
    pictures(twice / "dog", 2)
    (twice / "dog" / "x.png").write_bytes((twice / "cat" / "0.png").read_bytes())
    few = pictures(tmp_path / "background", 5)
    both = LabelSet(("cat", "dog"))

    def refusal(request: TagsRequest, labels: LabelSet = both) -> str:
        with pytest.raises((InvalidInput, UsageError)) as caught:
            read_examples(request, labels)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "classes that are not labels: dog" in refusal(TagsRequest(folder), LabelSet(("cat", "bird")))
    assert "fewer than 2 different pictures of dog" in refusal(TagsRequest(one_each, with_texts=False))
    assert "an example of 'cat' and 'dog'" in refusal(TagsRequest(twice))
    assert "256 different ones are needed" in refusal(TagsRequest(folder, few))
    assert "is added by itself" in refusal(TagsRequest(folder), LabelSet(("cat", NONE)))
    assert "no such folder or file" in refusal(TagsRequest(tmp_path / "nothing"))
    monkeypatch.setattr(examples, "LARGEST", 10)
    assert "too many to learn from" in refusal(TagsRequest(folder))
    with pytest.raises(UsageError, match="between 0 and 1"):
        TagsRequest(folder, false_tags=5)


def test_average_precision_is_that_of_scikit_learn() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    assert average_precision(scores, np.array([False, False, True, True])) == pytest.approx(100 * 0.8333333)
    assert average_precision(np.full(4, 0.5, np.float32), np.array([True, False, False, False])) == pytest.approx(25)


def test_a_class_without_predictions_has_no_precision() -> None:
    predicted = np.array([[True, False], [True, False]])
    figures = label_figures(np.array([[0.9, 0.1], [0.8, 0.2]], np.float32), np.array([0, 1]), predicted)
    assert figures.precision[0] == 50
    assert np.isnan(figures.precision[1])
    assert figures.averages["macro_precision"] == figures.averages["micro_precision"] == 50
    assert figures.averages["macro_recall"] == 50


def test_labels_of_another_embedding_space_are_refused(tmp_path: Path) -> None:
    picture = pictures(tmp_path / "some", 1) / "0.png"
    head = LabelHead(("cat", "dog"), np.eye(3, 128, dtype=np.float32), np.zeros(3, np.float32), RULE, "elsewhere")
    with pytest.raises(UsageError, match="learned in the embedding space elsewhere"):
        mcd.classify(mcd.load_model(), [picture], labels_file=head)
    with pytest.raises(UsageError, match="leave `labels` and `template` out"):
        mcd.classify(mcd.load_model(), [picture], ["a", "b"], labels_file=head)


def test_labels_are_learned_on_a_model_and_classify_with_it(tmp_path: Path) -> None:
    source = EVALUATION / "images"
    for label, names in {"cat": ("1f431", "1f408", "1f63a"), "car": ("1f697", "1f698", "1f695")}.items():
        (tmp_path / "examples" / label).mkdir(parents=True)
        for name in names:
            (tmp_path / "examples" / label / f"{name}.png").write_bytes((source / f"{name}.png").read_bytes())
    model = mcd.load_model()
    head = mcd.learn_labels(model, tmp_path / "examples", output=tmp_path / "labels.safetensors")
    assert head.template is None
    found = mcd.classify(
        model, [source / "1f63b.png", source / "1f699.png"], labels_file=tmp_path / "labels.safetensors"
    )
    assert [next(label for label in one.probabilities if label != NONE) for one in found] == ["cat", "car"]
    assert all(one.tags is not None and set(one.tags) <= {"cat", "car"} for one in found)
