"""Immich on Intel's chips: a bundle of its layout under ONNX Runtime's provider for OpenVINO, on OpenVINO's CPU."""

import os
import platform
import sys
from pathlib import Path

import numpy as np
import pytest
from exports import Exports
from programs import missing, output

import mobileclip_deploy as mcd
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.samples import image_paths, prompts

# `onnxruntime-openvino` is called `onnxruntime` when it is imported, as the package that every other test needs.
FOLDER = Path(__file__).parents[3] / "build" / "openvino"
NEEDS = "needs build/openvino (Linux x86-64, Python up to 3.13): type: make build/openvino"


@pytest.mark.slow
def test_openvino_answers_as_the_checkpoint_and_leaves_no_operation(exports: Exports, tmp_path: Path) -> None:
    if not FOLDER.is_dir():
        missing(NEEDS, here=(sys.platform, platform.machine()) == ("linux", "x86_64"))
    model = mcd.load_model()
    rows = {
        "image": mcd.preprocess(image_paths()[:4], model),
        "text": encode(prompts()[:4], model.variant.tokens),
    }
    np.savez(tmp_path / "inputs.npz", image=rows["image"], text=rows["text"].astype(np.int32))
    script = Path(__file__).with_name("immich_openvino.py")
    folder = exports.layout("immich", verify=False).path
    command = [sys.executable, script, folder, tmp_path / "inputs.npz", tmp_path / "answers.npz"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    output(*command, env=environment)
    answers = np.load(tmp_path / "answers.npz")
    wanted = {"image": embed_images(model, rows["image"]), "text": embed_texts(model, rows["text"])}
    for name, exact in wanted.items():
        assert np.abs(answers[name] - exact / np.linalg.norm(exact, axis=1, keepdims=True)).max() < 1e-5
