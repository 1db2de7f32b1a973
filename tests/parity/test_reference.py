"""Golden inputs and outputs: what is written is what is read, always the same bytes; damage is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.parity.reference import Reference


def reference() -> Reference:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (2, 3, 4, 4)).astype(np.float32) / np.float32(255)
    ids = np.array([[90, 5, 91, 0], [90, 91, 0, 0], [90, 7, 8, 91]])
    embeddings = {"image": generator.random((2, 6), np.float32), "text": generator.random((3, 6), np.float32)}
    return Reference(Inputs(("a.jpg", "ü.png"), ("", "naïve café", "雪"), pixels, ids), embeddings, folded=False)  # type: ignore[arg-type]


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    wanted = reference()
    wanted.save(tmp_path / "golden.safetensors")
    found = Reference.read(tmp_path / "golden.safetensors")
    assert (found.inputs.images, found.inputs.prompts) == (wanted.inputs.images, wanted.inputs.prompts)
    assert found.folded is False
    for tower in ("image", "text"):
        np.testing.assert_array_equal(found.inputs.of(tower), wanted.inputs.of(tower))
        np.testing.assert_array_equal(found.of(tower), wanted.of(tower))


def test_an_app_can_read_it_without_this_package(tmp_path: Path) -> None:
    reference().save(tmp_path / "golden.safetensors")
    with safe_open(tmp_path / "golden.safetensors", framework="np") as file:
        dtypes = {name: str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        assert json.loads(file.metadata()["prompts"])[1] == "naïve café"
    assert dtypes == {
        "pixels": "uint8",
        "ids": "int32",
        "image_embeddings": "float32",
        "text_embeddings": "float32",
    }


def test_a_tower_without_embeddings_is_named(tmp_path: Path) -> None:
    whole = reference()
    Reference(whole.inputs, {"image": whole.of("image")}, folded=False).save(tmp_path / "golden.safetensors")
    with pytest.raises(InvalidInput, match="text tower"):
        Reference.read(tmp_path / "golden.safetensors").of("text")


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, str]], object]) -> None:
    """Save a golden file with its tensors or metadata changed."""
    reference().save(path)
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        metadata = dict(file.metadata())
    change(tensors, metadata)
    save_file(tensors, path, metadata)


DAMAGED: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: (reference().save(path), path.write_bytes(path.read_bytes()[:-10])),
    "no ids": lambda path: rewritten(path, lambda tensors, _: tensors.pop("ids")),
    "no prompts": lambda path: rewritten(path, lambda _, metadata: metadata.pop("prompts")),
    "prompts not JSON": lambda path: rewritten(path, lambda _, metadata: metadata.update(prompts="[")),
    "prompts not a list": lambda path: rewritten(path, lambda _, metadata: metadata.update(prompts="5")),
    "fewer embeddings than inputs": lambda path: rewritten(
        path, lambda tensors, _: tensors.update(image_embeddings=tensors["image_embeddings"][:1])
    ),
    "flat embeddings": lambda path: rewritten(
        path, lambda tensors, _: tensors.update(text_embeddings=tensors["text_embeddings"][0])
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused(tmp_path: Path, case: str) -> None:
    DAMAGED[case](tmp_path / "golden.safetensors")
    with pytest.raises(InvalidInput, match=r"golden\.safetensors is (missing or damaged|not a regular file)"):
        Reference.read(tmp_path / "golden.safetensors")
