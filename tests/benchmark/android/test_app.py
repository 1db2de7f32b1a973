"""The Android app that measures by itself, without its screen: on a Java machine, with ONNX Runtime's Java classes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import onnx
import pytest
from clients.test_kotlin import FETCHED, onnxruntime
from command_line import run
from conversions import ROOT, locked
from exports import Exports

from mobileclip_deploy.benchmark.documents import read_result

APP, CORE = ROOT / "android_harness" / "app", ROOT / "clients" / "java" / "src" / "mobileclip"
JDK = "apt-get install default-jdk-headless"


def test_the_app_s_device_takes_jobs_alone_and_of_its_runtime(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp32").path
    found = run("benchmark", bundle, "--device", "android:app", "--json", tmp_path / "none.json")
    assert (found.code, found.stderr.splitlines()[-1][:40]) == (2, "error: the app measures by itself: write")
    job = written(bundle, tmp_path)
    assert {path.name for path in job.iterdir()} == {"job.json", "files.json", "golden", "models"}
    cells = json.loads((job / "job.json").read_text())["cells"]
    assert {(cell["runtime"], cell["backend"]) for cell in cells} == {("onnxruntime", "cpu")}
    assert [cell["golden"]["outputs"]["shape"][0] for cell in cells] == [4, 4]


def written(bundle: Path, folder: Path) -> Path:
    done = run("benchmark", bundle, "--device", "android:app", "--quick", "--job", folder / "jobs")
    assert done.code == 0, done.stderr
    (job,) = (folder / "jobs").iterdir()
    return job


@pytest.fixture(scope="module")
def bench(
    require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The app's measuring part and what stands for its screen, compiled: a command that takes a link and a folder."""
    java, javac = require_tool("java", JDK), require_tool("javac", JDK)
    FETCHED.mkdir(parents=True, exist_ok=True)
    with locked(FETCHED / ".lock"):
        runtime = onnxruntime()
    classes = tmp_path_factory.mktemp("bench")
    sources = [CORE / "Json.java", CORE / "MobileCLIPException.java", *(APP / "src" / "mobileclip").glob("*.java")]
    words = ["--release", "8", "-Xlint:all,-options", "-Werror", "-cp", runtime, "-d", classes]
    subprocess.run([javac, *words, *sources, Path(__file__).with_name("app") / "Bench.java"], check=True, timeout=300)

    def asked(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [java, "-cp", f"{classes}:{runtime}", "Bench", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    return asked


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "jobs"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def readable(bundle: Path, folder: Path) -> Path:
    """A copy whose models the Java classes' older runtime reads."""
    copy = folder / bundle.name
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    for entry in manifest["towers"].values():
        file = copy / entry["file"]
        model = onnx.load(file)
        model.ir_version = 9
        onnx.save(model, file)
        entry |= {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def change(job: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((job / "job.json").read_text())
    edit(document)
    (job / "job.json").write_text(json.dumps(document))
    listing = json.loads((job / "files.json").read_text())
    (entry,) = [one for one in listing["files"] if one["path"] == "job.json"]
    raw = (job / "job.json").read_bytes()
    entry |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    (job / "files.json").write_text(json.dumps(listing))


@pytest.mark.whole  # it fetches ONNX Runtime's Java classes
def test_a_phone_measures_by_itself_says_whether_answers_are_right_and_report_reads_it(
    bench: Callable[..., subprocess.CompletedProcess[str]],
    served: str,
    exports: Exports,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = written(readable(exports.bundle("onnx", "fp32").path, tmp_path), tmp_path)
    done = bench(f"{served}/{job.name}", tmp_path / "phone")
    assert done.returncode == 0, done.stderr
    right = (
        r"nano-onnx-fp32\.\w+\.onnxruntime-cpu\.t1: [\d.]+ ms, 2 of 2 rounds, "
        r"answers right: relative \S+ \(gate \S+\), 4 of 8"
    )
    told = done.stdout.splitlines()[-2:]
    assert all(re.fullmatch(right, line) for line in told), told
    record = tmp_path / "phone" / "results" / f"{job.name}.run.json"
    result = read_result(record)
    assert [(cell.status, cell.golden and cell.golden.passed) for cell in result.cells] == [("done", True)] * 2
    assert (result.self_reported, result.device.name) == (False, "stand-in")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another computer"))
    assert read_result(record).self_reported

    # Killed while a line was written: what is whole stays, the rest is measured again.
    stream = record.with_name(f"{job.name}.rounds.jsonl")
    first, *_ = lines = stream.read_text().splitlines(keepends=True)
    stream.write_text(first + lines[1][:30])
    assert bench(f"{served}/{job.name}/files.json", tmp_path / "phone").returncode == 0
    again = stream.read_text().splitlines(keepends=True)
    assert (again[0], len(again)) == (first, 4)

    change(job, lambda document: [cell["gate"].update(bound=-1.0) for cell in document["cells"]])
    done = bench(f"{served}/{job.name}", tmp_path / "wrong")
    assert [": WRONG ANSWERS: relative " in line for line in done.stdout.splitlines()[-2:]] == [True, True], done.stdout
    (job / "models" / "added").write_text("")
    next((job / "golden").iterdir()).write_bytes(b"damaged")
    done = bench(f"{served}/{job.name}", tmp_path / "damaged")
    assert "is not the file that files.json names; write the job again" in done.stderr
    assert not list((tmp_path / "damaged" / "runs").glob(job.name))
    refused = bench("http://example.com/job", tmp_path / "far")
    assert "has to begin with https" in refused.stderr or "UnknownHost" in refused.stderr
