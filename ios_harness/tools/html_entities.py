"""Writes HTMLEntityTable.swift: HTML 5's named character references, from Python's html.entities.

python ios_harness/tools/html_entities.py > ios_harness/HarnessCore/Sources/CLIPTokenizer/HTMLEntityTable.swift
"""

from __future__ import annotations

import html.entities
import textwrap


def swift_table() -> str:
    """`name=hex` a reference, `name!=hex` where the semicolon may be left out; two code points are joined by `+`."""
    names = html.entities.html5
    entries = []
    for name in sorted(name[:-1] for name in names if name.endswith(";")):
        value = "+".join(f"{ord(character):X}" for character in names[f"{name};"])
        entries.append(f"{name}{'!' if name in names else ''}={value}")
    lines = textwrap.wrap(" ".join(entries), 116, break_long_words=False, break_on_hyphens=False)
    head = "// Written by ios_harness/tools/html_entities.py from Python's html.entities.\n"
    return head + 'let htmlEntityTable = """\n' + "".join(f"    {line}\n" for line in lines) + '    """\n'


if __name__ == "__main__":
    print(swift_table(), end="")
