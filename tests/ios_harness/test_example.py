"""The example classifies as the toolkit does; what Core ML would compute, torch computes here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import Exports
from swift_package import swift_build

import mobileclip_deploy as mcd
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.parity.reference import Reference

LABELS = ["cat face", "pizza", "automobile", "rocket & moon"]


@pytest.fixture(scope="module")
def zero_shot() -> Path:
    """The example, built for this machine."""
    return swift_build("Examples") / "zero-shot"


def test_the_example_gives_the_probabilities_of_the_checkpoint(
    zero_shot: Path, exports: Exports, tmp_path: Path
) -> None:
    bundle = exports.bundle("coreml", "fp16")
    model = mcd.load_model(None, exports.checkpoint)
    pixels = np.rint(Reference.read(bundle.golden).inputs.of("image")[:1] * 255).astype("uint8")
    ids = tokenize([bundle.manifest.template.replace("{}", label) for label in LABELS])
    with torch.inference_mode():
        image = model.encode_image(torch.from_numpy(pixels).float() / 255).numpy()
        texts = model.encode_text(torch.from_numpy(ids)).numpy()
    answers = [
        answer(tmp_path / "image", pixels, image),
        answer(tmp_path / "text", ids.astype("<i4"), texts),
    ]
    script = {"output": "final_emb_1", "answers": answers, "wrong": [], "failing": {}, "microseconds": {}, "plans": {}}
    (tmp_path / "core_ml.json").write_text(json.dumps(script), encoding="utf-8")
    (tmp_path / "image.rgb").write_bytes(pixels[0].transpose(1, 2, 0).tobytes())
    done = subprocess.run(
        [zero_shot, bundle.path, tmp_path / "image.rgb", ",".join(LABELS)],
        env=os.environ | {"COREML_STAND_IN": str(tmp_path / "core_ml.json")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()}
    cosines = (texts / np.linalg.norm(texts, axis=1, keepdims=True)) @ (image[0] / np.linalg.norm(image))
    wanted = torch.softmax(torch.from_numpy(cosines) * bundle.manifest.logit_scale, dim=0).tolist()
    assert found == {label: pytest.approx(value, abs=1e-3) for label, value in zip(LABELS, wanted, strict=True)}
    assert list(found) == sorted(found, key=found.__getitem__, reverse=True)


def test_what_is_no_answer_is_an_error(zero_shot: Path, exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("coreml", "fp16")
    size = bundle.manifest.preprocess.size
    (tmp_path / "image.rgb").write_bytes(bytes(3 * size * size))
    (tmp_path / "wrong.rgb").write_bytes(b"no picture")
    without_script = {name: value for name, value in os.environ.items() if name != "COREML_STAND_IN"}
    for arguments, code, words in (
        ([bundle.path, tmp_path / "image.rgb", "cat,dog"], 1, "gave no embedding: the model did not compute"),
        ([bundle.path, tmp_path / "wrong.rgb", "cat,dog"], 1, "wrong.rgb is no picture of "),
        ([tmp_path, tmp_path / "image.rgb", "cat,dog"], 1, "error: "),
        ([bundle.path], 2, "usage: zero-shot BUNDLE IMAGE"),
    ):
        done = subprocess.run([zero_shot, *arguments], env=without_script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def answer(file: Path, inputs: np.ndarray, outputs: np.ndarray) -> dict[str, object]:
    """For the stand-in: what to answer to which inputs."""
    file.with_suffix(".inputs").write_bytes(np.ascontiguousarray(inputs).tobytes())
    file.with_suffix(".outputs").write_bytes(np.ascontiguousarray(outputs, dtype="<f4").tobytes())
    return {"inputs": f"{file}.inputs", "outputs": f"{file}.outputs", "count": len(inputs)}
