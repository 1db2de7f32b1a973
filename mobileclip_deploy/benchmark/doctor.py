"""Checks of `doctor`: installed packages against the versions that were proven to work together."""

import importlib.metadata
import platform
import shutil
from dataclasses import dataclass

from mobileclip_deploy.benchmark.android import release as runners
from mobileclip_deploy.benchmark.android.ready import runners_summary
from mobileclip_deploy.targets import targets

# Versions of the core packages, and of extras that belong to no target, with which the whole test suite last passed in
# one environment (Python 3.11). Versions of a target's packages are in `Packages.proven`.
CORE = {
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "pillow": "13.0.0",
    "click": "8.5.1",
    "rich": "15.0.0",
    "safetensors": "0.8.0",
    "pydantic": "2.14.4 or 2.11.10",  # versions that litert's converter allows
    "open_clip_torch": "3.3.0",
    "pyyaml": "6.0.4",
    "jinja2": "3.1.6",
}
EXTRAS = {"hub": {"huggingface_hub": "2.4.0"}}


@dataclass(frozen=True)
class Finding:
    """One package: its purpose, its installed version (None if it is missing), its proven version, and a remedy."""

    area: str
    name: str
    installed: str | None
    proven: str
    remedy: str
    required: bool


def diagnose() -> list[Finding]:
    """Returns a finding for every package of the core, of each target, and of the other extras."""
    findings = []
    needs = {target.name: target.capabilities.packages for target in targets().values()}
    extras = {name: packages.converter_extra or packages.extra for name, packages in needs.items()} | {
        name: name for name in EXTRAS
    }
    for area, packages in proven().items():
        for name, version in packages.items():
            installed = _version(name)
            extra = extras.get(area)
            install = f"pip install 'mobileclip-deploy[{extra}]'" if extra else f"pip install {name}"
            install = "pip install mobileclip-deploy" if area == "core" else install
            same = installed is not None and installed.split("+")[0] in version.split(" or ")
            remedy = install if installed is None else "" if same else "another version than the tested one"
            findings.append(Finding(area, name, installed, version, remedy, required=area == "core"))
    return findings


def proven() -> dict[str, dict[str, str]]:
    """Returns purpose -> package -> the version that was proven to work with the others."""
    of_targets = {target.name: dict(target.capabilities.packages.proven) for target in targets().values()}
    return {"core": CORE, **of_targets, **EXTRAS}


@dataclass(frozen=True)
class Tool:
    """A program that connects to devices: its purpose, its path (None if it is missing), and how to get it."""

    purpose: str
    name: str
    path: str | None
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """Installed packages with their proven versions, the programs that devices need, and the machine."""

    packages: tuple[Finding, ...]
    tools: tuple[Tool, ...]
    machine: str

    @property
    def complete(self) -> bool:
        """True if every package is installed that all commands need."""
        return all(package.installed is not None for package in self.packages if package.required)


def doctor() -> Diagnosis:
    """Returns a diagnosis of this machine.

    Raises:
        DependencyMissing: a package registers a target that cannot be loaded.
    """
    return Diagnosis(tuple(diagnose()), tuple(tools()), machine())


def tools() -> list[Tool]:
    """Returns the programs that `benchmark --device` needs, and the backends of targets that need an SDK."""
    mac = platform.system() == "Darwin"
    programs = {
        "adb": ("Android phones", "install Android's platform-tools (Debian: apt-get install adb)"),
        "xcrun": ("iPhones", "install Xcode 16 or newer" if mac else "needs a Mac with Xcode 16 or newer"),
    }
    listed = [
        Tool(purpose, name, path, "" if path else remedy)
        for name, (purpose, remedy) in programs.items()
        for path in [shutil.which(name)]
    ]
    listed.append(_ready_runners())
    return listed + [
        Tool(f"{target.title} backend", name, None, f"not available: needs {need}")
        for target in targets().values()
        for name, need in target.capabilities.formats.unavailable.items()
    ]


def _ready_runners() -> Tool:
    """Returns the programs that measure on Android phones without the NDK."""
    release, folder = runners.pinned_release(), runners.kept_release()
    where: str | None = None
    if folder is not None:
        where = f"{folder} ({runners_summary(folder)})"
    elif release.repository:
        where = f"{release.version} of {release.repository}, downloaded when a phone is first measured"
    return Tool("Android phones", "ready runners", where, "" if where else runners.HOW_TO_GET)


def machine() -> str:
    """Returns a sentence with interpreter, system, and the engine that runs Core ML packages here."""
    system = platform.system()
    engine = "Core ML itself" if system == "Darwin" else "this package's evaluator (Core ML exists on macOS only)"
    return f"Python {platform.python_version()}, {system} {platform.machine()}; Core ML packages are run by {engine}."


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
