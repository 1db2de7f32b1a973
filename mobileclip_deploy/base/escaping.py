"""Escaping of untrusted text in outputs.

Names and labels can move a terminal's cursor, hide words or reverse their order. They can add headings, links and HTML
to Markdown, and formulas to a spreadsheet.
"""

import json
import re
import unicodedata
from collections.abc import Iterable

JOINERS = "\u200c\u200d"
"""Invisible joiners that are kept: Persian and emoji need them, and they do nothing else."""
NOT_ASCII = re.compile(r"[^ -~]")
BROKEN = re.compile("[\ud800-\udfff]")
"""Characters that UTF-8 cannot encode, such as Python's form of the bytes of a file name that is not UTF-8."""
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""First characters of formulas in spreadsheets; the last four are full-width ones."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|-?(inf|nan)")


def shown(text: str) -> str:
    r"""Escapes a text to one line: characters that are not printable become `\n`, `\x1b` or `\u202e`. A byte of a file
    name that is not UTF-8 is shown as the byte."""
    return text if text.isprintable() else NOT_ASCII.sub(lambda match: _shown(match[0]), text)


def _shown(character: str) -> str:
    if _is_harmless(character):
        return character
    if "\udc80" <= character <= "\udcff":  # how Python keeps such a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _is_harmless(character: str) -> bool:
    """Returns whether a character is safe to print. Python counts spaces other than ASCII's as not printable."""
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def shown_in_text(text: str) -> str:
    """Escapes a text of several lines as `shown` does; line ends and tabs stay."""
    return re.sub(r"[^ -~\n\t]", lambda match: _shown(match[0]), text)


def writable(text: str) -> str:
    """Escapes the characters that UTF-8 cannot encode; all others stay."""
    return BROKEN.sub(lambda match: _shown(match[0]), text)


def shown_json(text: str) -> str:
    """Escapes the same characters as `shown` in a JSON text, by JSON's own escapes, so that its value stays the
    same."""
    return NOT_ASCII.sub(
        lambda found: found[0] if found[0] == "\n" or _is_harmless(found[0]) else json.dumps(found[0])[1:-1], text
    )


def in_markdown(text: str) -> str:
    """Escapes text for a line or a cell of Markdown, so that it is not HTML, a link, code or the end of a cell."""
    return re.sub(r"[\\`\[|]", r"\\\g<0>", shown(text)).replace("<", "&lt;")


def markdown_row(cells: Iterable[str]) -> str:
    """Returns a row of a table in Markdown."""
    return f"| {' | '.join(map(in_markdown, cells))} |"


def in_code(text: str) -> str:
    """Formats text as code within a line or a cell of Markdown."""
    text = shown(text).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    blank = " " if "`" in text else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def in_spreadsheet(cell: str) -> str:
    """Escapes a cell of CSV: an apostrophe makes a formula a text; numbers stay numbers."""
    cell = shown(cell)
    return f"'{cell}" if cell.lstrip().startswith(FORMULA) and not NUMBER.fullmatch(cell) else cell
