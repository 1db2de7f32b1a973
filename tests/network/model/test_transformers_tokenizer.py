"""The tokenizer files of a bundle in transformers 4 and 5: loaded, copied, pickled and saved."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers_client import install_older

from mobileclip_deploy.artifacts.bundle.model_card import write_preprocessor_config
from mobileclip_deploy.artifacts.layouts import read_layout, write_side_files
from mobileclip_deploy.network.model.variants import load_variant

pytestmark = pytest.mark.slow  # test_tokenizer.py has the files

VECTORS = Path(__file__).parents[3] / "clients" / "vectors" / "tokenizer.json"
COUNT = 200
SCRIPT = """
import copy, json, pickle, sys, tempfile
from transformers import AutoProcessor, AutoTokenizer, CLIPProcessor, __version__

folder, texts = sys.argv[1], json.load(sys.stdin)

def ids(tokenizer):
    rows = tokenizer(texts, padding=True, truncation=True)["input_ids"]
    return [row[: row.index(49407) + 1] for row in rows]

def saved(what, load):
    with tempfile.TemporaryDirectory() as other:
        what.save_pretrained(other)
        return load(other)

found = {}
for load, tokenizer_of in (
    (AutoTokenizer.from_pretrained, lambda tokenizer: tokenizer),
    (CLIPProcessor.from_pretrained, lambda processor: processor.tokenizer),
    (AutoProcessor.from_pretrained, lambda processor: processor.tokenizer),
):
    whole = load(folder)
    ways = {"loaded": whole, "copied": copy.deepcopy(whole), "pickled": pickle.loads(pickle.dumps(whole))}
    ways["saved"] = saved(whole, load)
    for way, one in ways.items():
        found[f"{load.__self__.__name__} {way}"] = ids(tokenizer_of(one))
print(json.dumps([__version__, found]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a bundle for ONNX holds beside its artifacts."""
    folder = tmp_path_factory.mktemp("bundle")
    variant = load_variant("nano")
    write_side_files(folder, read_layout("transformers.js"), variant, "inside")
    write_preprocessor_config(folder, variant.preprocess)
    return folder


@pytest.mark.parametrize("major", ["4", "5"])
def test_200_texts_of_all_scripts_keep_their_ids(folder: Path, major: str) -> None:
    pytest.importorskip("transformers", reason="needs transformers: pip install 'mobileclip-deploy[dev]'")
    bare = Tokenizer.from_file(str(folder / "tokenizer.json"))  # of the texts that the file can express
    bare.no_padding()
    rows: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]
    rows = [row for row in rows if bare.encode(row["text"]).ids == row["ids"]][:COUNT]
    assert len(rows) == COUNT
    paths = [str(install_older())] if major == "4" else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        input=json.dumps([row["text"] for row in rows]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    version, found = json.loads(done.stdout.splitlines()[-1])
    assert version.startswith(f"{major}.")
    assert len(found) == 3 * 4
    wanted = [row["ids"] for row in rows]
    assert {name: [t for t, w in zip(ids, wanted, strict=True) if t != w] for name, ids in found.items()} == {
        name: [] for name in found
    }
