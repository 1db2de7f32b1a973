"""The Kotlin of the Android page: compiled by Kotlin's own compiler and run on a Java machine, with stand-ins for what
Android and ONNX Runtime declare. The stand-in of a model answers with the picture's mean colour."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conversions import ROOT

HERE = Path(__file__).parent / "kotlin"
COMPILER = ROOT / "build" / "kotlin"


@pytest.fixture(scope="module")
def program(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The page's block with a `main`, compiled: the command that runs it."""
    java, npm = require_tool("java", "apt-get install default-jdk-headless"), require_tool("npm", "apt-get install npm")
    javac = require_tool("javac", "apt-get install default-jdk-headless")
    installed = COMPILER / "node_modules" / "kotlin-compiler" / "lib"
    if not (installed / "kotlin-compiler.jar").exists():
        COMPILER.mkdir(parents=True, exist_ok=True)
        (COMPILER / "package.json").write_text((HERE / "package.json").read_text())
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=COMPILER, check=True, timeout=500)
    folder = tmp_path_factory.mktemp("kotlin")
    page = (ROOT / "docs" / "start_android.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```kotlin\n(.*?)```", page, re.DOTALL)
    (folder / "Classifier.kt").write_text(block, encoding="utf-8")
    stand_ins = [str(path) for path in HERE.rglob("*.java")]
    subprocess.run([javac, "-d", folder / "classes", *stand_ins], check=True, timeout=300)
    sources = [folder / "Classifier.kt", HERE / "Main.kt"]
    options = ["-classpath", folder / "classes", "-d", folder / "app.jar", "-no-reflect"]
    compiler = [java, "-cp", installed / "kotlin-compiler.jar", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    done = subprocess.run([*compiler, *options, *sources], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    paths = (folder / "app.jar", folder / "classes", installed / "kotlin-stdlib.jar")
    return [java, "-cp", ":".join(map(str, paths)), "MainKt"]


@pytest.mark.whole
def test_the_page_s_lines_compile_and_give_a_probability_for_each_label(program: list[str], tmp_path: Path) -> None:
    labels = np.eye(3)[:2]
    lines = [json.dumps({"text": "a", "embedding": [float(value) for value in label]}) for label in labels]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "manifest.json").write_text(json.dumps({"template": "{}", "logit_scale": 4.0}), encoding="utf-8")
    (tmp_path / "vision_model.onnx").write_bytes(b"model")
    picture = np.array([[200, 100, 50, 255], [100, 20, 50, 255]])
    words = [str(tmp_path), ",".join(map(str, picture.reshape(-1)))]
    found = subprocess.run([*program, *words], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    colour = picture[:, :3].mean(0)
    logits = 4.0 * labels @ colour / np.linalg.norm(colour)
    wanted = np.exp(logits) / np.exp(logits).sum()
    assert [float(word) for word in found.stdout.split()] == pytest.approx(wanted.tolist(), abs=1e-6)
