"""Packaged photographs and prompts for parity checks without a user's own; see ATTRIBUTION.md."""

import json
from os import PathLike
from pathlib import Path

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.errors import InvalidInput, readable_reason

__all__ = ["calibration_prompts", "image_paths", "prompts", "read_prompts"]

_FOLDER = Path(__file__).parent
PROMPTS_BYTES = 1 << 30


def image_paths() -> list[Path]:
    """Returns the packaged photographs, JPEG, sorted by name: landscape, portrait and square, one of them grey."""
    return sorted(_FOLDER.glob("*.jpg"))


def prompts() -> list[str]:
    """Returns the packaged prompts: plain, accented, non-Latin, emoji, empty, long (six of 41 tokens up to a
    whole context), and longer than a context."""
    longer = json.loads((_FOLDER / "longer.json").read_text(encoding="utf-8"))
    return [longer.get(prompt, prompt) for prompt in calibration_prompts()]


def calibration_prompts() -> list[str]:
    """Returns the packaged prompts that activations are measured on; one of them fills a context. Artifacts' bytes
    depend on them, and bundles until 0.3 also have them as golden inputs."""
    return read_prompts(_FOLDER / "prompts.json")


def read_prompts(path: str | PathLike[str]) -> list[str]:
    """Reads prompts from a UTF-8 file: .json, a list of strings; any other name, one prompt per line.

    Blank lines of a text file are skipped: the empty prompt can be given in JSON only.

    Raises:
        InvalidInput: the file cannot be read, is not UTF-8 (with the line's number), not a list of strings, or has no
            prompt.
    """
    path = Path(path)
    try:
        text = read_regular(path, PROMPTS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: cannot be read ({readable_reason(error)})") from None
    if path.suffix.lower() == ".json":
        listed = _parse_json(path, text)
    else:
        listed = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not listed:
        raise InvalidInput(f"{path}: contains no prompt")
    return listed


def _parse_json(path: Path, text: str) -> list[str]:
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: not JSON ({readable_reason(error)})") from None
    if not isinstance(value, list):
        raise InvalidInput(f"{path}: not a JSON list of strings")
    for index, prompt in enumerate(value):
        if not isinstance(prompt, str):
            raise InvalidInput(f"{path}: entry {index} is not a string")
    return value
