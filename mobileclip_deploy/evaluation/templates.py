"""Prompt templates with `{}` for the class name (`{c}` in CLIP_benchmark's files), given or in files."""

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.prompts import template_fault
from mobileclip_deploy.pictures.text_files import BadRows, read_lines


def parse_templates(texts: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the given templates: each text is a template or a file of templates.

    Raises:
        UsageError: neither a template with `{}` nor a file, or a template that is too long.
        InvalidInput: a file cannot be read.
    """
    templates: list[str] = []
    for text in (texts,) if isinstance(texts, str) else texts:
        is_file = "{}" not in text and "{c}" not in text and Path(text).is_file()
        templates += read_templates(Path(text)) if is_file else [_checked(text)]
    return tuple(dict.fromkeys(templates))


def _checked(text: str, where: str = "", more: str = ", and is not a file of templates") -> str:
    if "{}" not in text and "{c}" not in text:
        raise UsageError(f"{where}the template {text[:100]!r} has no {{}} for the class{more}")
    if (fault := template_fault(text := text.replace("{c}", "{}"))) is not None:
        raise UsageError(f"{where}{fault}")
    return text


def read_templates(path: Path) -> tuple[str, ...]:
    """Reads one template per line.

    Raises:
        UsageError: a line has no `{}` or is too long, or there is none.
        InvalidInput: it cannot be read.
    """
    lines = read_lines(path, BadRows(skip=False))
    if not lines:
        raise UsageError(f"{path} holds no template")
    return tuple(dict.fromkeys(_checked(line.strip(), f"{path}:{number}: ", "") for number, line in lines))
