"""A small causal text tower that knows every word: what contexts are tested on, by each target."""

from pathlib import Path

import pytest
from safetensors.torch import save_file
from tiny import CAUSAL, named, write_card

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model import variants

CONTEXTS = (16, 32, 77)


def causal_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> mcd.MobileCLIP:
    """Its checkpoint, loaded; the variant is known while the test runs."""
    path = write_card(CAUSAL, folder)
    cards = variants._cards() | {CAUSAL: path}
    monkeypatch.setattr(variants, "_cards", lambda: cards)
    tensors = named(variants.read_card(path), "open_clip")
    text = {key: value for key, value in tensors.items() if not key.startswith("visual.")}
    save_file(text, folder / f"{CAUSAL}.safetensors")
    return mcd.load_model(CAUSAL, folder / f"{CAUSAL}.safetensors")
