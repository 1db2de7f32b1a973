# mypy: ignore-errors
"""A script without this toolkit, against which its start and throughput are measured (benchmarks/throughput.py).

    python benchmarks/plain_script.py classify BUNDLE THREADS PICTURE LABEL LABEL...
    python benchmarks/plain_script.py embed BUNDLE THREADS FOLDER OUTPUT

onnxruntime, Pillow and tokenizers alone, as a backend's author writes it from the bundle's manifest.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

task, folder, threads, *rest = sys.argv[1:]
bundle = Path(folder)
manifest = json.loads((bundle / "manifest.json").read_text())
size = manifest["preprocess"]["size"]
resample = Image.Resampling[manifest["preprocess"]["interpolation"].upper()]


def session(tower, intra):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra
    return onnxruntime.InferenceSession(bundle / manifest["towers"][tower]["file"], options)


def pixels(path):
    image = Image.open(path).convert("RGB")
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], resample)
    left, top = ((side - size) // 2 for side in image.size)
    cropped = image.crop((left, top, left + size, top + size))
    return (np.asarray(cropped, np.float32) / 255).transpose(2, 0, 1)[None]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if task == "classify":
    from tokenizers import Tokenizer

    picture, *labels = rest
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    ids = np.zeros((len(labels), manifest["tokenizer"]["context_length"]), np.int64)
    for row, encoded in zip(ids, tokenizer.encode_batch(labels), strict=True):
        row[: len(encoded.ids)] = encoded.ids
    image, text = session("image", int(threads)), session("text", int(threads))
    rows = unit(image.run(None, {image.get_inputs()[0].name: pixels(picture)})[0])
    columns = unit(text.run(None, {text.get_inputs()[0].name: ids})[0])
    odds = np.exp(manifest["logit_scale"] * (rows @ columns.T)[0])
    print(*(f"{label} {share:.3f}" for label, share in zip(labels, odds / odds.sum(), strict=True)), sep="\n")
else:
    # Each thread decodes and runs one picture at a time on one core.
    image = session("image", 1)
    name = image.get_inputs()[0].name
    with ThreadPoolExecutor(int(threads)) as pool:
        found = pool.map(lambda path: image.run(None, {name: pixels(path)})[0], sorted(Path(rest[0]).iterdir()))
    np.save(rest[1], unit(np.concatenate(list(found))))
