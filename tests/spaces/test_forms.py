"""Every form of an export ends on the axes of smaller embeddings: targets, precisions, layouts, heads, lengths, sweeps.

Most are not verified: what an artifact answers shows it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from command_line import run
from export.test_compact import write_pictures
from safetensors.numpy import load_file
from tiny import CAUSAL, known

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model import variants
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.pictures.embedding import at_length_one

SIZE = 8
LABELS = ["a cat", "a dog", "a red car"]
NANO = variants.models_dir() / "nano"


class Small(NamedTuple):
    """A tiny causal checkpoint, pictures to fit to, and its plain bundle of smaller embeddings."""

    checkpoint: Path
    photos: Path
    plain: mcd.Bundle

    def export(self, folder: Path, **choices: Any) -> mcd.Bundle:
        model = mcd.load_model(CAUSAL, self.checkpoint)
        return mcd.export(model, output=folder, embedding_size=SIZE, fit=self.photos, **choices)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """While the tiny network's card is known."""
    folder = tmp_path_factory.mktemp("forms")
    photos = write_pictures(folder / "pictures", 4 * SIZE)
    with known(folder, CAUSAL) as checkpoint:
        new = Small(checkpoint, photos, None)  # type: ignore[arg-type]
        yield new._replace(plain=new.export(folder / "plain", target="onnx", precision="fp32", verify=False))


def answers(small: Small) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What the full checkpoint gives of pixels and ids, times the axes, at length 1."""
    model, axes = mcd.load_model(CAUSAL, small.checkpoint), load_file(small.plain.axes)["axes"].astype(np.float64)
    given = (("image", pixels()), ("text", ids()))
    image, text = (at_length_one(mcd.load_runner(model, tower)(value) @ axes) for tower, value in given)  # type: ignore[arg-type]
    return image, text


def pixels() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).random((2, 3, 64, 64), np.float32)


def ids() -> npt.NDArray[np.int64]:
    return np.asarray(encode([LABELS[0]]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        {"target": None, "precision": "fp16", "layout": "transformers.js"},
        {"target": "coreml", "precision": "fp16", "contexts": [16]},
        {"target": "coreml", "precision": "fp16", "options": {"multifunction": True}},
    ],
    ids=["layout", "coreml contexts", "multifunction"],
)
def test_towers_of_every_form_answer_the_full_ones_on_the_axes(
    small: Small, choices: dict[str, Any], tmp_path: Path
) -> None:
    bundle = small.export(tmp_path, **choices, verify=False)
    assert bundle.manifest.embedding_space == small.plain.manifest.embedding_space
    for tower, value, wanted in zip(("image", "text"), (pixels(), ids()), answers(small), strict=True):
        found = mcd.load_runner(bundle, tower)(value)  # type: ignore[arg-type]
        assert found.shape == wanted.shape
        assert (at_length_one(found) * wanted).sum(axis=1).min() > 0.999


@pytest.mark.slow
def test_a_sweep_makes_full_and_small_ones(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # in this process, where the card is known
    choice = f'file = "{small.checkpoint}"\nvariant = "{CAUSAL}"\n'
    (tmp_path / "sweep.toml").write_text(
        'version = 1\ntargets = ["onnx"]\nprecisions = ["fp32"]\n'
        f'[checkpoints.full]\n{choice}[checkpoints.small]\n{choice}embedding_size = {SIZE}\nfit = "{small.photos}"\n',
        encoding="utf-8",
    )
    found = run("sweep", tmp_path / "sweep.toml", "-o", tmp_path / "out", "--json")
    assert [row["state"] for row in found.json["rows"]] == ["passed", "passed"], found.stderr
    made = {
        bundle.manifest.embed_dim: bundle.manifest.embedding_space
        for bundle in (mcd.Bundle.open(path.parent) for path in (tmp_path / "out").rglob("manifest.json"))
    }
    assert set(made) == {SIZE, 24}
    assert made[SIZE] == small.plain.manifest.embedding_space


@pytest.mark.slow
def test_the_smallest_that_passes_is_of_the_axes(small: Small, tmp_path: Path) -> None:
    pairs = tmp_path / "samples.csv"
    lines = ["image,label,text", *(f"{path},{path.stem},{path.stem}" for path in image_paths())]
    pairs.write_text("\n".join(lines), encoding="utf-8")
    bundle = small.export(tmp_path, target="onnx", precision="smallest", dataset=pairs, max_drop=100)
    assert bundle.path.name == f"{CAUSAL}-e{SIZE}-onnx-smallest"
    assert bundle.manifest.embedding_space == small.plain.manifest.embedding_space


# Forms with steps of their own behind the smaller projection: a head, pictures of any size, learning, measured ranges.
FORMS: dict[str, dict[str, Any]] = {
    "any size": {"target": "onnx", "precision": "fp16", "input": "bytes"},
    "classifier": {"target": "litert", "precision": "w8a8", "labels": LABELS},
    "learned rounding": {
        "target": "onnx",
        "precision": "w8",
        "rounding": "gptq",
        "calibration": NANO / "calibration",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_form_passes_its_checks(form: str, small: Small, tmp_path: Path) -> None:
    bundle = small.export(tmp_path, **{"target": None, "precision": None} | FORMS[form])
    assert bundle.manifest.embed_dim == SIZE
    assert bundle.path.name.startswith(f"{CAUSAL}-e{SIZE}-")
    assert bundle.axes.is_file()
