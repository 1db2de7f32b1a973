"""Prompt templates: texts with `{}` where the class name goes (`{c}` in CLIP_benchmark's files)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.bad_rows import BadRows
from mobileclip_deploy.evaluation.text_files import read_lines

__all__ = ["parse_templates", "read_templates"]


def parse_templates(texts: str | Sequence[str]) -> tuple[str, ...]:
    """Templates as given: each a template, or a file of them; or one.

    Raises:
        UsageError: neither a template with `{}` nor a file.
        InvalidInput: a file cannot be read.
    """
    templates: list[str] = []
    for text in (texts,) if isinstance(texts, str) else texts:
        if "{}" in text or "{c}" in text:
            templates.append(text.replace("{c}", "{}"))
        elif Path(text).is_file():
            templates += read_templates(Path(text))
        else:
            raise UsageError(f"the template {text!r} has no {{}} for the class, and is not a file of templates")
    return tuple(dict.fromkeys(templates))


def read_templates(path: Path) -> tuple[str, ...]:
    """One template a line.

    Raises:
        UsageError: a line has no `{}`, or there is none.
        InvalidInput: it cannot be read.
    """
    lines = read_lines(path, BadRows(skip=False))
    for number, line in lines:
        if "{}" not in line and "{c}" not in line:
            raise UsageError(f"{path}:{number}: the template {line!r} has no {{}} for the class")
    if not lines:
        raise UsageError(f"{path} holds no template")
    return tuple(dict.fromkeys(line.strip().replace("{c}", "{}") for _, line in lines))
