"""Faults in what stands beside the artifacts: manifest, tokenizer, configurations, golden answers, model card."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import coreai_edits, coreml_edits, executorch_edits, kinds, litert_edits, onnx_edits
from json_files import edited_json
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.model_card import model_card
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.parity import StoredWeights
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.companions import check_companions, same_card
from mobileclip_deploy.verify.checks.files import check_files
from mobileclip_deploy.verify.checks.golden import check_golden
from mobileclip_deploy.verify.checks.requested import check_requested
from mobileclip_deploy.verify.checks.settings import check_settings

Edit = Callable[[Path], object]


@dataclass
class Sound:
    """A bundle as exported for a client that reads every companion there is, and the checkpoint's answers."""

    bundle: Bundle
    model: MobileCLIP
    fresh: Reference


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    torch.set_num_threads(1)
    model = mcd.load_model()
    bundle = mcd.export(model, "onnx", "fp32", tmp_path_factory.mktemp("sound"), verify=False)
    return Sound(bundle, model, compute_reference(mcd.load_model(), Reference.read(bundle.golden).inputs))


def manifest(change: Callable[[dict[str, Any]], object]) -> Edit:
    return entry("manifest.json", change)


def setting(keys: str, value: Any) -> Edit:
    def change(data: dict[str, Any]) -> None:
        *groups, last = keys.split(".")
        for group in groups:
            data = data[group]
        assert data[last] != value
        data[last] = value

    return manifest(change)


def text(name: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / name
        before = path.read_text(encoding="utf-8")
        assert old in before
        path.write_text(before.replace(old, new, 1), encoding="utf-8")

    return edit


def entry(name: str, change: Callable[[dict[str, Any]], object]) -> Edit:
    def edit(folder: Path) -> None:
        with edited_json(folder / name) as data:
            change(data)

    return edit


def rehashed(name: str, old: str, new: str) -> Edit:
    """Replace words in a file of the licence, and its hash and size in the manifest."""

    def edit(folder: Path) -> None:
        text(name, old, new)(folder)
        told = {"sha256": artifact_sha256(folder / name), "bytes": artifact_bytes(folder / name)}
        entry(
            "manifest.json", lambda data: next(f for f in data["licence"]["files"] if f["file"] == name).update(told)
        )(folder)

    return edit


def missing(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


def golden(change: Callable[[Reference], Reference]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "golden.safetensors"
        changed = change(Reference.read(path))
        path.unlink()
        changed.save(path)

    return edit


def swapped_words(data: dict[str, Any]) -> None:
    data["dog</w>"], data["cat</w>"] = data["cat</w>"], data["dog</w>"]


def one_input(stored: Reference) -> Reference:
    inputs = stored.inputs
    few = replace(
        inputs, images=inputs.images[:1], prompts=inputs.prompts[:1], pixels=inputs.pixels[:1], ids=inputs.ids[:1]
    )
    return replace(stored, inputs=few, embeddings={tower: rows[:1] for tower, rows in stored.embeddings.items()})


def padded_with_end(stored: Reference) -> Reference:
    ids = np.where(stored.inputs.ids == 0, 49407, stored.inputs.ids)
    return replace(stored, inputs=replace(stored.inputs, ids=ids))


def other_pixels(stored: Reference) -> Reference:
    return replace(stored, inputs=replace(stored.inputs, pixels=stored.inputs.pixels[:, ::-1].copy()))


def embeddings(tower: Any, change: Callable[[Any], Any]) -> Edit:
    return golden(
        lambda stored: replace(stored, embeddings=dict(stored.embeddings) | {tower: change(stored.of(tower))})
    )


FAULTS: dict[str, Edit] = {
    "logit scale doubled": manifest(lambda data: data.update(logit_scale=2 * data["logit_scale"])),
    "logit scale negative": manifest(lambda data: data.update(logit_scale=-data["logit_scale"])),
    "int8 scale doubled": manifest(lambda data: data.update(int8_scale=2 * data["int8_scale"])),
    "logit scale a percent off": manifest(lambda data: data.update(logit_scale=1.01 * data["logit_scale"])),
    "logit scale no number": text("manifest.json", '"logit_scale": ', '"logit_scale": NaN, "was": '),
    "context length": setting("tokenizer.context_length", 76),
    "padding id": setting("tokenizer.pad", 49407),
    "end of text id": setting("tokenizer.eot", 49406),
    "embedding dimension": setting("embed_dim", 64),
    "embedding space": setting("embedding_space", "nano-0123456789abcdef"),
    "template": setting("template", "a picture of {}"),
    "interpolation": setting("preprocess.interpolation", "bicubic"),
    "image size": setting("preprocess.size", 72),
    "mean": setting("preprocess.mean", [0.5, 0.5, 0.5]),
    "licence": setting("checkpoint.licence", "MIT"),
    "licence, research only": setting("checkpoint.research_only", True),
    "licence taken away": setting("licence", None),
    "licence, another answer": setting("licence.product.answer", "unknown"),
    "licence text, a word added": text("LICENSES/CC-BY-SA-4.0.txt", "ShareAlike", "NonCommercial-ShareAlike"),
    "licence text missing": missing("LICENSES/CC-BY-SA-4.0.txt"),
    "licence notice, with its hash": rehashed("LICENSES/NOTICE.txt", "Converted to", "Unchanged in"),
    "range of pixels": setting("towers.image.input.range", [0.0, 255.0]),
    "colour order": setting("towers.image.input.colour", "BGR"),
    "normalised": setting("towers.text.output.normalised", True),
    "padding outside": setting("towers.text.pads_inside", None),
    "padding inside, of a picture's tower": manifest(lambda data: data["towers"]["image"].update(pads_inside=True)),
    "type of ids": setting("towers.text.input.dtype", "int32"),
    "merges.txt missing": missing("tokenizer/merges.txt"),
    "merges.txt empty": lambda folder: (folder / "tokenizer/merges.txt").write_bytes(b""),
    "merges.txt, one rule removed": text("tokenizer/merges.txt", "\ni n\n", "\n"),
    "vocab.json missing": missing("tokenizer/vocab.json"),
    "vocab.json, two words swapped": entry("tokenizer/vocab.json", swapped_words),
    "tokenizer.json, a rule of lower case removed": text("tokenizer.json", "Lowercase", "NFD"),
    "tokenizer.json missing": missing("tokenizer.json"),
    "tokenizer_config.json, padding": entry("tokenizer_config.json", lambda data: data.update(pad_token="!")),
    "special_tokens_map.json missing": missing("special_tokens_map.json"),
    "config.json, projection": entry("config.json", lambda data: data.update(projection_dim=512)),
    "config.json missing": missing("config.json"),
    "preprocessor_config.json, resampling": entry("preprocessor_config.json", lambda data: data.update(resample=3)),
    "preprocessor_config.json, normalisation": entry(
        "preprocessor_config.json", lambda data: data.update(do_normalize=True)
    ),
    "model card missing": missing("MODEL_CARD.md"),
    "model card, another licence": text("MODEL_CARD.md", "CC-BY-SA", "CC-BY"),
    "model card, another input": text("MODEL_CARD.md", "pixel_values", "pixels"),
    "golden, one input": golden(one_input),
    "golden, ids padded with the end of text": golden(padded_with_end),
    "golden, BGR pixels": golden(other_pixels),
    "golden, embeddings in another order": embeddings("image", lambda rows: rows[::-1].copy()),
    "golden, embeddings of zeros": embeddings("text", np.zeros_like),
    "golden, one embedding not a number": embeddings("image", lambda rows: np.where(rows == rows.max(), np.nan, rows)),
    "golden, embeddings a thousandth off": embeddings("text", lambda rows: rows * np.float32(1.001)),
}


def rewritten(name: str, **how: Any) -> Edit:
    """The same document, written otherwise."""

    def edit(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")), **how), encoding="utf-8")

    return edit


def reversed_keys(name: str) -> Edit:
    def edit(folder: Path) -> None:
        with edited_json(folder / name) as data:
            items = [*data.items()][::-1]
            data.clear()
            data.update(items)

    return edit


def beside(name: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"anything")

    return edit


def saved_anew(folder: Path) -> None:
    path = folder / "golden.safetensors"
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {name: metadata[name] for name in reversed(metadata)})


def touched(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))


JSONS = (
    *("manifest.json", "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "tokenizer/vocab.json"),
)
UNLISTED = ("README.md", ".DS_Store", ".gitattributes", "photo.png", "notes/today.txt", "results.json")
NAMED = {
    "interpolation": "interpolation",
    "image size": "size",
    "mean": "mean",
    "padding id": "pad",
    "template": "template",
    "preprocessor_config.json, resampling": "resample",
    "preprocessor_config.json, normalisation": "do_normalize",
}
"""What has to be named."""

HARMLESS: dict[str, Edit] = {
    **{f"{name} in one line": rewritten(name, separators=(",", ":")) for name in JSONS},
    **{f"{name} with letters escaped": rewritten(name, indent=7, ensure_ascii=True) for name in JSONS},
    **{f"{name}, keys in another order": reversed_keys(name) for name in JSONS},
    **{f"{name} added": beside(name) for name in UNLISTED},
    "the golden answers saved anew": saved_anew,
    "other times of files": touched,
    "a setting that is null is written": manifest(lambda data: data.update(relevance=None, axes=None)),
    "no execution bits": lambda folder: [path.chmod(0o444) for path in folder.rglob("*") if path.is_file()],
    "the manifest in another order": entry("manifest.json", lambda data: data.update(target=data.pop("target"))),
    "config.json without line breaks": entry("config.json", lambda data: None),
    "vocab.json in another order": entry("tokenizer/vocab.json", lambda data: data.update({"!": data.pop("!")})),
    "a note beside": lambda folder: (folder / "NOTES.txt").write_text("shipped in 2.1", encoding="utf-8"),
    "golden answers written again": golden(lambda stored: stored),
    "golden answers of float32 arithmetic": embeddings("image", lambda rows: rows * np.float32(1 + 3e-7)),
}


def failed(sound: Sound, folder: Path, edit: Edit) -> list[str]:
    """What `verify` finds wrong beside the artifacts of an edited copy, or why it cannot even be opened."""
    path = folder / sound.bundle.path.name
    shutil.copytree(sound.bundle.path, path)
    edit(path)
    try:
        bundle = Bundle.open(path)
        stored = Reference.read(bundle.golden)
    except InvalidInput as error:
        return [str(error)]
    known = all(np.array_equal(sound.fresh.inputs.of(tower), stored.inputs.of(tower)) for tower in ("image", "text"))
    fresh = sound.fresh if known else compute_reference(sound.model, stored.inputs)
    own = subject(bundle, sound.model, sound.fresh, folder / "again", fresh=fresh)
    beside = (check_files, check_requested, check_settings, check_companions, check_golden)
    checks = [found for check in beside for found in check(own)]
    assert {check.status for check in checks} <= {"passed", "failed"}
    return [f"{check.tower} {check.step}: {check.describe()}" for check in checks if check.status == "failed"]


@pytest.mark.once(by=lambda given: str(given["name"]).partition(",")[0].partition(" missing")[0].partition(" empty")[0])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_beside_the_artifacts_fails(sound: Sound, name: str, tmp_path: Path) -> None:
    found = failed(sound, tmp_path, FAULTS[name])
    assert any(NAMED.get(name, "") in line for line in found)
    assert all("\n" not in line for line in found)


@pytest.mark.slow
@pytest.mark.once(by=lambda given: str(given["name"]).rpartition(".json")[2])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_says_the_same_in_other_words_passes(sound: Sound, name: str, tmp_path: Path) -> None:
    assert failed(sound, tmp_path, HARMLESS[name]) == []


def test_a_card_may_differ_in_sizes_of_files_and_in_nothing_else(sound: Sound, tmp_path: Path) -> None:
    """A file that says the same in other bytes is harmless; a weight stored otherwise is not."""
    manifest = sound.bundle.manifest
    storage = StoredWeights(tower="text", grid="int8", layers=3, weights=4000, bytes=4000)
    cards = {
        "same": model_card(manifest, (), [storage]),
        "size": model_card(manifest, (), [storage]).replace(f"{manifest.towers['text'].bytes:,}", "1,234"),
        "numbers": model_card(manifest, (), [storage.model_copy(update={"weights": 4001})]),
        "bytes": model_card(manifest, (), [storage.model_copy(update={"bytes": 4001})]),
        "facts": model_card(manifest, (), [storage], {"text": {"device": "GPU"}}),
    }
    assert "- text, device: GPU." in cards["facts"].splitlines()
    for name, text in cards.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    same = [name for name in cards if same_card(tmp_path / name, tmp_path / "same")]
    assert same == ["same", "size"]


def test_there_are_enough_harmless_edits() -> None:
    graphs = (onnx_edits, coreml_edits, coreai_edits, litert_edits, executorch_edits)
    assert len(HARMLESS) + len(kinds.HARMLESS) + sum(len(module.HARMLESS) for module in graphs) >= 60


def test_what_another_machine_measured_is_no_fault(sound: Sound, tmp_path: Path) -> None:
    assert len(FAULTS) >= 40
    assert failed(sound, tmp_path, lambda folder: None) == []
