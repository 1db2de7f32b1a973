"""The steps of release.yml, run here as the workflow runs them; and what the wheel has to hold."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conversions import ROOT
from packaging.requirements import Requirement

SCRIPTS = ROOT / ".github" / "scripts"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
VERSION = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def step(script: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(cwd / ".github" / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=os.environ | {"PATH": PATH}, capture_output=True, text=True)


def test_the_workflow_runs_these_scripts_and_no_others() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert sorted(line for line in lines if not line.startswith(("pip install ", "gh release"))) == [
        ".github/scripts/build_clients.sh clients-dist",
        '.github/scripts/build_release.sh dist "$TAG"',
        ".github/scripts/build_site.sh",
    ]


def test_a_release_of_another_tag_without_a_changelog_or_into_a_folder_that_holds_something_is_refused(
    tmp_path: Path,
) -> None:
    """The script, in a folder of what it reads before it builds."""
    shutil.copytree(SCRIPTS, tmp_path / ".github" / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "changelog.d").mkdir()

    def refused(*arguments: str) -> str:
        done = step("build_release.sh", "dist", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    told = f"the tag is v9.9.9, and pyproject.toml says {VERSION[1]}: tag v{VERSION[1]}, or set the version\n"
    assert refused("v9.9.9") == told
    (tmp_path / "changelog.d" / "1.added.1.md").write_text("It sings.\n", encoding="utf-8")
    assert "towncrier build" in refused(f"v{VERSION[1]}")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "other-1.0-py3-none-any.whl").touch()
    assert refused() == "dist is not empty: what lies there would be published too\n"


def test_every_path_in_the_notice_is_there() -> None:
    paths = re.findall(r"[a-z_]+/[\w/]+(?:\.md|/)", (ROOT / "NOTICE").read_text(encoding="utf-8"))
    assert len(paths) > 6
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_image_is_built_from_all_that_the_wheel_holds() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    included = {path.removeprefix("/") for path in wheel["wheel"]["include"]}
    held = {*included, *wheel["wheel"]["force-include"], "pyproject.toml", "README.md"}
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {source.partition("/")[0] for source in held} <= {line.removeprefix("!") for line in kept}


@pytest.mark.slow  # a build of each, 25 MB; the wheel is used by `make wheel`
def test_the_wheel_and_the_archive_are_built_and_hold_what_the_package_needs(tmp_path: Path) -> None:
    done = step("build_release.sh", tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        assert "mobileclip_deploy/models/nano/weights.safetensors" in names
    with tarfile.open(archive) as source:
        assert f"{archive.name.removesuffix('.tar.gz')}/docs/index.md" in source.getnames()
    less = tmp_path / "less.whl"
    with zipfile.ZipFile(wheel) as opened, zipfile.ZipFile(less, "w") as smaller:
        for name in names:
            if not name.startswith("mobileclip_deploy/models/nano/"):
                smaller.writestr(name, opened.read(name))
    checked = subprocess.run([sys.executable, SCRIPTS / "check_wheel.py", less], capture_output=True, text=True)
    assert checked.returncode == 1
    assert "models/nano/weights.safetensors: 0 files, 1 at least are wanted" in checked.stderr
    with zipfile.ZipFile(less, "a") as more:
        more.writestr("mobileclip_deploy/models/nano/recipes/run1.yaml", "steps: 1")
    checked = subprocess.run([sys.executable, SCRIPTS / "check_wheel.py", less], capture_output=True, text=True)
    assert "models/nano/recipes/run1.yaml: nothing in the package reads it" in checked.stderr


@pytest.mark.slow  # tests/clients builds and checks the same
def test_the_clients_are_built_hold_to_the_vectors_and_have_the_toolkits_version(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    for tool, package in (("javac", "default-jdk-headless"), ("node", "nodejs"), ("npm", "npm")):
        require_tool(tool, f"apt-get install {package}")
    done = step("build_clients.sh", tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ passed, 0 failed$", done.stdout, re.MULTILINE)
    packaged = VERSION[1].replace(".dev", "-dev.")
    assert {one.name for one in (tmp_path / "dist").iterdir()} == {
        f"mobileclip-{VERSION[1]}.jar",
        f"mobileclip-{VERSION[1]}-sources.jar",
        f"mobileclip-desktop-{VERSION[1]}.jar",
        f"mobileclip-kotlin-{VERSION[1]}.jar",
        f"mobileclip-onnx-{VERSION[1]}.jar",
        f"mobileclip-{packaged}.tgz",
        *(
            f"mobileclip{name}-{VERSION[1]}.{kind}"
            for name in ("", "-desktop", "-onnx", "-kotlin")
            for kind in ("pom", "module")
        ),
    }
    with zipfile.ZipFile(tmp_path / "dist" / f"mobileclip-onnx-{VERSION[1]}.jar") as jar:
        told = jar.read("META-INF/MANIFEST.MF").decode()
        assert f"Implementation-Version: {VERSION[1]}\r\n" in told
        assert "mobileclip/OnnxEngine.class" in jar.namelist()
    assert step("build_clients.sh", tmp_path / "dist").returncode == 1


@pytest.mark.slow  # tests/docs/test_pages.py builds the same pages
def test_the_site_is_built() -> None:
    done = step("build_site.sh")
    assert done.returncode == 0, done.stderr
    site = ROOT / "build/site"
    linked = re.findall(r"\]\((\w[\w-]*\.md)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(path.name for path in site.glob("*.md"))
    assert [name for name in linked if not (site / name).with_suffix(".html").is_file()] == []


def release(system: str, machine: str, kernel: str, told: str) -> dict[str, str]:
    """What a marker can ask about a machine: as Python's platform module tells it there."""
    return {"sys_platform": system, "platform_machine": machine, "platform_release": kernel, "platform_version": told}


MACHINES = {
    "Ubuntu 24.04": (
        release("linux", "x86_64", "6.8.0-45-generic", "#45-Ubuntu SMP Fri Aug 30 2024"),
        True,
    ),
    "Debian 13 on Arm": (release("linux", "aarch64", "6.12.43+deb13-arm64", "#1 SMP Debian 6.12.43-1"), False),
    "macOS 15": (release("darwin", "arm64", "24.6.0", "Darwin Kernel Version 24.6.0: root:xnu-11417.140.69~1"), False),
    "macOS 26": (release("darwin", "arm64", "25.1.0", "Darwin Kernel Version 25.1.0: root:xnu-12377.41.6~2"), True),
    "macOS 26 on Intel": (release("darwin", "x86_64", "25.1.0", "Darwin Kernel Version 25.1.0: root:xnu"), False),
    "Windows 11": (release("win32", "AMD64", "11", "10.0.26100"), False),
}


@pytest.mark.parametrize("name", MACHINES)
def test_every_marker_is_told_on_every_machine(name: str) -> None:
    """pip 24.1 to 25 end in InvalidVersion where a Linux kernel's name is ordered as a version."""
    machine, coreai = MACHINES[name]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = [Requirement(line) for lines in extras.values() for line in lines]
    for one in wanted:
        assert "platform_release" not in str(one.marker), one
    environment = {**machine, "python_version": "3.13", "extra": ""}
    found = {one.name for one in wanted if one.marker is None or one.marker.evaluate(environment)}
    assert {"coreai-core", "coreai-torch"} & found == ({"coreai-core", "coreai-torch"} if coreai else set())
    assert "coremltools" in found
