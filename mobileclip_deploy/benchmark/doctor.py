"""What `doctor` looks at: installed packages against the versions that were proven to work together."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from dataclasses import dataclass

from mobileclip_deploy.benchmark.android import release as runners
from mobileclip_deploy.benchmark.android.ready import runners_summary
from mobileclip_deploy.targets import targets

# Versions of what every target needs and of the extras that are no target's: one environment held them when the whole
# test suite last passed (Python 3.11). A target names its own (`Abilities.proven`).
CORE = {
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "pillow": "13.0.0",
    "click": "8.5.1",
    "rich": "15.0.0",
    "safetensors": "0.8.0",
    "pydantic": "2.14.4 or 2.11.10",  # what litert's converter leaves room for
    "open_clip_torch": "3.3.0",
    "pyyaml": "6.0.4",
    "jinja2": "3.1.6",
}
EXTRAS = {"hub": {"huggingface_hub": "2.4.0"}}


@dataclass(frozen=True)
class Finding:
    """One package: what it is for, which version is here (None: none), which is proven, and what to do."""

    area: str
    name: str
    installed: str | None
    proven: str
    remedy: str
    required: bool


def diagnose() -> list[Finding]:
    """Look at every package of the core, of each target, and of the other extras."""
    findings = []
    abilities = {target.name: target.abilities for target in targets().values()}
    extras = {name: one.converter_extra or one.extra for name, one in abilities.items()} | {one: one for one in EXTRAS}
    for area, packages in proven().items():
        for name, wanted in packages.items():
            installed = _version(name)
            extra = extras.get(area)
            install = f"pip install 'mobileclip-deploy[{extra}]'" if extra else f"pip install {name}"
            install = "pip install mobileclip-deploy" if area == "core" else install
            same = installed is not None and installed.split("+")[0] in wanted.split(" or ")
            remedy = install if installed is None else "" if same else "another version than the proven one"
            findings.append(Finding(area, name, installed, wanted, remedy, required=area == "core"))
    return findings


def proven() -> dict[str, dict[str, str]]:
    """What it is for -> package -> the version that was proven to work with the others."""
    return {"core": CORE, **{target.name: dict(target.abilities.proven) for target in targets().values()}, **EXTRAS}


@dataclass(frozen=True)
class Tool:
    """A program that devices are reached by: what it is for, where it is (None: nowhere), and how to get it."""

    purpose: str
    name: str
    path: str | None
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """What is installed against what was proven to work together, the programs that devices need, and the machine."""

    packages: tuple[Finding, ...]
    tools: tuple[Tool, ...]
    machine: str

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that every command needs."""
        return all(package.installed is not None for package in self.packages if package.required)


def doctor() -> Diagnosis:
    """Look at what is installed here.

    Raises:
        DependencyMissing: a package registers a target that cannot be loaded.
    """
    return Diagnosis(tuple(diagnose()), tuple(tools()), machine())


def tools() -> list[Tool]:
    """Look for the programs behind `benchmark --device`, and say which backends of a target need an SDK."""
    mac = platform.system() == "Darwin"
    wanted = {
        "adb": ("Android phones", "install Android's platform-tools (Debian: apt-get install adb)"),
        "xcrun": ("iPhones", "install Xcode 16 or newer" if mac else "needs a Mac with Xcode 16 or newer"),
    }
    found = [
        Tool(purpose, name, path, "" if path else remedy)
        for name, (purpose, remedy) in wanted.items()
        for path in [shutil.which(name)]
    ]
    found.append(_ready_runners())
    return found + [
        Tool(f"{target.title} backend", name, None, f"not offered: needs {need}")
        for target in targets().values()
        for name, need in target.abilities.unavailable.items()
    ]


def _ready_runners() -> Tool:
    """The programs that measure on Android phones without the NDK."""
    release, folder = runners.pinned_release(), runners.kept_release()
    where: str | None = None
    if folder is not None:
        where = f"{folder} ({runners_summary(folder)})"
    elif release.repository:
        where = f"{release.version} of {release.repository}, fetched when a phone is measured first"
    return Tool("Android phones", "ready runners", where, "" if where else runners.HOW_TO_GET)


def machine() -> str:
    """Interpreter, system, and what will run Core ML packages here."""
    system = platform.system()
    engine = "Core ML itself" if system == "Darwin" else "this package's evaluator (Core ML exists on macOS only)"
    return f"Python {platform.python_version()}, {system} {platform.machine()}; Core ML packages are run by {engine}."


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
