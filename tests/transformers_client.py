"""@huggingface/transformers as npm installs it, once a checkout: 470 MB that nothing else needs.

`python tests/transformers_client.py` installs it, and needs no Python package: the Makefile does so while pip installs
them.
"""

from __future__ import annotations

import shutil
import subprocess
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


if __name__ == "__main__" and (found := shutil.which("npm")):
    install(found)
