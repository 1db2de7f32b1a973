"""Queryable: packages of its layout, by the names that it looks for, with its own reading of texts.

Written from mazzzystar/Queryable at commit b95a05a8ac1bee2d703af869b9e9e996dd9672bd, Queryable/Queryable/CLIP:
ImgEncoder.swift and TextEncoder.swift (names of files, inputs and outputs; the text's input is whichever comes first),
Tokenizer/BPETokenizer.swift and BPETokenizer+Reading.swift (vocab.json, merges.txt; the vocabulary lacks what is 0).
The app stretches pictures to 256 x 256 by Core Image, which exists on Apple's systems alone: pictures here are square.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from exports import Exports
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact

pytestmark = pytest.mark.slow  # test_layouts.py has its names, targets/ the packages of Core ML
TEXTS = ["a photo of a cat", "two dogs on a beach", "red bicycle"]


class Tokenizer:
    """Byte pair encoding as the app does it: words at spaces, the lowest rank merged first."""

    def __init__(self, folder: Path) -> None:
        self.vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#")]
        self.ranks = {(left, right): rank for rank, (left, right) in enumerate(pairs)}

    def ids(self, text: str, length: int) -> list[int]:
        tokens = ["<|startoftext|>"]
        for word in re.sub(r"\s+", " ", text.strip().lower()).split(" "):
            tokens += self._word(word)
        tokens += ["<|endoftext|>"]
        tokens += ["[PAD]"] * (length - len(tokens))
        return [self.vocabulary.get(token, 0) for token in tokens]

    def _word(self, word: str) -> list[str]:
        tokens = [*word[:-1], f"{word[-1]}</w>"]
        while pairs := [pair for pair in pairwise(tokens) if pair in self.ranks]:
            best, merged, position = min(pairs, key=self.ranks.__getitem__), [], 0
            while position < len(tokens):
                joins = tuple(tokens[position : position + 2]) == best
                merged.append("".join(best) if joins else tokens[position])
                position += 2 if joins else 1
            tokens = merged
        return tokens


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("queryable", verify=False)


def test_packages_are_found_and_named_as_the_app_asks(bundle: mcd.Bundle) -> None:
    image = CoreMLArtifact(bundle.path / "ImageEncoder_mobileCLIP_s2.mlpackage").ports
    text = CoreMLArtifact(bundle.path / "TextEncoder_mobileCLIP_s2.mlpackage").ports
    assert [info.name for info in (*image, *text)] == ["colorImage", "embOutput", "prompt", "text_embeddings"]
    assert (image[0].colour, text[0].dtype, text[0].shape) == ("RGB", "int32", (1, 77))
    assert not mcd.verify(bundle, thorough=False).failed


def test_pictures_and_texts_have_the_checkpoint_s_embeddings(bundle: mcd.Bundle, tmp_path: Path) -> None:
    model, tokenizer = mcd.load_model(), Tokenizer(bundle.path)
    ids = np.array([tokenizer.ids(text, 77) for text in TEXTS])
    assert np.array_equal(ids, mcd.tokenize(TEXTS))
    files = []
    for path in image_paths()[:3]:
        with Image.open(path) as opened:
            opened.convert("RGB").crop((0, 0, 300, 300)).save(tmp_path / f"{path.stem}.png")
        files.append(tmp_path / f"{path.stem}.png")
    pixels = mcd.preprocess(files, model)
    image = CoreMLArtifact(bundle.path / "ImageEncoder_mobileCLIP_s2.mlpackage").runner()
    text = CoreMLArtifact(bundle.path / "TextEncoder_mobileCLIP_s2.mlpackage").runner()
    assert compare(embed_images(model, pixels), image(pixels)).cosine > 0.9999
    assert compare(embed_texts(model, ids), text(ids)).cosine > 0.9999
