"""Ceilings for the words that make this project's prose hard to read, in the package, the pages and the clients.

A ceiling is today's rate per 1,000 words, rounded up, or the number of today. It is only lowered.
"""

import ast
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPENING = re.compile(r"(What|Whether|How|Where|Which|Why|Who|When|From when|Of|Those|That)\b")
OPENINGS = 1
"""Number of docstrings in the package that may begin with a relative clause."""
IDIOMS = {
    "stand(s), stood": (r"\b(stands?(?!-in)|stood|standing)\b", 0.04),
    "told, tell(s)": (r"\b(told|tells?|telling)\b", 0.08),
    "ask(s), asked": (r"\b(asked|asks?|asking)\b", 0.045),
    "beside": (r"\bbeside\b", 0.02),
    "behind": (r"\bbehind\b", 0.025),
    "anew": (r"\banew\b", 0),
    "so many, so much": (r"\bso (many|much)\b", 0),
    "of what, of which": (r"\bof (what|which|whom)\b", 0),
}
EMPTY_NAMES = re.compile("(told|found|asked|one|own|known|wanted|given|kept|taken|held|said|looked|begun|takers?)")
NAMES = 206
"""Number of variables and parameters in the package whose name says nothing of their value."""
PAGES = {"told, tell(s)": 0.35, "ask(s), asked": 0.14, "beside": 0.07}
"""Higher ceilings of README.md and docs/, without docs/figures."""
SHORT = {"told, tell(s)": 0.3}
"""Higher ceiling of texts so short that one word exceeds the package's."""
COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", re.S)
SOURCES = {
    "Swift": ("clients/swift/*.swift", "ios_harness/*.swift"),
    "Java and Kotlin": ("clients/java/*.java", "clients/kotlin/*.kt", "android_harness/*.java"),
    "JavaScript": ("clients/js/*.js", "clients/js/*.ts", "mobileclip_deploy/*.js"),
    "C++": ("android_harness/*.cpp", "android_harness/*.hpp"),
}


def files(*patterns: str) -> list[str]:
    """Texts of the repository's files that match, in git's form of a pattern."""
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [(ROOT / name).read_text(encoding="utf-8") for name in sorted(filter(None, listed.stdout.split("\0")))]


def excess(texts: Iterable[str], ceilings: dict[str, float]) -> dict[str, float]:
    """Idioms that occur more often than their ceiling, per 1,000 words."""
    joined = " ".join(texts)
    words = len(joined.split())
    assert words > 500, "nothing to count: is the pattern right?"
    rates = {name: 1000 * len(re.findall(idiom, joined, re.I)) / words for name, (idiom, _) in IDIOMS.items()}
    return {name: round(rate, 3) for name, rate in rates.items() if rate > ceilings.get(name, IDIOMS[name][1])}


@dataclass
class Package:
    """Docstrings, prose (strings with a space, docstrings and comments) and names of the package's modules."""

    docstrings: list[str]
    prose: list[str]
    names: list[str]


@pytest.fixture(scope="module")
def package() -> Package:
    docstrings, prose, names = [], [], []
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    for text in files("mobileclip_deploy/*.py"):
        prose += [line.split("# ", 1)[1] for line in text.splitlines() if "# " in line]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant):
                if isinstance(node.value, str) and " " in node.value:
                    prose.append(node.value)
            elif isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Store):
                    names.append(node.id)
            elif isinstance(node, ast.arg):
                names.append(node.arg)
            elif isinstance(node, documented) and (docstring := ast.get_docstring(node)):
                docstrings.append(docstring)
    return Package(docstrings, prose, names)


def test_docstrings_begin_with_a_verb_or_a_noun(package: Package) -> None:
    relative = [docstring.splitlines()[0] for docstring in package.docstrings if OPENING.match(docstring)]
    assert len(relative) <= OPENINGS, relative


def test_the_package_is_written_in_the_words_of_its_field(package: Package) -> None:
    assert excess(package.prose, {}) == {}


def test_names_say_what_a_value_is(package: Package) -> None:
    empty = [name for name in package.names if EMPTY_NAMES.fullmatch(name)]
    assert len(empty) <= NAMES, f"{len(empty)} names of {sorted(set(empty))}; name the value: message, record, request"


def test_pages_are_written_in_the_words_of_their_field() -> None:
    assert excess(files("README.md", "docs/*.md", ":!docs/figures"), PAGES) == {}


def test_other_first_pages_are_written_in_the_words_of_their_field() -> None:
    assert excess(files("CONTRIBUTING.md", "SECURITY.md", "clients/*.md", "*_harness/*.md"), SHORT) == {}


@pytest.mark.parametrize("language", SOURCES)
def test_comments_are_written_in_the_words_of_their_field(language: str) -> None:
    comments = [comment for text in files(*SOURCES[language]) for comment in COMMENT.findall(text)]
    assert excess((re.sub(r"- Parameter \w+:", "", comment) for comment in comments), SHORT) == {}
