"""Commands that use a bundle, where torch, open_clip, timm and transformers are not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from packages import require_package
from PIL import Image

from mobileclip_deploy.network.model.variants import models_dir

PICTURE = models_dir() / "nano" / "evaluation" / "images" / "1f431.png"
MOST_MODULES = 780
"""Modules that `classify` of one picture imports."""

HIDDEN = ("torch", "torchvision", "open_clip", "timm", "transformers")
# Hides the packages from the finder of installed ones, then runs commands in this process, as the program does.
HIDING = """
import json, sys
from importlib.machinery import PathFinder

found = PathFinder.find_spec
HIDDEN = set(sys.argv[1:])

def visible(name, path=None, target=None):
    return None if name.partition(".")[0] in HIDDEN else found(name, path, target)

PathFinder.find_spec = visible
from command_line import run

outcomes = []
for words in json.load(sys.stdin):
    outcome = run(*words)
    outcomes.append([outcome.code, outcome.stdout, outcome.stderr, len(sys.modules)])
print(json.dumps(outcomes))
"""


def without_torch(*commands: Sequence[object], hidden: Sequence[str] = HIDDEN) -> list[tuple[int, str, str, int]]:
    """Runs commands in one process: exit code, stdout and stderr of each, and the modules imported so far."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", HIDING, *hidden],
        input=words,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(outcome) for outcome in json.loads(done.stdout)]


def pictures(folder: Path) -> Path:
    """Two classes of three pictures."""
    for name, colour in (("red", (200, 30, 40)), ("blue", (20, 40, 210))):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (70, 64), (colour[0], 20 * index, colour[2])).save(folder / name / f"{index}.png")
    return folder


@pytest.mark.usefixtures("without_phones")
def test_an_onnx_bundle_is_used_without_torch(exports: Exports, tmp_path: Path) -> None:
    bundle, other = exports.bundle("onnx", "fp16").path, exports.bundle("onnx", "fp32").path
    photos, index, result = pictures(tmp_path / "photos"), tmp_path / "a.mcdx", tmp_path / "r.json"
    commands: list[tuple[object, ...]] = [
        ("classify", bundle, PICTURE, "--labels", "cat face,pizza"),
        ("inspect", bundle),
        ("embed", bundle, photos, "-o", index),
        ("search", index, "a cat", "--bundle", bundle),
        ("embed", bundle, PICTURE, "-o", tmp_path / "a.npy"),
        ("evaluate", bundle, "--dataset", photos),
        ("compare", bundle, other, "--dataset", photos),
        ("benchmark", bundle, "--device", "host", "--quick", "--json", result),
        ("report", result, "-o", tmp_path / "report.html"),
        ("demo", bundle, "--static", tmp_path / "site"),
        ("verify", bundle, "--checks", "files"),
        ("variants",),
        ("layouts",),
        ("doctor",),
        ("devices",),
    ]
    outcomes = without_torch(*commands, hidden=(*HIDDEN, "onnx", "onnxscript", "onnx_ir"))
    failed = {command[0]: outcome for command, outcome in zip(commands, outcomes, strict=True) if outcome[0] != 0}
    assert failed == {}
    classified, *_, checked, _, _, _, _ = outcomes
    assert classified[3] <= MOST_MODULES, classified[3]
    assert "Passed: 4 checks of files and stored answers; 7 were left out." in checked[2]
    assert "Passed: all" not in checked[2]
    assert "differences are against the first bundle" in outcomes[6][2]


AUDITED = "{bundle}/onnx/vision_model_fp16.onnx"


@pytest.mark.parametrize(
    "words", [("verify", "{bundle}"), ("export", "--target", "onnx", "-o", "{out}"), ("audit", AUDITED)]
)
def test_what_needs_torch_names_the_extra(exports: Exports, tmp_path: Path, words: tuple[str, ...]) -> None:
    bundle = exports.bundle("onnx", "fp16").path
    ((code, stdout, stderr, _),) = without_torch([word.format(bundle=bundle, out=tmp_path) for word in words])
    assert (code, stdout) == (3, "")
    line = stderr.splitlines()[-1]
    assert line == "error: this needs torch, which is not installed; type: pip install 'mobileclip-deploy[torch]'"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "module"),
    [("litert", "litert_torch"), ("mlx", "mlx"), ("qnn", "onnxruntime_qnn"), ("coreai", "coreai_torch")],
)
def test_bundles_of_other_targets_are_used_without_torch(exports: Exports, target: str, module: str) -> None:
    require_package(module, f"pip install '.[{target}]'")
    bundle: Any = exports.unverified(target, "fp16", "both").path
    outcomes = without_torch(
        ("classify", bundle, PICTURE, "--labels", "cat face,pizza"), ("verify", bundle, "--checks", "files")
    )
    assert [outcome[0] for outcome in outcomes] == [0, 0], outcomes


@pytest.mark.slow
@pytest.mark.parametrize("target", ["coreml", "executorch"])
def test_what_only_torch_runs_here_names_the_extra(exports: Exports, target: str) -> None:
    bundle = exports.unverified(target, "fp32" if target == "executorch" else "fp16", "both").path
    ((code, _, stderr, _),) = without_torch(("classify", bundle, PICTURE, "--labels", "cat face,pizza"))
    assert (code, "mobileclip-deploy[torch]" in stderr) == (3, True)
