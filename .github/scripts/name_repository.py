"""Writes the repository's name, OWNER/NAME on GitHub, into every file that needs it.

python .github/scripts/name_repository.py OWNER/NAME
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACEHOLDER = "OWNER/REPOSITORY"
FILES = (
    ".github/scripts/write_maven.py",
    "README.md",
    "clients/js/package.json",
    "docs/ci.md",
    "docs/index.md",
    "docs/start_android.md",
    "docs/start_browser.md",
    "docs/start_ios.md",
    "examples/from_checkpoint_to_search.ipynb",
    "examples/service/Dockerfile",
)
"""Files with the placeholder; tests/docs/test_repository_name.py compares them with the repository's."""


def named(text: str, repository: str) -> str:
    """Returns a text with the name in place of the placeholder, and its last part in `cd REPOSITORY`."""
    name = repository.partition("/")[2]
    return re.sub(r"^cd REPOSITORY$", f"cd {name}", text, flags=re.MULTILINE).replace(PLACEHOLDER, repository)


def main(repository: str, root: Path = ROOT) -> None:
    """Writes the name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+", repository) or repository == PLACEHOLDER:
        sys.exit(f"{repository} is not OWNER/NAME")
    for file in FILES:
        path = root / file
        path.write_text(named(path.read_text(encoding="utf-8"), repository), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
