"""The APKs for farms: what stands in them, and their code, translated for Java's machine, measuring here."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from benchmark.android import harness, tiny
from benchmark.android.scripted import scripted_runners
from benchmark.android.test_app import compile_android
from programs import loaded, output, script

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android.session import write_job_folder
from mobileclip_deploy.benchmark.android.settings import AndroidSettings, find_runners
from mobileclip_deploy.benchmark.documents import read_result

TOOLS = ("aapt2", "smali", "zipalign", "apksigner", "keytool")


def building() -> Any:
    """What packs the APKs (android_harness/farm/build.py)."""
    return loaded(harness.SOURCE / "farm" / "build.py")


@pytest.fixture(scope="module")
def packed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A job of the tiny model with scripted runners, its app and its test."""
    harness.needs(*TOOLS, "javac", "enjarify", headers=False)
    place = tmp_path_factory.mktemp("farm")
    programs = scripted_runners(built, place / "bin")
    plan = tiny.plan(place / "plan")
    runners = find_runners(programs, plan.proven, silent)
    job = write_job_folder(plan, runners, AndroidSettings(turn_seconds=60), place / "jobs")
    return (job, *building().build(job, place / "apks"))


@pytest.mark.slow  # it signs two APKs; what the farm runs is below
def test_both_apks_are_signed_by_one_key_and_the_test_carries_the_job(packed: tuple[Path, Path, Path]) -> None:
    job, app, test = packed
    certificates = {
        re.findall(r"certificate SHA-256 digest: (\w+)", output("apksigner", "verify", "--print-certs", path))[0]
        for path in (app, test)
    }
    assert len(certificates) == 1
    assert {path.name for path in app.parent.iterdir()} == {"app.apk", "test.apk"}
    for path in (app, test):
        output("zipalign", "-c", "4", path)
        assert "sdkVersion:'29'" in output("aapt2", "dump", "badging", path)
    with zipfile.ZipFile(test) as archive:
        carried = {name.removeprefix("assets/") for name in archive.namelist() if name.startswith("assets/")}
        assert archive.read("assets/run.sh") == (job / "run.sh").read_bytes()
    assert carried == {path.relative_to(job).as_posix() for path in job.rglob("*") if path.is_file()}
    assert {"run.sh", "bin/mobileclip-bench", "job/job.json"} <= carried
    manifest = output("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", test)
    assert 'targetPackage(0x01010021)="org.mobileclipdeploy.farm"' in manifest
    assert "package: name='org.mobileclipdeploy.farm' " in output("aapt2", "dump", "badging", app)


def test_its_code_runs_the_job_and_ends_as_a_test_that_passed_or_failed(
    packed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    job, app, test = packed
    machine = tmp_path / "machine"
    compile_android("javac", machine)
    for apk in (app, test):
        output("env", "PYTHON=/usr/bin/python3", "enjarify", apk, "-o", tmp_path / f"{apk.stem}.jar")  # Debian's
    tools = tmp_path / "tools"
    tools.mkdir()
    # Android's unzip, which a computer need not have.
    script(tools / "unzip", f'[ "$1 $2 $4" = "-o -q -d" ] && exec {sys.executable} -m zipfile -e "$3" "$5"')
    manifest = output("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", test)
    (code,) = re.findall(r'E: instrumentation.*\n.*name\(0x01010003\)="([\w.]+)"', manifest)
    paths = os.pathsep.join(str(path) for path in (machine, tmp_path / "app.jar", tmp_path / "test.jar"))
    command = ["java", "-cp", paths, f"-Dapk={test}", "Phone", code, str(tmp_path / "phone")]

    def instrument() -> list[str]:
        environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        return output(*command, env=environment).splitlines()

    about = "class=org.mobileclipdeploy.farm.Benchmark, current=1, numtests=1"
    told = instrument()
    assert told[0] == f"STATUS 1 {{=, {about}, test=run}}"
    assert told[-2] == f"STATUS 0 {{{about}, stream=., test=run}}"
    assert told[-1] == "CODE -1 {stream=mobileclip-shell-ended 0}"
    assert any("2/2 tiny.onnxruntime round 1 done, 3 inferences" in line for line in told)
    result = read_result(tmp_path / "phone/assets/results" / f"{job.name}.run.json")
    assert [cell.status for cell in result.cells] == ["done"]
    (tools / "unzip").write_text("#!/bin/sh\nexit 1\n")
    told = instrument()
    assert told[-2].startswith(f"STATUS -2 {{{about}, stack=sh {tmp_path / 'phone'}/assets/run.sh wrote nothing")


def test_what_it_needs_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    for made, said in (
        (
            None,
            f"{tmp_path}/job is no job: mobileclip-deploy benchmark BUNDLE --device android --job FOLDER writes one",
        ),
        ("run.sh", "apt-get install aapt libsmali-java zipalign apksigner default-jre-headless android-framework-res"),
    ):
        if made:
            (tmp_path / "job" / made).touch()
        monkeypatch.setattr(sys, "argv", ["build.py", f"{tmp_path}/job", "--framework", "absent.apk"])
        with pytest.raises(SystemExit) as ended:
            building().main()
        assert ended.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith(said)
