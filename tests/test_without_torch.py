"""Commands that use a bundle, where torch, open_clip, timm and transformers are not installed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from exports import Exports
from packages import require_package
from PIL import Image
from programs import tool
from web.published import add_task_check

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
    assert "Passed: 5 checks of files and stored answers; 7 were left out." in checked[2]
    assert "Passed: all" not in checked[2]
    assert "differences are against the first bundle" in outcomes[6][2]


# Everything is read-only, the temporary folder too, and there is no home folder.
READ_ONLY = """
for folder in / /tmp /dev/shm; do
    mount --bind "$folder" "$folder" 2>/dev/null  # a folder that is no mount of its own
    mount -o remount,bind,ro "$folder" || exit 9
done
if touch /tmp/written 2>/dev/null; then exit 9; fi
exec "$@"
"""


@pytest.mark.slow
def test_a_read_only_container_classifies_searches_and_encodes(exports: Exports, tmp_path: Path) -> None:
    unshare = tool("install what this test needs: apt-get install util-linux", "unshare")
    if os.environ.get("WITHOUT_NAMESPACES"):
        pytest.skip("needs namespaces of its own, which a container without privileges has not")
    bundle, index = exports.bundle("onnx", "fp16").path, tmp_path / "a.mcdx"
    assert run("embed", str(bundle), str(PICTURE), "-o", str(index)).code == 0
    toolkit = [sys.executable, "-m", "mobileclip_deploy"]
    encode = f"import mobileclip_deploy as mcd; print(mcd.tokenize(['a cat'], {str(bundle)!r}).shape)"
    without_home = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    for command, printed in (
        ([*toolkit, "classify", str(bundle), str(PICTURE), "--labels", "cat face,pizza"], "cat face"),
        ([*toolkit, "search", str(index), "a cat", "--bundle", str(bundle)], PICTURE.name),
        ([sys.executable, "-c", encode], "(1, 77)"),
    ):
        inside = [unshare, "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh", *command]
        done = subprocess.run(inside, capture_output=True, text=True, env=without_home, cwd="/")
        assert done.returncode == 0, done.stderr
        assert printed in done.stdout
        assert done.stderr.count("warning") <= 1, done.stderr


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
def test_bridge_and_publish_do_without_torch(exports: Exports, tmp_path: Path) -> None:
    full, verified = exports.bundle("onnx", "fp32"), exports.copy("onnx", "fp16", tmp_path)
    add_task_check(verified)
    (fit := tmp_path / "fit").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((70, 70)).save(fit / f"{index}.png")
    small = ("export", "--target", "onnx", "--embedding-size", "64", "--fit", str(fit))
    assert run(*small, "--no-verify", "-o", str(tmp_path / "small")).code == 0
    (bundle,) = (tmp_path / "small").iterdir()
    outcomes = without_torch(
        ("embed", full.path, PICTURE, "-o", tmp_path / "full.mcdx"),
        ("bridge", "--from", tmp_path / "full.mcdx", "--by", bundle, "-o", tmp_path / "small.mcdx"),
        ("publish", verified, "--to", tmp_path / "published", "--write"),
    )
    assert [outcome[0] for outcome in outcomes] == [0, 0, 0], outcomes


@pytest.mark.slow
@pytest.mark.parametrize("target", ["coreml", "executorch"])
def test_what_only_torch_runs_here_names_the_extra(exports: Exports, target: str) -> None:
    bundle = exports.unverified(target, "fp32" if target == "executorch" else "fp16", "both").path
    ((code, _, stderr, _),) = without_torch(("classify", bundle, PICTURE, "--labels", "cat face,pizza"))
    assert (code, "mobileclip-deploy[torch]" in stderr) == (3, True)
