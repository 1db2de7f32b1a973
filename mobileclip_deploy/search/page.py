"""HTML page of search results, with small pictures in it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from mobileclip_deploy.base.files import write_whole
from mobileclip_deploy.base.files.pages import filled_page
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.search.searching import SearchResult, nothing_found

SIDE = 240
"""Pixels of the longer side: sharp at 8.5 rem on a screen of double density."""


def write_page(result: SearchResult, tower: TowerName, path: Path) -> None:
    """Writes the page, whole or not at all.

    Args:
        tower: of the index: ids of images are files, which are shown as JPEGs of `SIDE` pixels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = _picture if tower == "image" else lambda _: None
    page = filled_page(__package__ or "", result=result, nothing_found=nothing_found, picture=shown)
    write_whole(path, page)


def _picture(file: str) -> str:
    """Returns an image file as a small JPEG in a data URL; empty if the file can no longer be read."""
    try:
        image = load_image(file)
    except InvalidInput:
        return ""
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
