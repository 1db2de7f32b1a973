"""The pages speak of what exists: links, paths, names; and the site is built whole, from nothing elsewhere."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from chromium import open_page
from conversions import ROOT

from mobileclip_deploy.cli import cli

PACKAGE = ROOT / "mobileclip_deploy"
DOCS = ROOT / "docs"
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = [*FRONT, *sorted(DOCS.glob("*.md"))]
BUILD = [sys.executable, "-m", "zensical", "build", "--strict"]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?:\w[\w.-]*/)+(?:[\w.-]+)?|\w+\.py")
WRITTEN_BY_EXPORTS = ("onnx/", "out/", "tokenizer/", "build/", "val/")
NOT_OURS = ("MOBILECLIP_DEPLOY_CARDS", "PATH", "CLIPModel")
WRITTEN_BY_SCRIPTS = ("benchmarks.md", "precisions.md", "CHANGELOG.md")
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@by_page
def test_links_paths_and_the_tests_that_commands_name_exist(page: Path) -> None:
    found = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in found if not (page.parent / link).exists()] == []
    # A path is written from the root of the repository, or in short from the package.
    spans = [span for span in SPAN.findall(page.read_text(encoding="utf-8")) if PATH.fullmatch(span)]
    ours = [span for span in spans if is_ours(span)]
    missing = [span for span in ours if not any((folder / span).exists() for folder in (ROOT, PACKAGE, page.parent))]
    assert missing == []
    named = re.findall(r"\btests/[\w/.]*\w", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pages_that_the_code_names_exist() -> None:
    """In messages, help, model cards and comments: what a user looks up by its path."""
    suffixes, built = {".py", ".java", ".kt", ".swift", ".js", ".hpp", ".yml", ".sh", ".md"}, {"node_modules", "build"}
    folders = ("mobileclip_deploy", "clients", "android_harness", "ios_harness", ".github", "examples", "benchmarks")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    texts = [path.read_text(encoding="utf-8") for path in paths if not {*built, ".build"} & set(path.parts)]
    named = {name for text in texts for name in re.findall(r"(?<![\w/])docs/(?:figures/)?\w+\.md", text)}
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def is_ours(span: str) -> bool:
    """Whether a path begins with a folder of the repository or of the package, and is not what an export writes."""
    first = span.split("/")[0]
    known = any((folder / first).exists() for folder in (ROOT, PACKAGE)) or span.endswith(".py")
    return known and not span.startswith(WRITTEN_BY_EXPORTS) and "/build/" not in span


@by_page
def test_lines_are_not_longer_than_those_of_code(page: Path) -> None:
    if page.name in WRITTEN_BY_SCRIPTS:
        return
    text = re.sub(r"<!-- begin: .*?<!-- end -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "extend.md"])
def test_names_of_classes_are_those_of_the_package(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    drawing = " ".join(re.findall(r"```\n(.*?)```", text, re.DOTALL)) if page == "ARCHITECTURE.md" else ""
    names = {span for span in SPAN.findall(text) if re.fullmatch(r"[A-Z][A-Za-z]*|[A-Z_]{5,}", span)}
    names |= set(re.findall(r"\b[A-Z][a-z]+[A-Z][a-z]+\b", drawing)) | {"Source"}
    defined = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    defined += (ROOT / "benchmarks" / "subjects.py").read_text(encoding="utf-8")
    unknown = [name for name in sorted(names) if not re.search(rf"^ *(class )?{name}\b", defined, re.MULTILINE)]
    assert [name for name in unknown if name not in NOT_OURS] == []


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    assert sorted(entries(navigation)) == sorted(path.name for path in DOCS.glob("*.md"))


def test_what_programs_read_of_the_pages_is_current() -> None:
    write = runpy.run_path(str(ROOT / ".github" / "scripts" / "write_llms.py"))
    found = (DOCS / "llms.txt").read_text(encoding="utf-8")
    assert found == write["text"](), "type: python .github/scripts/write_llms.py"
    assert sorted(re.findall(r"\]\((.+?\.md)\)", found)) == sorted(path.name for path in DOCS.glob("*.md"))


def entries(navigation: Any) -> Iterator[str]:
    """The files of a navigation, at any depth."""
    for item in navigation:
        for value in item.values():
            yield from [value] if isinstance(value, str) else entries(value)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "zensical.toml", folder)
    return subprocess.run(BUILD, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built once."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.mark.slow
def test_the_site_is_as_dark_as_the_reader_s_system(site: Path) -> None:
    lightness = """[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map(
        (colour) => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)"""
    with open_page() as page:
        for dark in (False, True):
            page.resize(390, dark=dark)
            page.visit(site / "index.html")
            paper, ink = page.evaluate(lightness)
            assert (paper < 60 < 150 < ink) if dark else (ink < 90 < 240 < paper)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow  # `make docs` builds the site; `make test` does without zensical
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))  # and 404.html
    loaded = re.compile(r"<(?:script|img|source)[^>]+src=\"?(https?:[^\s\">]+)|<link[^>]+href=\"?(https?:[^\s\">]+)")
    assert [match.group() for page in pages for match in loaded.finditer(page.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
@pytest.mark.parametrize("link", ["nowhere.md", "index.md#nowhere"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\nSee [there]({link}).\n", encoding="utf-8")
    assert build(tmp_path).returncode != 0


def test_the_hooks_of_pre_commit_are_what_make_lint_runs_and_need_no_network() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {one["repo"] for one in repositories} == {"local"}
    hooks = [hook for one in repositories for hook in one["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in hooks] == commands


def test_what_a_user_notices_is_in_files_that_a_release_can_collect() -> None:
    """Towncrier takes a number alone behind the kind, and stops at two fragments without one."""
    names = [path.name for path in (ROOT / "changelog.d").glob("*.md")]
    assert [name for name in names if not re.fullmatch(r"\d+\.(added|changed|fixed|removed)\.\d+\.md", name)] == []
    texts = {name: (ROOT / "changelog.d" / name).read_text(encoding="utf-8") for name in names}
    assert {name: len(text.split()) for name, text in texts.items() if len(text.split()) > 25} == {}


@by_page
def test_commands_in_blocks_have_the_options_that_they_are_given(page: Path) -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    for line in lines:
        _, found, rest = line.partition("mobileclip-deploy ")
        if not found or "=" in line.split("mobileclip-deploy ")[0]:
            continue
        words = shlex.split(rest.split(" >> ")[0], comments=True)
        if words[0].isupper():
            continue
        command = cli.commands[words[0]]
        options = {option for one in command.get_params(click.Context(command)) for option in one.opts}
        assert [word for word in words if word.startswith("-") and word not in {*options, "-"}] == [], line
