"""Searches a folder of photos by words: a line a photo, the nearest first.

python examples/search_photos.py out/nano-onnx-fp16 models/nano/evaluation/images "a slice of pizza"
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import mobileclip_deploy as mcd


def main(bundle: str, folder: str, words: str, count: str = "3") -> None:
    """Prints cosine and file of the `count` photos that are nearest to the words."""
    with tempfile.TemporaryDirectory() as scratch:
        written = mcd.embed(bundle, folder, Path(scratch) / "photos.npy", normalise=True)
        photos = np.load(written.path)  # [N, D], each of length 1
        names = json.loads((Path(scratch) / "photos.json").read_text(encoding="utf-8"))["names"]
    query = mcd.load_runner(bundle, "text")(mcd.tokenize(words, bundle))[0]  # [D]
    cosines = photos @ (query / np.linalg.norm(query))
    for index in np.argsort(-cosines)[: int(count)]:
        print(f"{cosines[index]:.3f}", names[index], sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
