"""What the workflows may do, and what they use."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from conversions import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from programs import script

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = ROOT / ".github" / "scripts"
PLAIN = (
    "apt-get update",
    "pip install --require-hashes",
    "gh release",
    "python .github/scripts/use_wheel.py",
)
"""How steps begin that are no script: what comes before the checkout, or is one command."""


def jobs() -> list[tuple[str, str, dict[Any, Any], dict[str, Any]]]:
    """Every job of a workflow: the file's name, the job's, the file and the job."""
    files = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    return [(name, job, file, file["jobs"][job]) for name, file in files.items() for job in file["jobs"]]


PUBLISHING = {
    ("runners.yml", "release"): "android-runners-",
    ("release.yml", "packages"): "v",
    ("release.yml", "publish"): "v",
    ("release.yml", "pages"): "v",
}
"""Jobs that may write, for a tag that begins so alone."""
ON_DEMAND = ("rented.yml", "propose")
"""The job that proposes a change, of a workflow that a person starts."""


def test_workflows_may_read_alone_but_for_the_jobs_that_publish_a_tag() -> None:
    writing = [(name, job) for name, job, _, own in jobs() if "write" in own.get("permissions", {}).values()]
    assert sorted(writing) == sorted([*PUBLISHING, ON_DEMAND])
    for name, job, file, own in jobs():
        assert file["permissions"] == {"contents": "read"}
        events = file[True]  # `on` is a truth value to YAML
        if name == ON_DEMAND[0]:
            assert list(events) == ["workflow_dispatch"]
            continue
        assert events.get("push", {}).get("branches", ["main"]) == ["main"]
        if (name, job) in PUBLISHING:
            assert own["if"] == f"startsWith(github.ref, 'refs/tags/{PUBLISHING[name, job]}')"
    secret = [(name, job) for name, job, _, own in jobs() if "secrets." in str(own)]
    assert secret == [("rented.yml", "measure")]  # which may read alone
    (said,) = [
        line for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if "**Releases**" in line
    ]
    assert {(name, job) for name, job, *_ in jobs() if f"`{job}`" in said} == {*writing, *secret}
    assert {name for name, *_ in jobs() if f"`{name}`" in said} == {name for name, _ in [*writing, *secret]} | {
        "newest.yml"
    }
    installing = [(name, job) for name, job, _, own in jobs() if "install" in str([s.get("run") for s in own["steps"]])]
    assert not set(installing) & set(writing)


def test_what_pypi_is_sent_is_what_was_signed_and_built_by_the_job_before() -> None:
    own = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]["publish"]
    assert own["needs"] == ["build", "site"]
    assert (own["environment"], own["permissions"]) == ("pypi", {"id-token": "write", "attestations": "write"})
    used = [step["uses"].partition("@")[0] for step in own["steps"]]
    assert used == [
        "actions/download-artifact",
        "actions/attest-build-provenance",
        "pypa/gh-action-pypi-publish",
    ]  # nothing is built, checked out or installed where the right to publish is


def test_actions_are_pinned_to_commits_and_results_are_kept() -> None:
    for name, job, _, own in jobs():
        used = [step["uses"] for step in own["steps"] if "uses" in step]
        assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == [], (name, job)
    kept = {name for name, _, _, own in jobs() if any("upload-artifact" in str(step) for step in own["steps"])}
    every = {"linux.yml", "macos.yml", "runners.yml", "release.yml", "rented.yml", "windows.yml", "newest.yml"}
    assert kept == {path.name for path in WORKFLOWS} == every


def test_nothing_that_anybody_proposes_runs_with_privileges() -> None:
    asked = [own["container"].get("options", "") for *_, own in jobs() if isinstance(own.get("container"), dict)]
    assert asked == ["${{ github.event_name == 'push' && '--privileged' || '--init' }}"]


INSTALLED = {"macos": ("coreml",), "android": ("onnx", "executorch", "litert"), "docker": ("onnx",)}
"""The extras that a workflow, or the Dockerfile, installs by hash."""


def test_what_a_workflow_installs_has_hashes_and_is_what_the_package_asks_for() -> None:
    pinned = [path for path in SCRIPTS.glob("*.sh") if path.name != "newest_runtime.sh"]  # which is for the newest
    for path in [*WORKFLOWS, *pinned]:
        for line in re.findall(r"pip install .*", path.read_text(encoding="utf-8")):
            assert "--require-hashes" in line or "--no-deps" in line, line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, extras in INSTALLED.items():
        text = (ROOT / ".github" / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
        assert len(pins) == len(re.findall(r"^[\w.-]+==\S+.*\\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE))
        optional = project["project"]["optional-dependencies"]
        wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        wanted += [one for extra in extras for one in optional[extra] if not one.startswith("mobileclip-deploy")]
        # Torch without NVIDIA's libraries, whose index is another: the Dockerfile and the script name it.
        for file in (ROOT / "Dockerfile", SCRIPTS / "install_pinned.sh"):
            torch = dict(re.findall(r"(torch\w*)==([\w.+]+)", file.read_text(encoding="utf-8")))
            assert torch.keys() == {"torch", "torchvision"}
            pins = torch | pins
        assert not [pin for pin in pins if name != "macos" and pin.startswith(("nvidia-", "cuda-", "triton"))]
        for requirement in map(Requirement, wanted):
            pin = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin, prereleases=True), (name, requirement, pin)


def test_make_lint_holds_the_workflows_to_their_schema_and_to_zizmor() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    (schema,) = [line for line in recipe.splitlines() if "vendor.github-workflows" in line]
    assert [path.name for path in WORKFLOWS if f".github/workflows/{path.name}" not in schema] == []
    assert "vendor.github-actions .github/actions/verify/action.yml" in recipe
    assert "zizmor --offline --quiet .github\n" in recipe


def test_what_a_job_does_is_a_script_that_runs_elsewhere_too() -> None:
    lines = [step.get("run", "") for *_, own in jobs() for step in own["steps"]]
    lines += [step["with"]["script"] for *_, own in jobs() for step in own["steps"] if "script" in step.get("with", {})]
    started = [line.split()[0] for line in lines if line and not line.startswith(PLAIN)]
    assert [one for one in started if not os.access(ROOT / one, os.X_OK)] == []
    assert {path.name for path in SCRIPTS.glob("*.sh")} == {
        Path(one).name for one in started if one.startswith(".github")
    }


def test_scripts_are_sound_to_their_shell() -> None:
    for path in [*SCRIPTS.glob("*.sh"), ROOT / "ios_harness/tools/simulator_start.sh"]:
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert "set -euo pipefail" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("build_clients.sh", "javac: install a JDK", "python3: install it"),
        ("build_release.sh", "python: activate an environment", "python: activate an environment"),
        ("build_site.sh", "zensical: pip install", "zensical: pip install"),
        ("install_pinned.sh", "python: activate an environment", "python: activate an environment"),
        ("propose_result.sh", "date: install it", "gh: install it"),
        ("rented_phones.sh", "gcloud: install it", "mobileclip-deploy: install this checkout"),
        ("macos_app.sh", "xcodebuild: take a Mac with Xcode", "zip: install it"),
        ("newest_runtime.sh", "python: activate an environment", "python: activate an environment"),
        ("macos_core_ml.sh", "swift: install Swift 6", "mobileclip-deploy: install this checkout"),
        ("../../ios_harness/tools/simulator_start.sh", "xcrun: take a Mac", "python3: install it"),
    ],
)
def test_a_script_without_its_tools_says_in_one_line_what_to_install(
    tmp_path: Path, name: str, first: str, last: str
) -> None:
    """With no program but the shell's own, and then with every one that it needs but the last."""
    for program in ("bash", "dirname", "mkdir"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    script = SCRIPTS / name

    def said() -> str:
        command = [script, tmp_path / "folder"]
        done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    assert said().startswith(f"{script.name} needs {first}")
    (needed,) = re.findall(r"^need (.+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    for program in needed.split()[:-1]:
        (tmp_path / program).touch(0o755)
    assert said().startswith(f"{script.name} needs {last}")


@pytest.mark.parametrize(
    ("name", "index", "asked"),
    [
        (
            "android",
            "http://127.0.0.1:1/cpu",
            [["--no-deps", "--index-url", "http://127.0.0.1:1/cpu", "torch==2.13.0"]],
        ),
        ("android", "", [["torch==2.13.0"]]),
        ("macos", "", []),
    ],
)
def test_torch_comes_from_the_index_that_the_repositorys_variable_names(
    tmp_path: Path, name: str, index: str, asked: list[list[str]]
) -> None:
    """With a Python that only says what it was started with."""
    script(tmp_path / "python", 'printf "%s\\n" "$*" >>"$0.said"')
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | ({"TORCH_INDEX": index} if index else {})
    subprocess.run([str(SCRIPTS / "install_pinned.sh"), name], env=environment, check=True)
    said = [line.removeprefix("-m pip install --quiet ").split() for line in (tmp_path / "python.said").open()]
    assert said[:-2] == [[*words, "torchvision==0.28.0"] for words in asked]
    assert said[-2] == ["--no-deps", "--require-hashes", "-r", f".github/requirements/{name}.txt"]


def test_a_result_of_rented_phones_becomes_a_pull_request_and_its_key_goes_to_gcloud_alone(tmp_path: Path) -> None:
    """With programs that only say what they were started with, in a repository with a remote of its own."""
    tools, checkout, remote = tmp_path / "tools", tmp_path / "checkout", tmp_path / "remote.git"
    shutil.copytree(SCRIPTS, checkout / ".github" / "scripts")
    for folder in ("benchmarks/devices", "docs/figures", "dist"):
        (checkout / folder).mkdir(parents=True)
    (checkout / "docs/figures/benchmarks.md").write_text("no row\n", encoding="utf-8")
    (checkout / "dist/runners.zip").touch()
    said = 'printf "%s %s key:%s\\n" "${0##*/}" "$*" "${GOOGLE_CREDENTIALS-none}" >>"$0.said"; '
    script(tools / "gcloud", said + 'cat >"$0.key"')
    script(tools / "gh", said)
    script(tools / "python", said + 'echo "a row" >>docs/figures/benchmarks.md')
    script(tools / "mobileclip-deploy", said + "for last; do :; done; case $1 in benchmark) echo {} >$last ;; esac")
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def do(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words], cwd=checkout, env=environment | more, text=True, capture_output=True
        )

    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    do("git", "init", "--quiet", "--bare", "--initial-branch=main", remote)
    do("git", "init", "--quiet", "--initial-branch=main", ".")
    do("git", "add", "docs")
    do("git", *who, "commit", "--quiet", "--message", "start")
    do("git", "remote", "add", "origin", remote)
    refused = do(checkout / ".github/scripts/rented_phones.sh", "caiman-35", "../elsewhere")
    assert (refused.returncode, "choose another" in refused.stderr) == (1, True)
    key = '{"private_key": "KEY"}'
    measured = do(checkout / ".github/scripts/rented_phones.sh", "caiman-35,pa3q-35", "pixel-9", GOOGLE_CREDENTIALS=key)
    assert measured.returncode == 0, measured.stderr
    assert (tools / "gcloud.key").read_text().strip() == key
    lines = (tools / "mobileclip-deploy.said").read_text().splitlines()
    bundles = "out/nano-onnx-fp32 out/nano-executorch-fp32"
    assert lines[1] == (
        f"mobileclip-deploy benchmark {bundles} --device ddp:caiman-35,pa3q-35 --runners dist/runners.zip "
        "--json benchmarks/devices/pixel-9.json key:none"
    )
    proposed = do(checkout / ".github/scripts/propose_result.sh", "pixel-9")
    assert proposed.returncode == 0, proposed.stderr
    assert [line.split()[1:3] for line in (tools / "gh.said").open()] == [["auth", "setup-git"], ["pr", "create"]]
    (branch,) = do("git", "--git-dir", remote, "for-each-ref", "--format=%(refname:short)").stdout.split()
    assert branch.startswith("rented/pixel-9-")
    changed = do("git", "--git-dir", remote, "show", "--name-only", "--format=%s", branch).stdout.split("\n")
    assert changed == ["benchmarks: add pixel-9 of rented phones", "", *PROPOSED, ""]


PROPOSED = ["benchmarks/devices/pixel-9.json", "docs/figures/benchmarks.md"]
