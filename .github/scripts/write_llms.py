"""Writes docs/llms.txt from the site's index: for programs that read the pages, a line for each (llmstxt.org).

python .github/scripts/write_llms.py
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = DOCS / "llms.txt"


def text() -> str:
    """Returns the content of the file."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    parts = [f"# {project['site_name']}", f"> {project['site_description']}"]
    single = [(title, page) for title, page in _entries(project["nav"]) if isinstance(page, str)]
    parts.append("\n".join(_line(title, page) for title, page in single))
    for title, pages in _entries(project["nav"]):
        if not isinstance(pages, str):
            parts.append(f"## {title}\n\n" + "\n".join(_line(*entry) for entry in _entries(pages)))
    return "\n\n".join(parts) + "\n"


def _entries(navigation: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for item in navigation:
        yield from item.items()


def _line(title: str, page: str) -> str:
    heading = (DOCS / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return f"- [{title}]({page})" + ("" if heading.casefold() == title.casefold() else f": {heading}")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
