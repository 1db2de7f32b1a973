"""The Swift package: the shared vectors and a real bundle by its own tests, random cases beside them, Core ML and Core
AI by stand-ins of theirs, and the package as a fresh one takes it."""

import base64
import itertools
import json
import os
import plistlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_vectors import random_pictures
from conversions import ROOT
from exports import Exports
from PIL import Image
from programs import output
from swift_package import CLIENT, CLIENT_FOLDER, CLIENT_SOURCES, apple_client, compile_interfaces, swift_tool
from tokenizer_vectors import is_mojibake, learned_from_german, odd_texts
from web.published import Published

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.preprocessing import load_image, tower_bytes
from mobileclip_deploy.network.model.tokenizer import encode, write_tokenizer_files
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.search.index import Index

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def client() -> Run:
    """Runs the package's program as it was compiled for Core ML's stand-in; the lines that it prints."""
    return running(apple_client())


@pytest.fixture(scope="module")
def onnx_client() -> Run:
    """The same as SwiftPM builds it, with ONNX Runtime."""
    return running(CLIENT.built() / "mobileclip-client")


def running(program: Path) -> Run:
    def ran(*arguments: object, lines: list[Any] | None = None) -> list[str]:
        given = "".join(json.dumps(line) + "\n" for line in lines or [])
        return output(str(program), *map(str, arguments), input=given, errors="replace", timeout=300).splitlines()

    return ran


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> Bundle:
    return exports.bundle("onnx", "fp32")


@pytest.mark.slow  # it builds them and the package
def test_the_packages_own_tests_pass_on_a_published_bundle(published: Published) -> None:
    told = CLIENT.test({"MOBILECLIP_BUNDLE": str(published.bundle), "MOBILECLIP_LOCK": str(published.lock)})
    assert int(re.findall(r"Executed (\d+) tests", told)[-1]) >= 30
    assert "skipped" not in told


def test_random_pictures_are_prepared_in_the_same_bytes(client: Run, seed: int) -> None:
    given, wanted = [], []
    for pixels, spec in random_pictures(seed, 12):
        height, width, _ = pixels.shape
        told = {"layout": "rgb", "width": width, "height": height, "preprocess": spec.model_dump(mode="json")}
        given.append(told | {"bytes": base64.b64encode(pixels.tobytes()).decode()})
        wanted.append(tower_bytes(Image.fromarray(pixels), spec).transpose(1, 2, 0).tobytes())
    assert [base64.b64decode(line) for line in client("prepare", lines=given)] == wanted


def ids(client: Run, bundle: Bundle, texts: list[str]) -> list[list[int]]:
    """What the Swift tokenizer makes of texts."""
    return [[int(one) for one in line.split()] for line in client("tokenize", bundle.path, lines=texts)]


def test_random_texts_become_open_clips_ids(client: Run, bundle: Bundle, seed: int) -> None:
    texts = [text for text in itertools.islice(odd_texts(seed), 1000) if not is_mojibake(text)]
    for text, wanted, row in zip(texts, encode(texts).tolist(), ids(client, bundle, texts), strict=True):
        assert row == wanted, text


def test_a_vocabulary_that_a_checkpoint_brings_is_read_as_in_python(
    client: Run, bundle: Bundle, tmp_path: Path
) -> None:
    tokens, texts = learned_from_german()
    write_tokenizer_files(tmp_path / "tokenizer", tokens)
    manifest = bundle.manifest.as_dict() | {"tokenizer": tokens.model_dump(mode="json")}
    manifest["towers"]["text"]["input"]["shape"] = [0, tokens.context_length]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    lines = client("tokenize", tmp_path, lines=texts)
    assert [[int(one) for one in line.split()] for line in lines] == encode(texts, tokens).tolist()


@pytest.mark.slow  # it builds the package
def test_long_texts_are_read_in_no_time_and_honest_ones_are_open_clips(onnx_client: Run, bundle: Bundle) -> None:
    honest = ["AT&amp;T, \u201ca long sentence\u201d, " * 3_000, "".join(map(chr, range(0x4E00, 0x9FA5)))]
    *found, entities, word = ids(onnx_client, bundle, [*honest, "&" + "amp;" * 20_000, "qwertz" * 100_000])
    assert found == encode(honest).tolist()
    assert entities == encode(["&"]).tolist()[0]
    assert word[-1] == 49407


def test_mojibake_is_left_alone(client: Run, bundle: Bundle) -> None:
    text = "caf\u00c3\u00a9"
    assert is_mojibake(text)
    (row,) = ids(client, bundle, [text])
    assert row[:4] != encode([text]).tolist()[0][:4]  # which repairs it
    assert encode([text]).tolist() == encode(["caf\u00e9"]).tolist()


PICTURE = ROOT / "models" / "nano" / "evaluation" / "images" / "1f355.png"
LABELS = ["pizza", "automobile", "rocket & moon"]


@pytest.mark.slow  # it builds the package
def test_a_picture_is_classified_as_in_python(onnx_client: Run, bundle: Bundle, tmp_path: Path) -> None:
    load_image(PICTURE).save(tmp_path / "pizza.ppm")
    found = probabilities(onnx_client("classify", bundle.path, tmp_path / "pizza.ppm", ",".join(LABELS)))
    (wanted,) = mcd.classify(bundle, [PICTURE], LABELS)
    assert found == pytest.approx(wanted.probabilities, abs=1e-3)
    assert list(found) == sorted(found, key=found.__getitem__, reverse=True)


@pytest.mark.slow  # it builds the package
def test_an_index_that_swift_wrote_is_pythons(onnx_client: Run, bundle: Bundle, tmp_path: Path) -> None:
    names = ["1f355.png", "1f431.png", "1f697.png"]
    for name in names:
        load_image(PICTURE.with_name(name)).save(tmp_path / f"{name}.ppm")
    onnx_client("embed", bundle.path, tmp_path / "own.mcdx", *(tmp_path / f"{name}.ppm" for name in names))
    index = Index(tmp_path / "own.mcdx")
    index.check()
    assert [one for _, one, _ in index] == [f"{name}.ppm" for name in names]
    assert (index.store.name, index.description.embedding_space) == ("int8", bundle.manifest.embedding_space)
    mcd.embed(bundle, [PICTURE.with_name(name) for name in names], tmp_path / "wanted.mcdx")
    vectors = [np.concatenate([part for _, part in one.vectors()]) for one in (index, Index(tmp_path / "wanted.mcdx"))]
    assert np.abs(vectors[0] - vectors[1]).max() <= index.store.scale * 1.01  # a component that lies between two steps


def probabilities(lines: list[str]) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[-4:].isdigit()}


def test_the_gates_are_pythons() -> None:
    text = (CLIENT_SOURCES / "Bundle" / "Gates.swift").read_text(encoding="utf-8")
    found = {
        name: (how, float(bound)) for name, how, bound in re.findall(r'"([\w-]+)": Gate\(\.(\w+), ([\w.-]+)\)', text)
    }
    gates = {name: Gates().shipped(name) for name in PRECISIONS}
    assert found == {name: (gate.metric, gate.value) for name, gate in gates.items()}


def test_the_privacy_manifest_says_that_nothing_is_collected() -> None:
    told = plistlib.loads((CLIENT_SOURCES / "PrivacyInfo.xcprivacy").read_bytes())
    assert told == {
        "NSPrivacyTracking": False,
        "NSPrivacyTrackingDomains": [],
        "NSPrivacyCollectedDataTypes": [],
        "NSPrivacyAccessedAPITypes": [],
    }
    # Apple's list of interfaces that need a reason: none is used.
    text = "".join(path.read_text(encoding="utf-8") for path in CLIENT_SOURCES.rglob("*.swift"))
    listed = (
        r"UserDefaults|systemUptime|mach_absolute_time|creationDate|modificationDate|volumeAvailable|attributesOfItem"
    )
    assert not re.search(listed, text)


@pytest.fixture
def stand_in(exports: Exports, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program on nano's Core ML bundle; the checkpoint's answers are Core ML's, but for what a test plants."""
    program = apple_client()
    reference = Reference.read(exports.bundle("coreml", "fp16").golden)
    pixels = np.rint(reference.inputs.of("image") * 255).astype("uint8")
    prompts = encode(LABELS).astype("<i4")
    texts = exports.bundle("onnx", "fp32")
    answers = [
        answer(tmp_path / "image", pixels, reference.of("image")),
        answer(tmp_path / "text", reference.inputs.of("text").astype("<i4"), reference.of("text")),
        answer(tmp_path / "labels", prompts, mcd.load_runner(texts, tower="text")(prompts)),
    ]
    script: dict[str, Any] = {
        "output": "final_emb_1",
        "answers": answers,
        "failing": {},
        "microseconds": {},
        "plans": {},
    }

    def ran(*arguments: object, wrong: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        (tmp_path / "core_ml.json").write_text(json.dumps(script | {"wrong": wrong}), encoding="utf-8")
        given = {
            "COREML_STAND_IN": str(tmp_path / "core_ml.json"),
            "XDG_CACHE_HOME": str(tmp_path),
            "HOME": str(tmp_path),
        }
        command = [str(program), *map(str, arguments)]
        return subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=False)

    return ran


def answer(file: Path, inputs: np.ndarray, outputs: np.ndarray) -> dict[str, object]:
    """For the stand-in: what to answer to which inputs."""
    file.with_suffix(".inputs").write_bytes(np.ascontiguousarray(inputs).tobytes())
    file.with_suffix(".outputs").write_bytes(np.ascontiguousarray(outputs, dtype="<f4").tobytes())
    return {"inputs": f"{file}.inputs", "outputs": f"{file}.outputs", "count": len(inputs)}


def test_core_ml_gets_what_it_takes(stand_in: Any, exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("coreml", "fp16")
    for _ in range(2):  # compiled, and what was compiled before
        done = stand_in("self-test", bundle.path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\w+) cosine (1\.0|0\.99999)", done.stdout, re.M), done.stdout
    assert len(list(tmp_path.rglob("*.mlmodelc"))) == 2
    golden = np.rint(Reference.read(bundle.golden).inputs.of("image")[0] * 255).astype("uint8")
    Image.fromarray(golden.transpose(1, 2, 0)).save(tmp_path / "golden.ppm")
    found = probabilities(
        stand_in("classify", bundle.path, tmp_path / "golden.ppm", ",".join(LABELS)).stdout.splitlines()
    )
    assert set(found) == set(LABELS)
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)


def test_a_unit_that_answers_wrongly_is_left_with_a_sentence(stand_in: Any, exports: Exports) -> None:
    path = exports.bundle("coreml", "fp16").path
    done = stand_in("self-test", path, wrong=("nano_image.mlpackage@all", "nano_image.mlpackage@cpuAndNeuralEngine"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"image tower answers wrongly on all \(cosine .*\): cpuAndGPU is used in its place", done.stdout)
    done = stand_in("self-test", path, wrong=("nano_image.mlpackage",))
    assert done.returncode == 1
    assert "no other unit answers rightly: do not use it here" in done.stdout


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("mode", ["6", "5"])
def test_apples_pictures_fit_what_is_known_of_apples_interfaces(tmp_path: Path, mode: str) -> None:
    compile_interfaces(Path(__file__).with_name("apple_interfaces"), ("CoreGraphics", "CoreVideo", "ImageIO"), tmp_path)
    names = ("Apple/ApplePictures", "Pictures/Picture", "Pictures/PictureFile", "Pictures/Colours", "MobileCLIPError")
    command = ["-typecheck", "-swift-version", mode, "-parse-as-library", "-I", tmp_path]
    output(swift_tool("swiftc"), *command, *(CLIENT_SOURCES / f"{name}.swift" for name in names))


PAGE = (ROOT / "docs" / "start_ios.md").read_text(encoding="utf-8")


@pytest.mark.slow  # it builds the package once more
def test_a_fresh_package_takes_a_clone_by_its_address_and_follows_the_page(bundle: Bundle, tmp_path: Path) -> None:
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    clone = tmp_path / "mobileclip-deploy"
    ran(tmp_path, "git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", str(clone))
    shutil.copytree(CLIENT_FOLDER, clone / "clients" / "swift", dirs_exist_ok=True)  # what is not committed yet
    shutil.copy(ROOT / "Package.swift", clone)
    ran(clone, *git, "commit", "--quiet", "--all", "--allow-empty", "-m", "as it is here")
    ran(clone, *git, "tag", "0.4.0")
    (block,) = re.findall(r"```swift\n(import MobileCLIPKit\n.*?)```", PAGE, re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    fresh = tmp_path / "app"
    (fresh / "Sources" / "app").mkdir(parents=True)
    (fresh / "Package.swift").write_text(FRESH.format(address=f"file://{clone}"), encoding="utf-8")
    load_image(PICTURE).save(tmp_path / "pizza.ppm")
    text = block.replace("import MobileCLIPKit\n", f"import MobileCLIPKit\n{ON_LINUX.format(bundle=bundle.path)}", 1)
    text = text.replace("load(bundle: bundle)", "load(bundle: bundle, engine: ONNXRuntimeEngine())")
    (fresh / "Sources" / "app" / "main.swift").write_text(
        f'let picture = PictureFile(URL(fileURLWithPath: "{tmp_path}/pizza.ppm"))\n{text}', encoding="utf-8"
    )
    less = ("--disable-index-store", "-debug-info-format", "none")
    told = ran(fresh, swift_tool("swift"), "run", "-j", "2", *less, "app")
    assert "pizza" in told.splitlines()[-1]


FRESH = """// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "app", platforms: [.macOS(.v13)], dependencies: [.package(url: "{address}", from: "0.4.0")],
    targets: [
        .executableTarget(
            name: "app",
            dependencies: [
                .product(name: "MobileCLIPKit", package: "mobileclip-deploy"),
                .product(name: "MobileCLIPONNXRuntime", package: "mobileclip-deploy"),
            ])
    ])
"""
ON_LINUX = 'import Foundation\nimport MobileCLIPONNXRuntime\nlet bundle = URL(fileURLWithPath: "{bundle}")\n'


def ran(folder: Path, *command: str) -> str:
    return output(*command, cwd=folder, errors="replace")
