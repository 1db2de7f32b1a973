"""The Kotlin package and the lines of the Android page: compiled by Kotlin's own compiler, the package against the Java
classes of ONNX Runtime's newest AAR, and run on a Java machine by older classes with their own native half. Of
Android's classes there are stand-ins."""

import re
import struct
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from building import ROOT, locked
from elf import PAGE, load_alignments
from exports import Exports
from java_client import FETCHED, JavaClient, onnxruntime, readable_by_1_17
from PIL import Image
from programs import output
from relevant_bundle import relevant_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import models_dir

HERE = Path(__file__).parent / "kotlin"
KOTLIN = ROOT / "clients" / "kotlin"
IMAGES = [models_dir() / "nano" / "evaluation" / "images" / f"{name}.png" for name in ("1f355", "1f680", "1f431")]


@pytest.fixture(scope="module")
def path(
    client: JavaClient, require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    """The class path of a program on the package: its jar, the page's lines, the sample's file for Android."""
    require_tool("npm", "apt-get install npm")
    with locked(FETCHED / ".lock"):
        subprocess.run([KOTLIN / "fetch.sh", FETCHED], check=True, timeout=500)
        kotlin, runtime = FETCHED / "lib", onnxruntime()
    folder = tmp_path_factory.mktemp("kotlin")
    output(KOTLIN / "build.sh", folder, client.jar, FETCHED, timeout=300)
    page = (ROOT / "docs" / "start_android.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```kotlin\n(.*?)```", page, re.DOTALL)
    assert block.count("\n") < 17
    (folder / "Classifier.kt").write_text(block, encoding="utf-8")
    stand_ins = (ROOT / "tests" / "android_classes" / "android").rglob("*.java")
    subprocess.run([client.javac, "--release", "11", "-d", folder / "android", *stand_ins], check=True, timeout=300)
    classes = (
        client.jar,
        folder / "mobileclip-kotlin.jar",
        folder / "mobileclip-onnx.jar",
        runtime,
        folder / "android",
    )
    sample = (KOTLIN / "sample/src/main/kotlin").rglob("*.kt")
    words = ["-no-reflect", "-Werror", "-cp", ":".join(map(str, classes)), "-d", folder / "app.jar"]
    words += [folder / "Classifier.kt", *sample, HERE / "Main.kt"]
    main = ["-cp", kotlin / "kotlin-compiler.jar", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    output(client.java, *main, *words, timeout=300)
    return (*classes[1:], folder / "app.jar", kotlin / "kotlin-stdlib.jar")


@dataclass(frozen=True)
class Asked:
    """What a program is given (`folder`: a bundle and an index, `words`: its arguments), and what it printed."""

    folder: Path
    bundle: mcd.Bundle
    words: tuple[str | Path, ...]
    printed: str


@pytest.fixture(scope="module")
def asked(
    client: JavaClient, path: tuple[Path, ...], exports: Exports, tmp_path_factory: pytest.TempPathFactory
) -> Asked:
    folder = tmp_path_factory.mktemp("asked")
    bundle = relevant_bundle(exports.bundle("onnx", "fp32"), folder / "whole")
    mcd.embed(bundle, IMAGES, folder / "library.mcdx")
    pixels = np.asarray(Image.open(IMAGES[0]).convert("RGBA"))
    (folder / "pixels").write_bytes(pixels.tobytes())
    readable_by_1_17(bundle, folder / "nano-onnx-fp32")
    words = (folder, folder / "pixels", str(pixels.shape[1]))
    done = client.run("MainKt", *words, more=path)
    assert done.returncode == 0, done.stderr
    return Asked(folder, bundle, words, done.stdout)


@pytest.mark.slow  # as the next one
def test_every_library_that_an_app_is_told_to_take_is_aligned_to_16_kb(path: tuple[Path, ...]) -> None:
    with zipfile.ZipFile(FETCHED / "onnxruntime.aar") as aar:
        found = {name: load_alignments(aar.read(name)) for name in aar.namelist() if name.endswith(".so")}
    assert {name.split("/")[1] for name in found} == {"arm64-v8a", "armeabi-v7a", "x86", "x86_64"}
    assert {name: one for name, one in found.items() if min(one) < PAGE} == {}


@pytest.mark.slow  # it fetches Kotlin's compiler and ONNX Runtime's Java classes
def test_onnx_runtime_s_own_java_classes_answer_as_python_does(asked: Asked) -> None:
    bundle = asked.bundle
    (classified,) = mcd.classify(bundle, IMAGES[:1], ["pizza", "rocket"])
    wanted = mcd.search(asked.folder / "library.mcdx", ["rocket", "xqzv bloop"], bundle=bundle, top=3).answers
    lines = [line.split(" ", 1) for line in asked.printed.splitlines()]
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
    assert told["suspended"] == [f"{' '.join(match.id for match in wanted[0].matches)} true null", "QUERY true"]
    assert int(told["cut"][0]) > 0
    embedded = load_batch(IMAGES[:1], bundle.manifest.preprocess)
    ids = encode(["a photo of a dog"])
    for name, given in (("image", embedded), ("text", ids)):
        answer = np.asarray(mcd.load_runner(bundle, tower=name)(given))[0]
        found_values = np.array(told[name][0].split(), np.float64)
        assert np.abs(found_values - answer / np.linalg.norm(answer)).max() < 1e-5
    files = ("golden.safetensors", "onnx/text_model.onnx", "tokenizer/merges.txt", "manifest.json")
    assert told["refused"] == [f"{name} BUNDLE" for name in files]


@pytest.mark.slow  # as the one above
def test_the_jar_is_of_language_version_2_1_as_the_sample_s_oldest_kotlin_reads_it(path: tuple[Path, ...]) -> None:
    (jar,) = (one for one in path if one.name == "mobileclip-kotlin.jar")
    with zipfile.ZipFile(jar) as opened:
        count, *version = struct.unpack(">4i", opened.read("META-INF/mobileclip.kotlin_module")[:16])
    assert (count, version[:2]) == (3, [2, 1])


RULES = """
-keep class MainKt { public static void main(java.lang.String[]); }
-dontnote
-dontwarn kotlin.**,org.jetbrains.annotations.**,java.lang.invoke.**,java.nio.file.Path,MainKt
"""


@pytest.mark.slow  # as the one above
def test_a_shrunk_app_answers_the_same_by_the_rules_that_the_jar_brings(
    client: JavaClient, path: tuple[Path, ...], asked: Asked, require_tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    program = require_tool("proguard", "apt-get install proguard-cli")
    with zipfile.ZipFile(client.jar) as jar:
        (tmp_path / "own.pro").write_bytes(jar.read("META-INF/proguard/mobileclip.pro"))
    (tmp_path / "app.pro").write_text(RULES, encoding="utf-8")
    java_8(Path(client.javac), tmp_path / "java.jar")
    inputs = [word for one in (client.jar, *path) for word in ("-injars", f"{one}(!META-INF/**)")]
    common = [program, *inputs, "-libraryjars", str(tmp_path / "java.jar"), f"@{tmp_path / 'app.pro'}"]
    for rules, works in ((f"@{tmp_path / 'own.pro'}", True), ("-dontwarn ai.onnxruntime.**", False)):
        shrunk = tmp_path / f"{works}.jar"
        output(*common, rules, "-outjars", shrunk, timeout=300)
        with zipfile.ZipFile(shrunk) as jar:
            assert [name for name in jar.namelist() if name.startswith("mobileclip/")] == []  # they have other names
        command = [client.java, "-cp", str(shrunk), "MainKt", *map(str, asked.words)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (ran.stdout == asked.printed) == works
        assert ("UnsatisfiedLinkError" in ran.stderr) != works


def java_8(javac: Path, jar: Path) -> None:
    """What Java 8 declares, of which the JDK keeps signatures: this ProGuard reads no newer classes."""
    kept = javac.resolve().parent.parent / "lib" / "ct.sym"
    with zipfile.ZipFile(kept) as signatures, zipfile.ZipFile(jar, "w") as classes:
        written = set()
        for entry in signatures.namelist():
            releases, *place = entry.split("/")
            name = "/".join(place[1:] if "." in place[0] else place).removesuffix(".sig") + ".class"
            if "8" in releases and entry.endswith(".sig") and name not in written:
                written.add(name)
                content = signatures.read(entry)
                classes.writestr(name, content[:6] + bytes((0, 52)) + content[8:])
