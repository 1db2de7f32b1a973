"""@huggingface/transformers as npm installs it, once a checkout: 470 MB that nothing else needs. Also transformers 4 of
Python, whose tokenizers differ from version 5's.

`python tests/transformers_client.py` installs it, and needs no Python package: the Makefile does so while pip installs
them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from building import ROOT, locked

CLIENT = ROOT / "build" / "transformers_js"
ASKED = Path(__file__).parent / "end_to_end" / "transformers_js" / "package.json"


def install(npm: str) -> None:
    """Install what package.json names, by whichever process comes first."""
    CLIENT.mkdir(parents=True, exist_ok=True)
    with locked(CLIENT / ".lock"):
        manifest, installed = ASKED.read_text(encoding="utf-8"), CLIENT / "installed.json"
        if not installed.exists() or installed.read_text(encoding="utf-8") != manifest:
            shutil.copy(ASKED, CLIENT)
            command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=CLIENT, check=True, timeout=500)
            installed.write_text(manifest, encoding="utf-8")


OLDER = ROOT / "build" / "transformers_4"
PINNED = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
"""The last transformers of version 4, and what it needs; all else is installed."""


def install_older() -> Path:
    """Install transformers 4 into a folder for PYTHONPATH, by whichever process comes first."""
    OLDER.mkdir(parents=True, exist_ok=True)
    with locked(OLDER / ".lock"):
        written = OLDER / "installed.txt"
        if not written.exists() or written.read_text(encoding="utf-8") != "\n".join(PINNED):
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(OLDER / "packages")]
            subprocess.run([*command, "--upgrade", *PINNED], check=True, timeout=500)
            written.write_text("\n".join(PINNED), encoding="utf-8")
    return OLDER / "packages"


if __name__ == "__main__" and (found := shutil.which("npm")):
    install(found)
