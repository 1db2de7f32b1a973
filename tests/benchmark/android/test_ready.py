"""The ready runners: put together where there is Python and adb alone, in the versions that bundles name."""

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from benchmark.android import harness
from benchmark.android.harness import WHEELS
from benchmark.android.standin import Phones
from conversions import ROOT
from elf import PAGE, load_alignments
from exports import Exports
from json_files import edited_json
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android import ready
from mobileclip_deploy.benchmark.android.driver import AndroidDriver
from mobileclip_deploy.benchmark.android.ready import ready_runners
from mobileclip_deploy.benchmark.android.settings import AndroidSettings
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.driver import Driver
from mobileclip_deploy.benchmark.host.driver import HostDriver
from mobileclip_deploy.benchmark.job import get_protocol, quick
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.request import RunOptions, make_request
from mobileclip_deploy.benchmark.running import run_benchmark
from mobileclip_deploy.errors import RuntimeFailed, UsageError

pytestmark = pytest.mark.slow  # test_driver.py measures

NEWEST = {"onnxruntime": frozenset({"1.32.0"})}


ARM = "aarch64"
both_machines = pytest.mark.parametrize("machine", ["x86_64", pytest.param(ARM, marks=pytest.mark.slow)])


@dataclass(frozen=True)
class Package:
    """The archive of ready runners, its files in a folder, and the folder of wheels that it was made with."""

    archive: Path
    files: Path
    wheels: Path
    machine: str


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Package]:
    """The archive of programs for this machine, or for 64-bit ARM."""

    @functools.cache
    def of(machine: str) -> Package:
        place = tmp_path_factory.mktemp("runners")
        folder = request.getfixturevalue("arm" if machine == ARM else "built") / "bin"
        wheels = WHEELS if machine == ARM else harness.wheels_of_this_machine(place / "wheels")
        assembling = harness.assembling()
        assembling.assemble(folder, wheels, place / "files", assembling.MACHINES[machine])
        return Package(assembling.pack(place / "files", place / "runners.zip"), place / "files", wheels, machine)

    return of


@pytest.fixture
def machine() -> str:
    """What the programs are for, where a test does not say."""
    return "x86_64"


@pytest.fixture
def installed(package: Callable[[str], Package], machine: str) -> Package:
    return package(machine)


@pytest.fixture
def files(installed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive's files, a cache that holds nothing, and wheels in a folder, which pip takes for PyPI."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{installed.wheels} {tmp_path / 'older'}")
    return installed.files


@pytest.mark.parametrize("machine", [ARM])
@pytest.mark.parametrize("phones", [{"arm": True}], indirect=True, ids=["arm"])
def test_a_fresh_environment_with_adb_alone_measures_on_a_phone(
    installed: Package, phones: Phones, tmp_path: Path
) -> None:
    """Nothing of the checkout, no compiler and no other program: our wheel's files, the archive, what pip installed."""
    python = fresh_environment(tmp_path / "fresh")
    measured = {"onnxruntime": "onnx", "executorch": "executorch"}
    # A small network: what emulation takes a minute for is arithmetic.
    with known(tmp_path) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        written = [mcd.export(model, target, "fp32", tmp_path, tower="text") for target in measured.values()]
    bundles = [str(bundle.path) for bundle in written]
    environment = {"PATH": str(phones.folder / "host")} | outside(phones, installed, tmp_path)
    command = [str(python), "-m", "mobileclip_deploy", "benchmark", *bundles, "--device", "android"]
    command += ["--quick", "--json", "result.json", "--runners", str(installed.archive)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "result.json")
    assert [(cell.status, cell.error) for cell in result.cells] == [("done", None)] * len(measured)
    assert all(cell.golden and cell.golden.passed and cell.summary for cell in result.cells)
    assert result.device.architecture == "arm64-v8a"
    assert result.device.simulated
    assert result.runtimes == {name: harness.version(name) for name in measured}
    assert result.harness.c_library == "glibc"
    assert any("compare it only with other glibc results" in text for text in run_warnings(result))
    # No terminal: a line a stage, and none for each look at what pip has fetched.
    for name in measured:
        number = harness.version(name).partition("+")[0]
        fetching = rf"^fetching {name} {re.escape(number)} for the phone: 0\.0 of .* MB$"
        assert len(re.findall(fetching, done.stderr, re.MULTILINE)) == 1
        assert f"\nunpacking {name} {number}\n" in done.stderr


def outside(phones: Phones, installed: Package, folder: Path) -> dict[str, str]:
    """Variables of a process that pip takes a folder of wheels for PyPI in, and the phones' storage for a phone's."""
    return {
        "HOME": str(folder / "home"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(installed.wheels),
        "MOBILECLIP_ANDROID_FOLDER": f"{phones.storage}/x",
    }


def fresh_environment(folder: Path) -> Path:
    """A virtual environment's Python: in it the files of our wheel; what else pip installs is where it is."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True)
    (place,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(
        ROOT / "mobileclip_deploy", place / "mobileclip_deploy", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "models", place / "mobileclip_deploy" / "models")
    others = [path for path in sys.path if Path(path).name == "site-packages"]  # behind ours; their .pth are not read
    (place / "others.pth").write_text("\n".join([*others, ""]))
    return folder / "bin" / "python"


@both_machines
def test_what_is_shipped_is_debians_own_with_its_licences(installed: Package) -> None:
    files, arm = installed.files, installed.machine == ARM
    contents = ready.Contents.model_validate_json((files / "runners.json").read_bytes())
    assert contents.files == {file.name: file_sha256(file) for file in files.iterdir() if file.name != "runners.json"}
    machine = harness.assembling().MACHINES[installed.machine]
    libraries = [name for name in contents.files if ".so" in name]
    assert {machine.loader, "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"} <= set(libraries)
    assert [name for name in libraries if (files / name).read_bytes() != (machine.system / name).read_bytes()] == []
    packages = {name.removeprefix("copyright.") for name in contents.files if name.startswith("copyright.")}
    assert packages == contents.debian_packages.keys()
    assert all(re.match(r"\d", version) for version in contents.debian_packages.values())
    if arm:  # pages of x86-64 have 4 KB
        aligned = {name: load_alignments((files / name).read_bytes()) for name in contents.files}
        assert len([name for name, found in aligned.items() if found]) > len(libraries)
        assert [name for name, found in aligned.items() if found and min(found) < PAGE] == []
    said = {name: (files / f"copyright.{name}").read_text(encoding="utf-8") for name in packages}
    assert "License: LGPL-2.1+" in said["libc6-arm64-cross" if arm else "libc6"]
    assert "Runtime Library Exception" in said["libstdc++6-arm64-cross" if arm else "libstdc++6"]


def test_what_was_fetched_is_kept_and_what_is_damaged_fetched_again(files: Path) -> None:
    told: list[str] = []
    found = ready_runners(files, NEWEST, told.append)
    assert re.fullmatch(r"fetching onnxruntime 1\.32\.0 for the phone: 0\.0 of \d+\.\d MB", told[0])
    assert told[-1] == "unpacking onnxruntime 1.32.0"
    told.clear()
    assert ready_runners(files, NEWEST, told.append) == found
    assert told == []
    (library,) = [file for file in found if file.name == "libonnxruntime.so"]
    library.write_bytes(b"damaged")
    assert ready_runners(files, NEWEST, told.append) == found
    assert told[-1].startswith("unpacking onnxruntime")
    assert library.stat().st_size > 1_000_000


def test_a_damaged_folder_of_runners_is_told_and_a_hash_that_is_not_the_named_one_refused(
    files: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(files, tmp_path / "damaged"))
    (copied / "libc.so.6").write_bytes(b"damaged")
    with pytest.raises(RuntimeFailed, match=r"libc\.so\.6 is missing or damaged: unpack the runners' archive again"):
        ready_runners(copied, NEWEST, silent)
    shutil.copy(files / "libc.so.6", copied)
    with edited_json(copied / "runners.json") as named:
        for one in named["wheels"]:
            one["sha256"] = "0" * 64
    with pytest.raises(RuntimeFailed, match=r"pip cannot fetch onnxruntime 1\.32\.0 for the phone \(.*[0-9a-f]{64}\)"):
        ready_runners(copied, NEWEST, silent)


def test_a_bundle_does_not_choose_a_runtimes_version_and_the_user_does(files: Path, tmp_path: Path) -> None:
    older = {"onnxruntime/capi/libonnxruntime.so.1.30.9": b"an older one"}
    harness.wheel("onnxruntime", "1.30.9", tmp_path / "older", older, machine="x86_64")
    proven = {"onnxruntime": {"1.30.9", "1.31.0"}}
    told: list[str] = []
    assert ready_runners(files, proven, told.append) == ready_runners(files, NEWEST, silent)
    assert told[-1] == "unpacking onnxruntime 1.32.0"
    found = ready_runners(files, proven, told.append, {"onnxruntime": "1.30.9"})
    assert (found[-1].name, found[-1].read_bytes()) == ("libonnxruntime.so", b"an older one")
    assert told[-2:] == ["fetching onnxruntime 1.30.9 for the phone", "unpacking onnxruntime 1.30.9"]
    folders = [folder.name for folder in (tmp_path / "cache").rglob("wheel-*") if folder.is_dir()]
    assert len(folders) == 2
    assert all(re.fullmatch("wheel-[0-9a-f]{32}", name) for name in folders)


def test_no_version_of_a_document_makes_pip_run_anything(files: Path, tmp_path: Path) -> None:
    """A folder with a build backend that says that it ran, as the second line of a requirements file."""
    evil = tmp_path / "evilpkg"
    evil.mkdir()
    ran = tmp_path / "ran"
    (evil / "setup.py").write_text(f"open({str(ran)!r}, 'w').close()")
    version = f"1.32.0\n{evil}"
    with pytest.raises(UsageError, match="is not a version"):
        ready_runners(files, NEWEST, silent, {"onnxruntime": version})
    ready_runners(files, {"onnxruntime": {version}}, silent)
    copied = Path(shutil.copytree(files, tmp_path / "archive"))
    for field, value in (("version", version), ("sha256", None)):
        with edited_json(copied / "runners.json") as named:
            named["wheels"][0][field] = value
        with pytest.raises(RuntimeFailed, match="cannot be used"):
            ready_runners(copied, NEWEST, silent)
        shutil.copy(files / "runners.json", copied)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (
            {"executorch": {"1.4.0"}},
            "the bundle was verified with executorch 1.4.0, but the ready runners run executorch 1.5.1 only: "
            "type pip install executorch==1.5.1, and export the bundle again",
        ),
        ({"tvm": set()}, "the ready runners for Android phones are for executorch, litert, onnxruntime, not tvm"),
        (
            {"onnxruntime": "1.30.8"},
            "pip cannot fetch onnxruntime 1.30.8 for the phone (No matching distribution found for "
            "onnxruntime==1.30.8): is PyPI reachable? If it is, there is none for phones; leave `runtime_versions` out "
            "to use the ready runners' version",
        ),
        (
            {"executorch": "1.4.0"},
            "the ready runners run executorch 1.5.1 only; leave executorch out of `runtime_versions`",
        ),
    ],
    ids=["linked", "unknown", "no such wheel", "chosen and linked"],
)
def test_a_version_that_cannot_be_had_is_refused_with_both_versions_and_the_remedy(
    files: Path, versions: dict[str, Any], said: str
) -> None:
    chosen = {name: version for name, version in versions.items() if isinstance(version, str)}
    with pytest.raises((RuntimeFailed, UsageError)) as caught:
        ready_runners(files, {name: set() for name in chosen} or versions, silent, chosen)
    assert str(caught.value) == said


def test_what_pip_fetches_is_counted(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = (
        "import os, pathlib, sys, time\n"
        "file = pathlib.Path(os.environ['TMPDIR'], 'onnxruntime.whl')\n"
        "file.write_bytes(bytes(1_500_000))\n"
        "time.sleep(0.3)\n"
        "sys.exit('ERROR: it broke')\n"
    )
    told: list[int] = []
    monkeypatch.setattr(ready, "LOOK_SECONDS", 0.02)
    code, said = ready._run_pip(["-c", slow], tmp_path / "unfinished", told.append)
    assert (code, said) == (1, "ERROR: it broke\n")
    assert (told[0], told[-1]) == (0, 1_500_000)


def planned(bundle: Path, driver: Driver, output: Path) -> Plan:
    """What a driver is asked to run of a bundle's text tower."""
    request, options = make_request((bundle,), "text"), RunOptions(quick(get_protocol("standard")), output)
    seen = mock.patch.object(type(driver), "run", side_effect=RuntimeFailed("seen"))
    with seen as run, pytest.raises(RuntimeFailed, match="seen"):
        run_benchmark(request, driver, options, silent)
    plan: Plan = run.call_args.args[0]
    return plan


def test_the_versions_of_a_plan_are_those_that_its_bundles_record(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("onnx", "fp32")
    version = bundle.manifest.environment["onnxruntime"].partition("+")[0]
    plan = planned(bundle.path, HostDriver(), tmp_path / "r.json")
    assert plan.proven == {"onnxruntime": frozenset({version})}


def test_a_bundle_of_litert_runs_on_the_cpu_and_the_gpu_of_which_float16_is_asked(
    exports: Exports, tmp_path: Path
) -> None:
    """Takes a bundle's manifest alone: nothing is converted."""
    bundle = exports.copy("onnx", "fp32", tmp_path)
    with edited_json(bundle / "manifest.json") as manifest:
        manifest |= {"target": "litert", "environment": manifest["environment"] | {"ai_edge_litert": "2.2.9"}}
    plan = planned(bundle, AndroidDriver(settings=AndroidSettings(places=("litert-gpu",))), tmp_path / "r.json")
    assert plan.proven == {"litert": frozenset({"2.2.9"})}
    gates = {cell.id: (cell.gate.metric, cell.gate.bound) for cell in plan.job.cells if cell.gate}
    assert gates == {
        f"{bundle.name}.text.litert-cpu.t1": ("relative", 1e-4),
        f"{bundle.name}.text.litert-gpu.t1": ("cosine", 0.999),
    }
