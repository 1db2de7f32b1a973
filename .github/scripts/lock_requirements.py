"""Writes .github/requirements/: the packages of workflows and the Dockerfile, pinned by hash. Needs uv.

python .github/scripts/lock_requirements.py [macos android docker release windows]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPILE = ("uv", "pip", "compile", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header")
BUILD = ("hatchling", "editables")
RELEASE = ("build", "hatchling", "zensical")
LINUX = ("--python-platform", "x86_64-manylinux_2_34")
OTHER_TORCH = ("--no-emit-package", "torch", "--no-emit-package", "torchvision")
"""Torch's CPU builds are on another index, which the Dockerfile and install_pinned.sh name."""
TORCH = ("--torch-backend", "cpu", *OTHER_TORCH)
FILES: dict[str, tuple[str, ...]] = {
    "macos": ("--python-platform", "aarch64-apple-darwin", "--extra", "coreml"),
    "android": (*LINUX, *TORCH, "--extra", "onnx", "--extra", "executorch", "--extra", "litert"),
    "docker": (*LINUX, *TORCH, "--extra", "onnx"),
    "release": LINUX,
    "windows": ("--python-platform", "x86_64-pc-windows-msvc", *OTHER_TORCH, "--extra", "onnx"),
}


def command(name: str, folder: Path) -> list[str]:
    """Returns the command that writes a file, with the names of packages in `folder`."""
    names = folder / f"{name}.in"
    names.write_text("\n".join(RELEASE if name == "release" else BUILD) + "\n", encoding="utf-8")
    sources = [str(names)] if name == "release" else ["pyproject.toml", str(names)]
    return [*COMPILE, *FILES[name], *sources, "-o", f".github/requirements/{name}.txt"]


def main(names: list[str]) -> None:
    """Writes the files of these names, by default all."""
    if unknown := set(names) - set(FILES):
        sys.exit(f"{', '.join(sorted(unknown))}: no such file; choose from {', '.join(FILES)}")
    if shutil.which("uv") is None:
        sys.exit("there is no uv here; pip install uv")
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "15.0"}
    with tempfile.TemporaryDirectory() as folder:
        for name in names or FILES:
            subprocess.run(command(name, Path(folder)), cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
