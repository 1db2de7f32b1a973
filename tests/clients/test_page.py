"""docs/clients.md: the interface that it shows is each package's whole interface, and the tests that it names exist;
and what a command writes for the packages is what they hold.
"""

import re
import sys
from itertools import chain

import pytest
from conversions import ROOT
from programs import output

CLIENTS = ROOT / "clients"
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
LANGUAGES = ("Swift", "Java, Kotlin", "JavaScript")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2]
    (table, *_) = re.findall(r"(?:^\|.*\n)+", section, re.M)
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]


def text(*patterns: str) -> str:
    files = chain.from_iterable(sorted(CLIENTS.glob(pattern)) for pattern in patterns)
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


DECLARED = {
    "Swift": re.findall(
        r"public (?:private\(set\) )?(?:static )?(?:final )?(?:func|var|let) (\w+)",
        text("swift/Sources/MobileCLIPKit/MobileCLIP.swift", "swift/Sources/MobileCLIPKit/SelfTest.swift"),
    ),
    "Java, Kotlin": re.findall(
        r"^    public (?:static |final )*[\w<>.]+ (\w+)(?=\(|;)", text("java/src/mobileclip/MobileCLIP.java"), re.M
    ),
    "JavaScript": re.findall(
        r"^  (?:static |readonly )?(\w+)\??(?=[(:])",
        text("js/types/mobileclip.d.ts").partition("export class MobileCLIP {")[2].partition("\n}")[0],
        re.M,
    ),
}
OWN = {"Swift": {"computeUnits", "relevance"}, "Java, Kotlin": {"close", "toString"}, "JavaScript": set[str]()}
RESULTS = {"towers", "tower", "inputs", "cosine", "relative", "gate", "failure", "passed", "sentence"}
"""Of Swift's self-test, whose types stand in the same file."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_holds_what_a_model_can_do_and_every_name_is_there(language: str) -> None:
    told = [row[1 + LANGUAGES.index(language)] for row in rows("One interface")]
    names = {name for cell in told for name in re.findall(r"`(?:\w+\.)?(\w+)", cell)}
    names -= {"Index", "IndexWriter", "LearnedLabels"}  # types
    declared = set(DECLARED[language])
    assert len(declared) > 10
    assert declared - names - OWN[language] - RESULTS - {"matches", "found", "needed", "best", "bridgedFrom"} == set()
    public = {
        "Swift": text("swift/Sources/MobileCLIPKit/**/*.swift"),
        "Java, Kotlin": text("java/src/mobileclip/*.java", "kotlin/src/mobileclip/*.kt"),
        "JavaScript": text("js/types/*.d.ts"),
    }[language]
    declaration = {
        "Swift": r"public .*\b(?:func|var|let) {}\b",
        "Java, Kotlin": r"(?:public .*\b{}\b|^fun {}\()",
        "JavaScript": r"^ *(?:export function |static |readonly )*{}\??[(:]",
    }[language]
    assert [one for one in names if not re.search(declaration.replace("{}", one), public, re.M)] == []


def test_the_codes_are_those_of_every_language() -> None:
    section = PAGE.partition("| code | what |")[2]
    told = re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.M)
    swift = re.findall(r"^        case (\w+)$", text("swift/Sources/MobileCLIPKit/MobileCLIPError.swift"), re.M)
    java = re.findall(r"^        ([A-Z]+),?$", text("java/src/mobileclip/MobileCLIPException.java"), re.M)
    (js,) = re.findall(r"export type ErrorCode = (.*);", text("js/types/mobileclip.d.ts"))
    assert told == swift == [one.lower() for one in java] == re.findall(r'"(\w+)"', js)


@pytest.mark.parametrize(
    ("language", "file"),
    [
        ("java", "java/src/mobileclip/EntityTable.java"),
        ("js", "js/src/entity_table.js"),
        ("swift", "swift/Sources/MobileCLIPKit/Tokenizer/HTMLEntityTable.swift"),
    ],
)
def test_the_table_of_entities_is_what_its_command_writes(language: str, file: str) -> None:
    assert text(file) == output(sys.executable, CLIENTS / "html_entities.py", language)
