"""Writes the clients' tables of HTML 5's named character references, from Python's html.entities.

python clients/html_entities.py swift > clients/swift/Sources/MobileCLIPKit/Tokenizer/HTMLEntityTable.swift
python clients/html_entities.py js > clients/js/src/entity_table.js
python clients/html_entities.py java > clients/java/src/mobileclip/EntityTable.java
"""

from __future__ import annotations

import html.entities
import sys
import textwrap

JAVA = """package mobileclip;

final class EntityTable {
    private EntityTable() {}

    static String table() {
        return \"\""""
OPENING = {"swift": 'let htmlEntityTable = """', "js": "export const ENTITY_TABLE = `", "java": JAVA}
CLOSING = {"swift": '    """', "js": "`;", "java": "            ;\n    }\n}"}
LINES = {"swift": "    {}\n", "js": "    {}\n", "java": '            + "{} "\n'}


def table(language: str) -> str:
    """`name=hex` a reference, `name!=hex` where the semicolon may be left out; two code points are joined by `+`."""
    names = html.entities.html5
    entries = []
    for name in sorted(name[:-1] for name in names if name.endswith(";")):
        value = "+".join(f"{ord(character):X}" for character in names[f"{name};"])
        entries.append(f"{name}{'!' if name in names else ''}={value}")
    lines = textwrap.wrap(
        " ".join(entries), 102 if language == "java" else 116, break_long_words=False, break_on_hyphens=False
    )
    head = f"// Written by clients/html_entities.py from Python's html.entities.\n{OPENING[language]}\n"
    return head + "".join(LINES[language].format(line) for line in lines) + f"{CLOSING[language]}\n"


if __name__ == "__main__":
    print(table(sys.argv[1]), end="")
