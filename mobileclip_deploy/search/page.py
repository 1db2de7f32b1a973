"""HTML page with small pictures: of search results, or of the pictures that were labelled wrongly."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.base.files import check_file_destination, write_whole
from mobileclip_deploy.base.files.pages import filled_page
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.search.searching import SearchResult, nothing_found

if TYPE_CHECKING:
    from mobileclip_deploy import EvaluationResult

SIDE = 240
"""Pixels of the longer side: sharp at 8.5 rem on a screen of double density."""
MOST = 20
"""Pictures of each label, and labels, on a page of mistakes."""
Section = tuple[str, str, Sequence[tuple[str, float, str]]]
"""Its heading, a note, and its pictures: file, figure, text."""


def write_page(result: SearchResult, tower: TowerName, path: Path) -> None:
    """Writes the page, whole or not at all.

    Args:
        tower: of the index: ids of images are files, which are shown as JPEGs of `SIDE` pixels.
    """
    sections = [
        (answer.query, "" if answer.found else nothing_found(answer), [(m.id, m.score, m.id) for m in answer.matches])
        for answer in result.answers
    ]
    source = f"{result.count:,} embeddings of {result.embedding_space}, asked by {result.bundle.name}"
    _write(path, (result.index.name, source), sections, _picture if tower == "image" else lambda _: None)


def mistakes_page(path: Path, force: bool) -> Callable[[EvaluationResult], None]:
    """Returns a function that writes such a page of `evaluate`'s mistakes.

    Raises:
        UsageError: the page cannot be written. The function: the result has no figures by label.
    """
    check_file_destination(path, force, "html")

    def write(result: EvaluationResult) -> None:
        if not result.averages:
            raise UsageError(f"{result.dataset} has too many pictures and classes for `html`; take fewer")
        count = f"{len(result.mistakes):,} of {result.images:,} pictures are labelled wrongly by {result.model}"
        source = f"{count}; under each label those that got it and are another one, and those that did not get it"
        with sole_writer(path, "evaluate", force=force):
            _write(path, (result.dataset, source), _by_label(result), _picture)

    return write


def _by_label(result: EvaluationResult) -> list[Section]:
    """Returns the mistakes of each label, the labels with most of them and the largest scores first."""
    wrong: dict[str, list[tuple[str, float, str]]] = {}
    for mistake in result.mistakes:
        labels = " and ".join(f"{label} {score:.3f}" for label, score in mistake.predicted.items()) or "none of these"
        for label in {mistake.label} ^ mistake.predicted.keys():
            score = mistake.predicted.get(label)
            text = f"given {labels}" if score is None else f"is {mistake.label} {mistake.score:.3f}"
            text += f": {Path(mistake.image).name}"
            wrong.setdefault(label, []).append((mistake.image, mistake.score if score is None else score, text))
    worst = sorted(wrong.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:MOST]
    shown = [(label, sorted(pictures, key=lambda picture: -picture[1])) for label, pictures in worst]
    return [(label, f"pictures: {len(pictures):,}", pictures[:MOST]) for label, pictures in shown]


def _write(
    path: Path, head: tuple[str, str], sections: Sequence[Section], picture: Callable[[str], str | None]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page = filled_page(__package__ or "", heading=head[0], source=head[1], sections=sections, picture=picture)
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
