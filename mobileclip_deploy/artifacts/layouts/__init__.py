"""Layouts, the package's and a user's own: an app's names of files and tensors, and the files next to them, as data."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mobileclip_deploy.artifacts.layouts.layout import PLACEHOLDER, Layout, TensorLayout, values_of
from mobileclip_deploy.base.files import StrPath, read_json
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.errors import InvalidInput, UsageError, first_problem, readable_reason, suggestion
from mobileclip_deploy.network.model.tokenizer import Padding, tokenizer_file
from mobileclip_deploy.network.model.variants import Variant

__all__ = [
    "Layout",
    "TensorLayout",
    "default_layout",
    "layout_names",
    "layouts",
    "packaged_layout",
    "read_layout",
    "write_side_files",
]

ENDING = ".json"


def layout_names() -> tuple[str, ...]:
    """Returns the names of the package's layouts, in alphabetical order."""
    return tuple(_packaged())


def layouts() -> tuple[Layout, ...]:
    """Returns the layouts of the package: the app of each, its target, files and tensors.

    Raises:
        ValidationError: a file of the package was changed, and is not a valid layout.
    """
    return tuple(_packaged().values())


def packaged_layout(name: str) -> Layout | None:
    """Returns the package's layout of this name, ignoring case. None if there is none."""
    return _packaged().get(name.casefold())


def default_layout(target: str) -> Layout | None:
    """Returns the layout that a target uses if none is named. None if its names are its own."""
    return next((layout for layout in layouts() if layout.target == target and layout.default), None)


def read_layout(name: StrPath) -> Layout:
    """Reads a layout by its name, or from a file that ends in .json.

    Raises:
        UsageError: no layout has this name; the text lists those that exist.
        InvalidInput: the file cannot be read, is not a layout, or has the name of one of the package.
    """
    text = str(name)
    if (packaged := packaged_layout(text)) is not None:
        return packaged
    if not text.endswith(ENDING):
        names = ", ".join(layout_names())
        raise UsageError(
            f"unknown layout {text!r}{suggestion(text, layout_names())}; known: {names}, or a file of your own (*.json)"
        )
    path = Path(text)
    try:
        layout = Layout.model_validate(read_json(path))
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such layout file") from None
    except ValidationError as error:
        raise InvalidInput(f"{path} is not a valid layout: {first_problem(error)}") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {readable_reason(error)}") from error
    namesake = packaged_layout(layout.name)
    if layout.default or (namesake is not None and layout != namesake):
        problem = (
            "`default` is only for packaged layouts" if layout.default else f"{layout.name} is a packaged layout's name"
        )
        raise InvalidInput(f"{path}: {problem}; change that line")
    return layout


@cache
def _packaged() -> Mapping[str, Layout]:
    folder = files("mobileclip_deploy.artifacts.layouts") / "data"
    layouts_read = [
        parse_model(Layout, file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name.endswith(ENDING)
    ]
    return {layout.name: layout for layout in sorted(layouts_read, key=lambda layout: layout.name)}


def write_side_files(folder: Path, layout: Layout, variant: Variant, padding: Padding = "outside") -> None:
    """Writes the layout's side files into a bundle's folder.

    Args:
        padding: of the tokenizer's files.

    Raises:
        UsageError: a file has a value of a text tower, and the variant has none.
    """
    values = values_of(variant)
    for name, file in layout.files.items():
        path = within(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.tokenizer is not None:
            path.write_bytes(tokenizer_file(file.tokenizer, variant.tokens, padding))
        else:
            path.write_text(json.dumps(_filled(file.content, values), indent=2) + "\n", encoding="utf-8")


def _filled(content: Any, values: dict[str, Any]) -> Any:
    if isinstance(content, str):
        match = PLACEHOLDER.fullmatch(content)
        return content if match is None else values[match[1]]
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    return [_filled(value, values) for value in content] if isinstance(content, list) else content
