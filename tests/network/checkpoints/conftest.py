"""Small variants beside the packaged ones."""

from pathlib import Path

import pytest
from tiny import write_cards

from mobileclip_deploy.network.model import variants


@pytest.fixture(scope="module")
def tiny_cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Cards of the small variants."""
    return write_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture(autouse=True)
def known_tiny_variants(tiny_cards: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The small variants are known during each of these tests."""
    cards = variants._cards() | tiny_cards
    monkeypatch.setattr(variants, "_cards", lambda: cards)
