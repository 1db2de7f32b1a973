"""The Android app that measures by itself, from its first screen to the result, on stand-ins of Android's classes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import onnx
import pytest
from benchmark.android import harness
from building import ROOT, locked
from clients.test_kotlin import FETCHED, onnxruntime
from command_line import run
from exports import Exports, rehash
from json_files import edited_json
from programs import output, script, serving

from mobileclip_deploy.benchmark.documents import read_result

APP, CORE = ROOT / "android_harness" / "app", ROOT / "clients" / "java" / "src" / "mobileclip"
JDK = "apt-get install default-jdk-headless"
HERE = Path(__file__).with_name("java")
FRAMEWORK = "/usr/share/android-framework-res/framework-res.apk"
STRICT = ("-Xlint:all,-options", "-Werror")


def test_the_app_s_device_takes_jobs_alone_and_of_its_runtime(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp32").path
    found = run("benchmark", bundle, "--device", "android:app", "--json", tmp_path / "none.json")
    assert (found.code, found.stderr.splitlines()[-1][:40]) == (
        2,
        "error: the app measures alone: write its",
    )
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


@dataclass(frozen=True)
class Screen:
    """What a phone showed: after each tap (`shown`), and on the way there (`passed`)."""

    shown: list[str]
    passed: list[str]


Use = Callable[..., Screen]


@pytest.fixture(scope="module")
def use(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Use:
    """The app, compiled against stand-ins of Android's classes: a phone's folder and what is tapped -> Screen."""
    java, javac = require_tool("java", JDK), require_tool("javac", JDK)
    FETCHED.mkdir(parents=True, exist_ok=True)
    with locked(FETCHED / ".lock"):
        runtime = onnxruntime()
    android, app = (tmp_path_factory.mktemp(name) for name in ("android", "app"))
    compile_android(javac, android)
    sources = [CORE / "Json.java", CORE / "MobileCLIPException.java", *(APP / "src").rglob("*.java")]
    words = ["--release", "8", *STRICT, "-cp", f"{android}:{runtime}", "-d", app]
    subprocess.run([javac, *words, *sources], check=True, timeout=300)

    def using(phone: Path, *taps: str, hardware: str = "zuma", opened: str | None = None, warm: int = 10**6) -> Screen:
        for folder in ("Download", "files", "assets"):
            (phone / folder).mkdir(parents=True, exist_ok=True)
        words = [f"-Dphone={phone}", f"-Dhardware={hardware}", f"-Dwarm={warm}", "-cp", f"{android}:{app}:{runtime}"]
        words += [] if opened is None else [f"-Dopened={opened}"]
        printed = output(java, *words, "Screen", "mobileclip.bench.BenchActivity", *taps, timeout=300)
        shown = re.findall(r"^AFTER .*\n((?:.*\n)*?)END$", printed, re.MULTILINE)
        assert len(shown) == 1 + len(taps)
        return Screen(shown, [line for line in printed.splitlines() if line.startswith(("...", "STARTED", "The "))])

    return using


def compile_android(javac: str, into: Path) -> None:
    """The stand-ins of Android's classes, and what uses a screen of theirs."""
    sources = [*(ROOT / "tests" / "android_classes" / "android").rglob("*.java"), *HERE.glob("*.java")]
    subprocess.run([javac, "--release", "11", *STRICT, "-d", into, *sources], check=True, timeout=300)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "jobs"))
    with serving(handler) as address:
        yield address


@pytest.fixture
def job(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job of a bundle whose models the Java classes' older runtime reads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = exports.copy("onnx", "fp32", tmp_path)
    for file in bundle.rglob("*.onnx"):
        model = onnx.load(file)
        model.ir_version = 9
        onnx.save(model, file)
    rehash(bundle)
    return written(bundle, tmp_path)


@pytest.mark.slow  # it fetches ONNX Runtime's Java classes
def test_a_phone_measures_by_itself_says_whether_answers_are_right_and_report_reads_it(
    use: Use, served: str, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, measure = tmp_path / "phone", f"Run {job.name}"
    link = f"type= {served}/{job.name}"
    told = use(phone, link, "Fetch a job", measure, "Share the result", hardware="ranchu")
    assert told.passed[0] == "The screen is kept on."
    assert told.shown[0].splitlines() == ["(https:// of a job's folder)", "[Fetch a job]", ""]
    assert told.shown[2].splitlines() == [
        f"[{measure}]",
        f"( {served}/{job.name})",
        "[Fetch a job]",
        f"Fetched {job.name}.",
    ]
    turns = [line for line in told.passed if " of 4 rounds|" in line]
    assert len(turns) == 5
    assert all(f"[off: {measure}]" in line and "Keep the screen on" in line for line in turns)
    lines = told.shown[3].splitlines()
    assert [lines[0], *lines[3:6], lines[-1]] == [
        f"[{measure}]",
        "SIMULATED: this is no phone; its figures are nobody's latency.",
        "",
        "Self-reported:",
        "[Share the result]",
    ]
    right = r"  [\d.]+ ms, 2 of 2 rounds, answers right: relative \S+ \(gate \S+\), 4 of 8"
    for name, said in ((lines[6], lines[7]), (lines[8], lines[9])):
        assert re.fullmatch(r"nano-onnx-fp32\.\w+\.onnxruntime-cpu\.t1", name)
        assert re.fullmatch(right, said), said
    record = phone / "files" / "results" / f"{job.name}.run.json"
    place = f"content://media/external/downloads/{record.name}"
    send = f"android.intent.action.SEND application/json 1 {{android.intent.extra.STREAM={place}}}"
    assert told.passed[-1] == f"STARTED android.intent.action.CHOOSER null 0 {{android.intent.extra.INTENT={send}}}"
    assert (phone / "Download" / record.name).read_bytes() == record.read_bytes()
    result = read_result(record)
    assert [(cell.status, cell.golden and cell.golden.passed) for cell in result.cells] == [("done", True)] * 2
    assert (result.self_reported, result.device.name, result.device.simulated) == (False, "Google Pixel 8", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another computer"))
    assert read_result(record).self_reported

    # Killed while a line was written: what is whole stays, the rest is measured again.
    stream = record.with_name(f"{job.name}.rounds.jsonl")
    first, *_ = lines = stream.read_text().splitlines(keepends=True)
    stream.write_text(first + lines[1][:30])
    assert "SIMULATED" not in use(phone, measure).shown[1]
    again = stream.read_text().splitlines(keepends=True)
    assert (again[0], len(again)) == (first, 4)


@pytest.mark.slow  # as the one before
def test_what_the_app_refuses_stands_on_its_screen(use: Use, served: str, job: Path, tmp_path: Path) -> None:
    with edited_json(job / "job.json") as document:
        document["protocol"]["cool_seconds"] = 60.0
        for cell in document["cells"]:
            cell["gate"]["bound"] = -1.0
    with edited_json(job / "files.json") as listing:
        (entry,) = [one for one in listing["files"] if one["path"] == "job.json"]
        raw = (job / "job.json").read_bytes()
        entry |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    # A job within the APK is there at the first screen.
    phone = tmp_path / "packed"
    shutil.copytree(job, phone / "assets" / "jobs" / job.name)
    link = "mobileclip-bench:?job=https%3A//example.org/a+b%20c"
    first, last = use(phone, f"Run {job.name}", opened=link, warm=4).shown
    assert first.startswith(f"[Run {job.name}]\n(https://example.org/a+b c)\n")
    assert [" ms" in line for line in last.splitlines() if line.startswith("  WRONG ANSWERS: relative ")] == [False] * 2
    # The phone was warm for 4 s: the first round waited, no other one did.
    stream = phone / "files" / "results" / f"{job.name}.rounds.jsonl"
    rounds = [json.loads(line) for line in stream.read_text().splitlines()]
    assert [line["thermal_state"] for line in rounds] == ["nominal"] * len(rounds)
    assert 0 < rounds[0]["cooled_seconds"] < 10
    assert not any("cooled_seconds" in line for line in rounds[1:])

    (job / "models" / "added").write_text("")
    next((job / "golden").iterdir()).write_bytes(b"damaged")
    damaged = tmp_path / "damaged"
    told = use(
        damaged,
        *(f"type={served}/{job.name}/files.json", "Fetch a job"),
        *("type=http://192.0.2.1/job", "Fetch a job", "open=mobileclip-bench:?job=file:///etc", "Fetch a job"),
    ).shown
    assert "is not the file that files.json names; write the job again" in told[2]
    assert not list((damaged / "files" / "runs").glob(f"{job.name}*"))  # a part of it would be offered as a run
    assert "outside of your own network the link has to begin with https://" in told[4]
    assert "the link has to begin with https:// or http://" in told[6]


@pytest.mark.slow  # it fetches ONNX Runtime's AAR
def test_the_workflow_s_script_builds_an_apk_with_a_job_in_it(
    require_tool: Callable[[str, str], str], exports: Exports, tmp_path: Path
) -> None:
    """.github/scripts/android_app.sh, with an SDK of stand-ins: android.jar's classes and d8. All else is Debian's."""
    harness.needs("aapt2", "zipalign", "apksigner", "smali", "javac", headers=False)
    require_tool("npm", "apt-get install npm")
    FETCHED.mkdir(parents=True, exist_ok=True)
    with locked(FETCHED / ".lock"):
        subprocess.run([ROOT / "clients/kotlin/fetch.sh", FETCHED], check=True, timeout=500)
    checkout, sdk = tmp_path / "checkout", tmp_path / "sdk"
    for folder in (
        ".github/scripts",
        "android_harness/app",
        "android_harness/farm",
        "clients/java/src",
        "tests/android_classes",
    ):
        shutil.copytree(ROOT / folder, checkout / folder)
    aar = checkout / "android_harness/build/package/Plugins/Android/onnxruntime.aar"
    aar.parent.mkdir(parents=True)
    aar.symlink_to(FETCHED / "onnxruntime.aar")
    (checkout / "out").mkdir()
    (checkout / "out/nano-onnx-fp32").symlink_to(exports.bundle("onnx", "fp32").path)
    compile_android("javac", tmp_path / "classes")
    platform = sdk / "platforms/android-34/android.jar"
    platform.parent.mkdir(parents=True)
    shutil.copy(FRAMEWORK, platform)
    with zipfile.ZipFile(platform, "a") as jar:
        for file in (tmp_path / "classes").rglob("*.class"):
            jar.write(file, file.relative_to(tmp_path / "classes"))
    d8 = sdk / "build-tools/34.0.0/d8"
    script(d8, f'exec {sys.executable} {Path(__file__).with_name("d8.py")} "$@"')
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANDROID_HOME": str(sdk),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def built() -> subprocess.CompletedProcess[str]:
        command = [checkout / ".github/scripts/android_app.sh"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)

    done = built()
    assert done.returncode == 0, done.stdout + done.stderr
    assert " classes are compared; not in " in done.stdout
    apk = checkout / "bench.apk"
    (job,) = (checkout / "app-job").iterdir()
    badging = output("aapt2", "dump", "badging", apk)
    assert "launchable-activity: name='mobileclip.bench.BenchActivity'" in badging
    assert {line for line in badging.splitlines() if line.startswith(("sdkVersion", "native-code"))} == {
        "sdkVersion:'29'",
        "native-code: 'arm64-v8a'",
    }
    manifest = output("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", apk)
    assert 'android:scheme(0x01010027)="mobileclip-bench"' in manifest
    output("zipalign", "-c", "4", apk)
    output("apksigner", "verify", "--min-sdk-version", "29", apk)
    with zipfile.ZipFile(apk) as archive:
        names = archive.namelist()
        code = archive.read("classes.dex")
        assert archive.read(f"assets/jobs/{job.name}/job.json") == (job / "job.json").read_bytes()
    assert {name for name in names if name.startswith("assets/")} == {
        f"assets/jobs/{path.relative_to(job.parent).as_posix()}" for path in job.rglob("*") if path.is_file()
    }
    assert {"lib/arm64-v8a/libonnxruntime.so", "lib/arm64-v8a/libonnxruntime4j_jni.so"} <= set(names)
    for name in (b"Lmobileclip/bench/BenchActivity;", b"Lmobileclip/BenchRun;", b"Lai/onnxruntime/OrtSession;"):
        assert name in code

    # A class that is declared in another way than the SDK's ends the script.
    view = checkout / "tests/android_classes/android/view/View.java"
    view.write_text(view.read_text().replace("public boolean isEnabled()", "public final boolean isEnabled()"))
    done = built()
    assert done.returncode == 1
    assert done.stdout.startswith("public final boolean isEnabled(): there are [public boolean isEnabled()]\n")
