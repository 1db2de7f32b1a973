"""From an empty account to a row of the table: the lines of docs/farms.md, typed against the stand-in of gcloud."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from benchmark.ddp.standin import Cloud, install_gcloud
from building import ROOT
from command_line import Outcome, run
from exports import Exports

from mobileclip_deploy.benchmark.documents import read_result


def lines() -> list[str]:
    """The ten lines of the page."""
    page = (ROOT / "docs" / "farms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n(gcloud auth login\n.*?)```", page, re.DOTALL)
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture
def desk(service: Cloud, without_phones: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a `gcloud` on PATH, nobody signed in, and no bucket."""
    tools, checkout = tmp_path / "tools", tmp_path / "checkout"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(install_gcloud(tools, service)), prepend=":")
    service.bucket.rmdir()
    (checkout / "benchmarks" / "devices").mkdir(parents=True)
    monkeypatch.chdir(checkout)
    return checkout


def typed(line: str, desk: Path, built: Path | None = None, exports: Exports | None = None) -> Outcome | str:
    """Runs a line. A build takes minutes, and so does an export: their results are put in their places."""
    words = shlex.split(line)
    if words[0] == "gcloud":
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert built is not None
    assert exports is not None
    if words == ["make", "android-runners"]:
        shutil.copytree(built / "bin", desk / "dist" / "runners.zip")
    elif words[:2] == ["mobileclip-deploy", "export"]:
        assert words[2:] == ["--target", "onnx", "-o", "out"]
        shutil.copytree(exports.unverified("onnx", "fp32", "both").path, desk / "out" / "nano-onnx-fp32")
    elif words[0] == "mobileclip-deploy":
        more = ["--quick"] if words[1] == "benchmark" else []
        return run(*[str(next(desk.glob(word), word)) if "*" in word else word for word in words[1:]], *more)
    else:
        assert words == ["python", "benchmarks/page.py"]
    return ""


def section(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))  # scripts there import one another
    return runpy.run_path(str(ROOT / "benchmarks" / "devices.py"))["section"]


@pytest.mark.slow
def test_ten_lines_lead_to_a_row_for_each_phone(
    desk: Path, built: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed_lines = lines()
    assert len(typed_lines) == 10
    outcomes = [typed(line, desk, built, exports) for line in typed_lines]
    listed, measured = outcomes[6], outcomes[8]
    assert isinstance(listed, Outcome)
    assert isinstance(measured, Outcome)
    assert "ddp:caiman-35" in listed.stdout
    assert measured.code == 0, measured.stderr
    assert "2 phones: SIMULATED protocol standard-quick" in measured.stdout
    for phone in ("Pixel 9 Pro", "Galaxy S25 Ultra"):
        assert f"Renting {'caiman-35' if 'Pixel' in phone else 'pa3q-35'} ({phone}, Android API 35)" in measured.stderr
    devices = desk / "benchmarks" / "devices"
    assert sorted(path.name for path in devices.iterdir()) == ["rented-caiman-35.json", "rented-pa3q-35.json"]
    own = section(monkeypatch)
    with pytest.raises(ValueError, match="it is simulated: a stand-in answered in the device's place"):
        own(devices)
    for path in devices.iterdir():  # as a phone would have sent it
        result = read_result(path)
        assert result.device.simulated
        assert result.device.rental
        assert all(cell.golden and cell.golden.passed for cell in result.cells)
        document = json.loads(path.read_text())
        document["device"]["simulated"] = False
        document["job"]["protocol"]["name"] = "standard"
        path.write_text(json.dumps(document))
    rows = [line for line in own(devices).splitlines() if line.startswith("| ") and "nano-onnx-fp32" in line]
    assert len(rows) == 4  # both towers of each
    assert all("rented: " in row for row in rows)


NEEDED = {
    "gcloud auth login": r"gcloud is not signed in to Google Cloud; type: gcloud auth login",
    "gcloud projects create": r"no project of Google Cloud is chosen; type: gcloud config set project PROJECT",
    "gcloud services": r"the project our-phones has no Device Run API; type: gcloud services enable devicerun",
}


@pytest.mark.parametrize("missing", NEEDED)
def test_a_line_that_was_forgotten_is_named(missing: str, desk: Path) -> None:
    for line in (line for line in lines() if line.startswith("gcloud") and "storage" not in line):
        if not line.startswith((missing, "gcloud billing")):
            typed(line, desk)
    (row,) = [row for row in run("devices", "--json").json if row["device"].startswith("ddp")]
    assert row["state"] == "out of reach"
    assert re.match(NEEDED[missing], row["remedy"])


PAID = {
    "gcloud billing": r"the project our-phones has no billing account, and rented phones cost money; link one: https",
    "gcloud storage": r"there is no bucket gs://our-phones-devicerun; type: gcloud storage buckets create gs://our-phones",
}


@pytest.mark.slow
@pytest.mark.parametrize("missing", PAID)
def test_a_line_that_was_forgotten_ends_the_measurement(
    missing: str, desk: Path, built: Path, exports: Exports
) -> None:
    *before, last = lines()[:9]
    for line in before:
        if not line.startswith(missing):
            typed(line, desk, built, exports)
    failed = typed(last, desk, built, exports)
    assert isinstance(failed, Outcome)
    assert failed.code == 3
    assert re.search(PAID[missing], failed.stderr)
    assert len([line for line in failed.stderr.splitlines() if line.startswith("error:")]) == 1
    assert list((desk / "benchmarks" / "devices").iterdir()) == []
