"""The page's own arithmetic, in Node: pictures in Pillow's bytes, text in open_clip's numbers."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobileclip_deploy.model.preprocessing import preprocess
from mobileclip_deploy.model.tokenizer import tokenize, write_tokenizer_files, write_transformers_tokenizer
from mobileclip_deploy.model.variants import load_variant
from mobileclip_deploy.web.demo import PAGE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def node(require_tool: Callable[[str, str], str], tmp_path: Path) -> Callable[[str, Any], Any]:
    """Runs a script on a JSON value, and gives the JSON that it prints; it may import the page's scripts."""
    program = require_tool("node", "apt-get install nodejs")
    for script in PAGE.glob("*.js"):
        (tmp_path / script.with_suffix(".mjs").name).write_text(
            script.read_text(encoding="utf-8").replace('.js"', '.mjs"'), encoding="utf-8"
        )

    def ran(text: str, given: Any) -> Any:
        (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
        (tmp_path / "main.mjs").write_text('import { readFileSync as read } from "node:fs";\n' + text, encoding="utf-8")
        done = subprocess.run([program, "main.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ran


PREPARE = """
import { prepare } from "./resize.mjs";
const found = JSON.parse(read("given.json")).map(({ width, height, bytes, spec }) =>
  Array.from(prepare(Uint8ClampedArray.from(Buffer.from(bytes, "base64")), width, height, spec)));
console.log(JSON.stringify(found));
"""


@pytest.mark.parametrize(("interpolation", "kept"), [("bilinear", None), ("bicubic", 0.9)])
def test_pictures_are_prepared_in_the_same_bytes(
    node: Callable[[str, Any], Any], interpolation: str, kept: float | None
) -> None:
    random = np.random.default_rng(3)
    given, wanted = [], []
    spec = load_variant("nano").preprocess.model_copy(update={"interpolation": interpolation, "crop_fraction": kept})
    for width, height in ((64, 64), (65, 64), (67, 131), (640, 427), (31, 40)):
        # Noise has every value next to every other; of the smallest weights too the last bit shows.
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        given.append(
            {"width": width, "height": height, "bytes": base64.b64encode(pixels.tobytes()).decode()}
            | {"spec": spec.model_dump(mode="json")}
        )
        wanted.append(preprocess(Image.fromarray(pixels), spec).numpy().ravel())
    for found, expected in zip(node(PREPARE, given), wanted, strict=True):
        assert np.array_equal(np.asarray(found, np.float32), expected)


ENCODE = """
import { Tokenizer } from "./tokenizer.mjs";
const { folder, settings, texts } = JSON.parse(read("given.json"));
const merges = read(`${folder}/merges.txt`, "utf8");
const tokenizer = new Tokenizer(JSON.parse(read(`${folder}/vocab.json`)), merges, settings);
console.log(JSON.stringify(texts.map((text) => Array.from(tokenizer.encode([text]), Number))));
"""


def long_texts() -> list[str]:
    return ["a long sentence, " * 10_000, "".join(map(chr, range(0x4E00, 0x9FA5)))]


def test_text_becomes_open_clips_numbers_but_for_what_the_page_says(
    node: Callable[[str, Any], Any], tmp_path: Path
) -> None:
    from tokenizers import Tokenizer

    write_tokenizer_files(tmp_path)
    write_transformers_tokenizer(tmp_path)
    # tokenizer.json has the same differences, and a few more: what it gives rightly the page has to.
    reader = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    vectors = json.loads((ROOT / "tests/tokenizer_vectors.json").read_text(encoding="utf-8"))["vectors"]
    equal = [one for one in vectors if reader.encode(one["text"]).ids[: len(one["ids"])] == one["ids"]]
    assert len(equal) > 350
    long = " ".join(["a long sentence"] * 40)
    settings = load_variant("nano").tokenizer.model_dump(mode="json")
    texts = [*(one["text"] for one in equal), *long_texts(), long, ""]
    given = {"folder": str(tmp_path), "settings": settings, "texts": [*texts, "qwertz" * 100_000]}
    *found, cut, empty, word = node(ENCODE, given)
    *found, english, chinese = found
    assert [english, chinese] == tokenize(long_texts()).tolist()
    assert word[-1] == 49407
    for one, ids in zip(equal, found, strict=True):
        assert ids == [*one["ids"], *[0] * (77 - len(one["ids"]))], one["text"]
    assert (len(cut), cut[0], cut[-1]) == (77, 49406, 49407)
    assert empty == [49406, 49407, *[0] * 75]
