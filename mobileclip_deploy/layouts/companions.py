"""The files that a layout wants beside the artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mobileclip_deploy.layouts.layout import PLACEHOLDER, Layout, values_of
from mobileclip_deploy.model.tokenizer import tokenizer_file
from mobileclip_deploy.model.variants import Variant, no_text_tower

__all__ = ["write_side_files"]


def write_side_files(folder: Path, layout: Layout, variant: Variant) -> None:
    """Write them into a bundle's folder.

    Raises:
        UsageError: a file says something of a text tower, and the variant has none.
    """
    values = values_of(variant)
    for name, file in layout.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.tokenizer is not None:
            path.write_bytes(tokenizer_file(file.tokenizer, variant.tokens.context_length))
        else:
            path.write_text(json.dumps(_filled(file.content, values), indent=2) + "\n", encoding="utf-8")


def _filled(content: Any, values: dict[str, Any]) -> Any:
    if isinstance(content, str):
        found = PLACEHOLDER.fullmatch(content)
        if found is not None and found[1] not in values:
            raise no_text_tower(str(values["variant"]))
        return content if found is None else values[found[1]]
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    return [_filled(value, values) for value in content] if isinstance(content, list) else content
