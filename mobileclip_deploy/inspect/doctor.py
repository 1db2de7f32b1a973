"""What `doctor` looks at: installed packages against the versions that were proven to work together."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from dataclasses import dataclass

__all__ = ["PROVEN", "Finding", "Tool", "diagnose", "machine", "tools"]

# Extra -> package -> version; one environment held them all when the whole test suite last passed (Python 3.11).
PROVEN: dict[str, dict[str, str]] = {
    "core": {
        "torch": "2.13.0",
        "numpy": "2.4.6",
        "pillow": "13.0.0",
        "click": "8.5.1",
        "rich": "15.0.0",
        "safetensors": "0.8.0",
        "pydantic": "2.14.4",
        "open_clip_torch": "3.3.0",
        "pyyaml": "6.0.4",
    },
    "onnx": {"onnx": "1.23.2", "onnxruntime": "1.32.0", "onnxscript": "0.7.2"},
    "coreml": {"coremltools": "9.0"},
    "executorch": {"executorch": "1.5.1", "torchao": "0.18.0"},
    "hub": {"huggingface_hub": "2.4.0"},
    "report": {"matplotlib": "3.11.2"},
}


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
    """Look at every package of every extra."""
    findings = []
    for area, packages in PROVEN.items():
        for name, proven in packages.items():
            installed = _version(name)
            install = "pip install mobileclip-deploy" if area == "core" else f"pip install 'mobileclip-deploy[{area}]'"
            same = installed is not None and installed.split("+")[0] == proven
            remedy = install if installed is None else "" if same else "another version than the proven one"
            findings.append(Finding(area, name, installed, proven, remedy, required=area == "core"))
    return findings


@dataclass(frozen=True)
class Tool:
    """A program that devices are reached by: what it is for, where it is (None: nowhere), and how to get it."""

    purpose: str
    name: str
    path: str | None
    remedy: str


def tools() -> list[Tool]:
    """Look for the programs behind `benchmark --device`, and say which ExecuTorch backends need an SDK."""
    from mobileclip_deploy.targets.executorch.backends import UNAVAILABLE

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
    return found + [
        Tool("ExecuTorch backend", name, None, f"not built in: needs {need}") for name, need in UNAVAILABLE.items()
    ]


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
