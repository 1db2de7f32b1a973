"""The apps in examples/ find the right picture for a text: built and run as their first lines say."""

import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from building import locked
from chromium import open_page, served
from conversions import ROOT
from exports import Exports
from java_client import FETCHED, JAVA, JavaClient, onnxruntime, readable_by_1_17
from programs import output
from swift_package import CLIENT_FOLDER, SwiftPackage

from mobileclip_deploy.network.model.preprocessing import load_image

EXAMPLES = ROOT / "examples"
PICTURES = {"a pizza": "1f355", "a rocket": "1f680", "a cat face": "1f431"}
"""Texts, and the picture of nano's evaluation set that each is of."""
SWIFT = EXAMPLES / "swift_search"
SEARCH = SwiftPackage(SWIFT, (CLIENT_FOLDER, SWIFT), "example", with_tests=False)

pytestmark = pytest.mark.slow  # each builds an app with the tools of another language


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with these pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in PICTURES.values():
        shutil.copy(ROOT / "models" / "nano" / "evaluation" / "images" / f"{name}.png", folder)
    return folder


def test_search_in_swift_6_finds_the_right_picture_and_embeds_what_is_new(exports: Exports, photos: Path) -> None:
    for file in list(photos.iterdir()):
        load_image(file).save(file.with_suffix(".ppm"))  # on a Mac it reads PNG, too
        file.unlink()
    program = SEARCH.built() / "search"
    new = [3, 0, 0]
    for text, name in PICTURES.items():
        told = output(str(program), exports.bundle("onnx", "fp32").path, photos, text, errors="replace").splitlines()
        assert told[0] == f"{new.pop(0)} embedded"
        assert next(line.split()[1] for line in told[1:]) == f"{name}.ppm"
        assert len(told) == 4
    (photos / "1f355.ppm").unlink()
    (photos / "1f431.ppm").touch()
    told = output(str(program), exports.bundle("onnx", "fp32").path, photos, "a cat face", errors="replace")
    assert [line.split()[-1] for line in told.splitlines()] == ["embedded", "1f431.ppm", "1f680.ppm"]
    assert told.startswith("1 embedded")


def test_a_server_in_java_11_finds_the_right_picture_and_refuses_in_words(
    client: JavaClient, exports: Exports, photos: Path, tmp_path: Path
) -> None:
    with locked(FETCHED / ".lock"):
        runtime = onnxruntime()
    output(JAVA / "onnx" / "build.sh", client.jar.parent, client.jar, runtime, timeout=300)
    jars = os.pathsep.join(map(str, (client.jar, client.desktop, client.jar.parent / "mobileclip-onnx.jar", runtime)))
    source = EXAMPLES / "java_server" / "Server.java"
    output(client.javac, "--release", "11", "-Xlint:all", "-Werror", "-cp", jars, "-d", tmp_path / "server", source)
    (photos / "torn.png").write_bytes(b"not a picture")
    bundle = readable_by_1_17(exports.bundle("onnx", "fp32"), tmp_path / "nano-onnx-fp32")
    command = [client.java, "-cp", f"{jars}{os.pathsep}{tmp_path / 'server'}", "Server", str(bundle), str(photos), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip()
            for text, name in PICTURES.items():
                with urllib.request.urlopen(address + urllib.parse.quote(text), timeout=60) as answer:
                    lines = answer.read().decode().splitlines()
                assert next(line.split("\t")[1] for line in lines) == f"{name}.png"
                assert len(lines) == 3
            for wrong, words in ((address, "the text is empty"), (address.partition("?")[0], "usage: /search?text=")):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(wrong, timeout=60)
                assert (refused.value.code, words in refused.value.read().decode()) == (400, True)
        finally:
            server.terminate()
        assert "torn.png" in server.stderr.read()


@pytest.fixture(scope="module")
def project(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's folder next to the clients, with what its package.json names."""
    npm, folder = require_tool("npm", "apt-get install npm"), tmp_path_factory.mktemp("web")
    shutil.copytree(EXAMPLES / "web_worker", folder / "examples" / "web_worker")
    (folder / "clients").symlink_to(ROOT / "clients")
    output(npm, "install", "--silent", "--ignore-scripts", "--no-audit", cwd=folder / "examples" / "web_worker")
    return folder / "examples" / "web_worker"


@pytest.mark.parametrize(("tool", "version"), [("vite", "7."), ("esbuild", "0.28.")])
def test_a_page_with_a_worker_finds_the_right_picture_in_chromium(
    project: Path, exports: Exports, photos: Path, tool: str, version: str
) -> None:
    assert (
        output(str(project / "node_modules" / ".bin" / tool), "--version", cwd=project)
        .split("/")[-1]
        .startswith(version)
    )
    shutil.rmtree(project / "dist", ignore_errors=True)
    output("npm", "run", tool, cwd=project, timeout=300)
    shutil.copytree(exports.bundle("onnx", "fp32").path, project / "dist" / "bundle")
    torn = photos / "torn.png"
    torn.write_bytes(b"not a picture")
    first = "document.querySelector('li')?.textContent ?? ''"
    with served({"/": f"{project / 'dist'}/"}) as address, open_page() as page:
        page.visit(f"{address}/")
        page.wait("!document.getElementById('photos').disabled", 300)
        page.choose("#photos", *sorted(photos.iterdir()))
        page.wait(f"({first}).startsWith('3 photos')")
        assert "torn.png: " in page.evaluate("document.querySelectorAll('li')[1].textContent")
        for text, name in PICTURES.items():
            page.evaluate(f"text.value = '{text}', text.onchange()")
            page.wait(f"({first}).endsWith('{name}.png')")
