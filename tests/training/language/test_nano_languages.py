"""The committed text tower of nine languages: nano's image tower with it, and names that find their English ones."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset, read_dataset
from mobileclip_deploy.evaluation.metrics import ranks_of
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.pictures.embedding import embed_prompts

NANO = models_dir() / "nano"
WEIGHTS = NANO / "languages" / "weights.safetensors"
LANGUAGES = ("de", "fr", "es", "pt", "ru", "uk", "ja", "zh", "ko")


def test_the_image_tower_is_nanos_byte_for_byte() -> None:
    before, after = load_file(NANO / "weights.safetensors"), load_file(WEIGHTS)
    kept = [name for name in before if not name.startswith("text_encoder.")]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    text = [value for name, value in after.items() if name.startswith("text_encoder.")]
    assert sum(value.numel() * value.element_size() for value in text) < 8_000_000


@pytest.mark.once
@pytest.mark.parametrize("language", LANGUAGES)
def test_learned_names_find_their_english_ones(language: str) -> None:
    """Every tenth name among as many English ones, embedded by nano itself."""
    rows = slice(0, None, 10)
    told = read_dataset(NANO / "evaluation", language=language).captions[rows]
    english = builtin_dataset().captions[rows]
    teacher, tower = (
        model_embedder(mcd.load_model(checkpoint=file)) for file in (NANO / "weights.safetensors", WEIGHTS)
    )
    found = embed_prompts(tower, told) @ embed_prompts(teacher, english).T
    assert np.mean(ranks_of(found, np.arange(len(english))) < 10) > 0.75
