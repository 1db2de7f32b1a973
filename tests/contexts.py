"""A small causal text tower that knows every word: what contexts are tested on, by each target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden_checkpoints import fill
from safetensors.torch import save_file
from tiny import card

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints import open_clip
from mobileclip_deploy.checkpoints.fitting import Candidate
from mobileclip_deploy.model import variants

CONTEXTS = (16, 32, 77)
NAME = "tiny_causal"


def causal_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> mcd.MobileCLIP:
    """Its checkpoint, loaded; the variant is known while the test runs."""
    data = card("tiny_later") | {"name": NAME, "title": NAME, "tokenizer": {}}
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    cards = variants._cards() | {NAME: path}
    monkeypatch.setattr(variants, "_cards", lambda: cards)
    definition = variants.read_card(path).for_layout("open_clip")
    tensors = {
        open_clip.file_name(entry.key, definition): fill(0, entry.key, entry.shape)
        for key, entry in Candidate(variants.read_card(path), open_clip.NAME).expected.items()
        if not key.startswith("image.")
    }
    save_file(tensors, folder / f"{NAME}.safetensors")
    return mcd.load_model(NAME, folder / f"{NAME}.safetensors")
