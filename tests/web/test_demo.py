"""The page that shows a bundle, in a real Chromium and a real Firefox: the answers of `classify`, search, and nothing
sent anywhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chromium import Page, open_page
from command_line import PROGRAM, refusal, run, strict_json
from exports import Exports, rehash
from firefox import open_firefox
from json_files import edited_json
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.base.pages.server import PageServer, serving
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.web import demo as web_demo
from mobileclip_deploy.web.demo import DemoPage, _served, write_demo

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "onnxruntime_web"
PICTURES = ROOT / "models/nano/evaluation/images"
READY = "/^Ready|differently|Stopped/.test(document.getElementById('state')?.textContent)"
INDEXED = "document.getElementById('indexed').textContent === '3 pictures ready, 1 could not be read: broken.jpg.'"
LABELS = ("cat face", "pizza", "automobile", "rocket", "tree $&")  # which JavaScript's replace would put "{}" into


@dataclass(frozen=True)
class Shown:
    page: Page
    address: str


@pytest.fixture(scope="module")
def cached() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(CACHE))
        yield


@pytest.fixture(scope="module")
def npm(cached: None, require_tool: Callable[[str, str], str]) -> None:
    """What fetches the runtime, should the cache not hold it."""
    require_tool("npm", "apt-get install npm")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, one of them in a folder with a name to beware of, and one that is none."""
    folder = tmp_path_factory.mktemp("library")
    odd = folder / "<img src=x onerror=alert(1)>"
    odd.mkdir()
    shutil.copy(PICTURES / "1f355.png", odd / "pizza.png")
    for name in ("1f431", "1f697"):
        shutil.copy(PICTURES / f"{name}.png", folder)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def shown(exports: Exports, library: Path, npm: None) -> Iterator[Shown]:
    bundle = exports.bundle("onnx", "fp32")
    with _served(DemoPage.of(bundle, library, False, silent)) as server, open_page() as page:
        page.visit(server.address)
        page.wait(READY)
        yield Shown(page, server.address)


@pytest.fixture(scope="module")
def pizza(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An opaque picture, wider than high: what is transparent may differ in the last bit.

    A page that chose it may still be loading it when a test has ended.
    """
    folder = tmp_path_factory.mktemp("pizza")
    with Image.open(PICTURES / "1f355.png") as opened:
        opened.convert("RGBA").convert("RGB").resize((301, 200)).save(folder / "pizza.png")
    return folder / "pizza.png"


def text(shown: Shown, id: str) -> str:
    return str(shown.page.evaluate(f"document.getElementById('{id}').innerText"))


def write_labels(shown: Shown, text: str) -> None:
    shown.page.evaluate(
        f"document.getElementById('labels').value = {json.dumps(text)};"
        "document.getElementById('labels').dispatchEvent(new Event('input'))"
    )


def test_the_page_shows_that_it_answers_as_the_checkpoint(shown: Shown) -> None:
    assert re.fullmatch(r"Ready in [\d.]+ s, \d threads?\.", text(shown, "state"))
    summary = shown.page.evaluate("document.querySelector('#proof summary').innerText")
    assert summary == "Answers to 40 golden inputs: equal to the checkpoint's"
    assert text(shown, "model").startswith("nano, fp32, 26.")
    shown.page.resize(390, dark=True)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
    shown.page.resize(1280)


def test_probabilities_are_those_of_classify(shown: Shown, exports: Exports, pizza: Path) -> None:
    wanted = mcd.classify(exports.bundle("onnx", "fp32"), [pizza], labels=LABELS)[0].probabilities
    write_labels(shown, "\n".join(LABELS))
    shown.page.choose("#picture", pizza)
    shown.page.wait("document.querySelectorAll('#answers li').length === 5")
    rows = shown.page.evaluate(
        "[...document.querySelectorAll('#answers li')].map((one) => [one.firstChild.textContent, one.lastChild.value])"
    )
    found = dict(rows)
    assert list(found) == sorted(wanted, key=lambda label: -wanted[label])
    assert found == pytest.approx(dict(wanted), abs=1e-4)


def test_one_label_is_none_and_what_is_no_picture_or_larger_than_100_megabytes_is_said(
    shown: Shown, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    shown.page.choose("#picture", tmp_path / "broken.png")
    shown.page.wait("document.getElementById('label-problem').textContent.startsWith('broken.png: not a picture')")
    for labels in ("pizza", "", " \n "):
        write_labels(shown, labels)
        shown.page.wait("document.getElementById('label-problem').textContent.includes('two labels or more')")
        assert shown.page.evaluate("document.querySelectorAll('#answers li').length") == 0
        shown.page.evaluate("document.getElementById('label-problem').textContent = ''")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(100_000_001)  # takes no room on the disk
    shown.page.choose("#picture", tmp_path / "large.png")
    shown.page.wait("document.getElementById('label-problem').textContent === 'large.png: larger than 100 MB.'")


def test_labels_stay_text_whatever_they_say(shown: Shown, pizza: Path) -> None:
    hostile = ["<img src=x onerror=alert(1)>", "</li><script>alert(1)</script>", "{}", "\u202e evil", "a" * 5000]
    write_labels(shown, "\n".join([*hostile, hostile[0]]))
    shown.page.choose("#picture", pizza)
    shown.page.wait("document.querySelectorAll('#answers li').length === 5")
    rows = shown.page.evaluate("[...document.querySelectorAll('#answers li')].map((one) => one.firstChild.textContent)")
    assert sorted(rows) == sorted(hostile)
    assert shown.page.evaluate("document.querySelectorAll('#answers img, #answers script').length") == 0


def test_pictures_are_found_by_words_and_stay_text_whatever_they_are_called(shown: Shown) -> None:
    shown.page.wait(INDEXED)
    shown.page.evaluate(
        "document.getElementById('words').value = 'pizza'; document.querySelector('#search button').click()"
    )
    shown.page.wait("document.querySelectorAll('#found img').length === 3")
    assert shown.page.evaluate("document.querySelector('#found img').alt") == "<img src=x onerror=alert(1)>/pizza.png"


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_complained_about(shown: Shown) -> None:
    loaded = shown.page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert loaded
    assert [name for name in loaded if not name.startswith((shown.address, "blob:"))] == []
    assert shown.page.complaints == []


@pytest.mark.slow  # tests/benchmark/browser measures in Firefox
def test_firefox_answers_alike(exports: Exports, library: Path, npm: None, pizza: Path) -> None:
    bundle = exports.bundle("onnx", "fp32")
    wanted = mcd.classify(bundle, [pizza], labels=LABELS)[0].probabilities
    with _served(DemoPage.of(bundle, library, False, silent)) as server, open_firefox() as page:
        page.visit(server.address)
        page.wait(READY)
        summary = page.evaluate("document.querySelector('#proof summary').innerText")
        assert summary == "Answers to 40 golden inputs: equal to the checkpoint's"
        page.evaluate(f"document.getElementById('labels').value = {'|'.join(LABELS)!r}.replaceAll('|', '\\n')")
        page.choose("#picture", pizza)
        page.wait("document.querySelectorAll('#answers li').length === 5")
        rows = page.evaluate(
            "[...document.querySelectorAll('#answers li')].map((one) => one.innerText.split('\\n')[0])"
        )
        assert rows == sorted(wanted, key=lambda label: -wanted[label])
        shares = page.evaluate("[...document.querySelectorAll('#answers meter')].map((one) => one.value)")
        assert shares == pytest.approx(sorted(wanted.values(), reverse=True), abs=1e-4)
        page.wait(INDEXED)
        page.evaluate("(document.getElementById('words').value = 'pizza')")
        page.evaluate("document.querySelector('#search button').click()")
        page.wait("document.querySelectorAll('#found img').length === 3")
        assert page.evaluate("document.querySelector('#found img').alt").endswith("/pizza.png")
        assert page.evaluate("crossOriginIsolated") is True


def test_a_written_page_holds_all_that_it_loads_and_the_licences(
    exports: Exports, library: Path, npm: None, tmp_path: Path
) -> None:
    bundle = exports.bundle("onnx", "fp32").path
    found = run("demo", bundle, "--static", tmp_path / "site", "--images", library, "--json")
    assert found.code == 0, found.stderr
    assert found.json == {"schema_version": 1, "address": None, "folder": str(tmp_path / "site")}
    written = {
        path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()
    }
    assert {
        "index.html",
        "offline.js",
        "settings.json",
        "runtime/LICENSE.txt",
        "bundle/onnx/vision_model.onnx",
    } <= written
    assert {"bundle/golden.safetensors", "bundle/tokenizer/vocab.json", "images/0", "images/3"} <= written
    assert strict_json((tmp_path / "site/settings.json").read_text(encoding="utf-8"))["offline"] is True
    assert "replace it with --force" in refusal(run("demo", bundle, "--static", tmp_path / "site"))
    assert write_demo(bundle, tmp_path / "site", force=True) == tmp_path / "site"
    assert not (tmp_path / "site/images").exists()


@pytest.mark.slow
def test_without_a_bundle_the_built_in_network_is_shown_with_emoji_to_search(npm: None, tmp_path: Path) -> None:
    found = run("demo", "--static", tmp_path / "site")
    assert (found.code, found.stdout) == (0, f"wrote {tmp_path / 'site'}\n")
    assert "Using the built-in checkpoint nano; name a bundle to show your own." in found.stderr
    settings = strict_json((tmp_path / "site/settings.json").read_text(encoding="utf-8"))
    assert settings["title"].startswith("nano, fp32, 26.")
    assert "1f355.png" in settings["images"]
    assert len(settings["images"]) == len(list((tmp_path / "site/images").iterdir())) == 460
    refused = run("demo", "--static", tmp_path / "other", "--images", tmp_path / "gone")
    assert "is not a folder" in refusal(refused)
    assert "converting" not in refused.stderr


def keep_at_most(page: Page, size: int, server: PageServer) -> None:
    """However much room this machine has, pages of this server may keep so many bytes."""
    page.call("Storage.overrideQuotaForOrigin", origin=f"http://127.0.0.1:{server.server_port}", quotaSize=size)


@pytest.mark.slow
def test_a_written_page_opens_again_without_a_network(exports: Exports, npm: None, tmp_path: Path) -> None:
    site = write_demo(exports.bundle("onnx", "fp32"), tmp_path / "site")
    files = {path.relative_to(site).as_posix(): path for path in site.rglob("*") if path.is_file()}
    state = "document.getElementById('state').textContent"
    with open_page() as page:
        with serving(PageServer(files, {})) as server:
            keep_at_most(page, 10**9, server)
            page.visit(server.address)
            page.wait("navigator.serviceWorker.controller")
            page.visit(server.address)  # now what is loaded is kept
            page.wait(READY)
            assert page.evaluate(state).startswith("Ready")
            assert page.evaluate("document.getElementById('kept').textContent") == ""
        page.visit(server.address)
        page.wait(READY)
        assert page.evaluate(state).startswith("Ready")
        assert page.evaluate("document.querySelector('#proof summary').innerText").endswith("equal to the checkpoint's")
        with serving(PageServer(files, {})) as server:
            keep_at_most(page, 10**6, server)
            page.visit(server.address)
            page.wait("navigator.serviceWorker.controller")
            page.visit(server.address)
            page.wait(READY)
            assert page.evaluate(state).startswith("Ready")
            page.wait("document.getElementById('kept').textContent.includes('Quota exceeded')")


@pytest.mark.slow
def test_the_command_says_the_address_and_ends_with_ctrl_c(exports: Exports, tmp_path: Path, cached: None) -> None:
    command = [*PROGRAM, "demo", str(exports.bundle("onnx", "fp32").path), "--open"]
    opener, opened = tmp_path / "xdg-open", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\nstat -c %a "$1" > {opened}\necho "$1" >> {opened}\ncat "$1" >> {opened}\n')
    opener.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    line = running.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/\n", line)
    running.stderr.readline()
    deadline = time.monotonic() + 20
    while not (opened.exists() and line.strip() in opened.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    mode, words, _ = opened.read_text().split("\n", 2)
    assert (mode, line.strip() in words) == ("600", False)  # everybody sees a process's words
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert running.stderr.read().endswith("error: interrupted: the page has ended\n")


def test_a_picture_whose_name_is_not_utf_8_is_shown_escaped(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime").mkdir()
    for name in web_demo.PLAIN:
        (tmp_path / "runtime" / name).touch()
    monkeypatch.setattr(web_demo, "runtime_folder", lambda _: tmp_path / "runtime")
    (tmp_path / "pictures").mkdir()
    shutil.copy(next(PICTURES.iterdir()), os.fsencode(tmp_path / "pictures") + b"/a\xff.png")
    page = write_demo(exports.bundle("onnx", "fp32"), tmp_path / "page", images=tmp_path / "pictures")
    assert json.loads((page / "settings.json").read_text(encoding="utf-8"))["images"] == [r"a\xff.png"]


def test_what_has_no_page_is_refused(exports: Exports, tmp_path: Path, cached: None) -> None:
    assert "does not run in browsers" in refusal(run("demo", exports.bundle("coreml", "fp16").path))
    bundle = exports.bundle("onnx", "fp32").path
    assert "is not a folder" in refusal(run("demo", bundle, "--images", tmp_path / "gone"))
    assert "has no pictures" in refusal(run("demo", bundle, "--images", tmp_path))
    changed = exports.copy("onnx", "fp32", tmp_path)
    shutil.rmtree(changed / "tokenizer")
    rehash(changed)
    assert "tokenizer/vocab.json is missing" in refusal(run("demo", changed))
    with edited_json(changed / "manifest.json") as manifest:  # as `--joint only` writes it
        for tower, entry in manifest["towers"].items():
            entry["function"] = tower
    assert "needs a file of each tower; export with --joint also" in refusal(run("demo", changed))
