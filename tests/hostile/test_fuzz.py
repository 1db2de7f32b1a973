"""Every reader, given damaged files by seed: what cannot be used is refused in one line, soon, in little memory."""

import json
import random
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark import documents
from coreai_assets import Assets, require_coreai
from exports import Exports
from hostile.table import alarm
from indices import units, written
from litert_files import Files, require_litert
from pieces import tokenizer_json
from safetensors.torch import load_file

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.layouts import read_layout
from mobileclip_deploy.benchmark.documents import read_job, read_result
from mobileclip_deploy.benchmark.sweep.specification import read_specification
from mobileclip_deploy.errors import MobileClipDeployError
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.sentencepiece import spec_of
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TokenizerSpec, models_dir
from mobileclip_deploy.parity.baseline import read_lock
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.training.trainer.recipe import read_recipe

SEEDS, DOCUMENT_SEEDS = range(8), range(16)
SECONDS = 60
MEGABYTES = 500  # more than the process had before
BUNDLE = ("onnx", "fp16")
SWEEP = 'version = 1\ntargets = ["onnx", "coreml"]\nprecisions = ["w8"]\n[checkpoints.mine]\nfile = "a.safetensors"\n'


def of_bundle(file: str) -> Callable[[Exports, Path], Path]:
    """A bundle's copy; of it the file that is damaged."""
    return lambda exports, folder: exports.copy(*BUNDLE, folder) / file


def text(name: str, content: str) -> Callable[[Exports, Path], Path]:
    def make(_: Exports, folder: Path) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return make


def copied(source: Path, folder: Path) -> Path:
    """A copy of a file, or of the largest file of a package but its weights."""
    if not source.is_dir():
        return Path(shutil.copy(source, folder))
    copy = Path(shutil.copytree(source, folder / source.name))
    return next(iter(sorted(copy.rglob("*.mlmodel")) or sorted(copy.rglob("*.mlirb"))))


def saved(_: Exports, folder: Path) -> Path:
    """nano's own weights as torch stores them."""
    torch.save(load_file(builtin_checkpoint()), folder / "nano.pt")
    return folder / "nano.pt"


def coreai(exports: Exports, folder: Path) -> Path:
    require_coreai()
    return copied(Assets(exports.store.folder / "coreai").path("text", "w4"), folder)


def litert(exports: Exports, folder: Path) -> Path:
    require_litert()
    return copied(Files(exports.store.folder / "litert").path("text", "fp32"), folder)


def artifact(target: str, precision: str) -> Callable[[Exports, Path], Path]:
    return lambda exports, folder: copied(exports.bundle(target, precision).artifact("image"), folder)


def whole(path: Path) -> Path:
    """The package that a file is of."""
    return next((one for one in path.parents if one.suffix in (".mlpackage", ".aimodel")), path)


def a_table(exports: Exports, folder: Path) -> Path:
    shutil.copytree(models_dir() / "nano" / "evaluation", folder / "data")
    return folder / "data" / "pairs.jsonl"


def search_all(path: Path) -> None:
    """Open an index, ask it and read all of it."""
    index = mcd.Index(path)
    index.search(units(1), 5)
    assert len([name for names, _ in index.vectors() for name in names]) == len(index)


LIKE = TokenizerSpec(
    kind="sentencepiece", cleaning="canonicalize", vocab_size=900, context_length=16, sot=None, eot=1, pad=0
)


def tokenize(path: Path) -> None:
    """Read a vocabulary, and encode a text with it."""
    encode(["a cat \u732b"], spec_of(path.read_text(encoding="utf-8", errors="replace"), LIKE, 900))


READERS: dict[str, tuple[Callable[[Exports, Path], Path], Callable[[Path], Any]]] = {
    "manifest": (of_bundle("manifest.json"), lambda path: Bundle.open(path.parent)),
    "golden": (of_bundle("golden.safetensors"), Reference.read),
    "measurements": (of_bundle("parity.json"), lambda path: mcd.inspect(path.parent)),
    "tokenizer": (of_bundle("tokenizer/merges.txt"), lambda path: mcd.tokenize(["a cat"], path.parents[1])),
    "onnx": (artifact("onnx", "fp16"), mcd.inspect),
    "coreml": (artifact("coreml", "fp16"), lambda path: mcd.inspect(whole(path))),
    "executorch": (
        lambda exports, folder: copied(exports.unverified("executorch", "fp32", "image").artifact("image"), folder),
        mcd.inspect,
    ),
    "coreai": (coreai, lambda path: mcd.inspect(whole(path))),
    "litert": (litert, mcd.inspect),
    "safetensors": (lambda _, folder: copied(builtin_checkpoint(), folder), mcd.inspect),
    "pt": (saved, mcd.inspect),
    "job": (text("job.json", documents.job().model_dump_json()), read_job),
    "result": (text("result.json", documents.result().model_dump_json()), read_result),
    "recipe": (
        lambda _, folder: copied(models_dir() / "nano" / "recipes" / "run8.yaml", folder),
        read_recipe,
    ),
    "sweep": (text("sweep.toml", SWEEP), read_specification),
    "lock": (
        lambda _, folder: copied(Path(__file__).parents[1] / "end_to_end" / "parity.lock.json", folder),
        read_lock,
    ),
    "index": (lambda _, folder: written(folder / "a.mcdx", units(60), "bits"), search_all),
    "layout": (text("mine.json", mcd.read_layout("immich").model_dump_json()), read_layout),
    "table": (a_table, lambda path: read_dataset(path.parent)),
    "tokenizer.json": (lambda exports, folder: text("tokenizer.json", tokenizer_json())(exports, folder), tokenize),
}
DOCUMENTS = ("manifest", "measurements", "job", "result", "lock", "layout", "tokenizer.json")
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 2**70, 1e308, "", "x", "../x", "\x1b[2J", "\u202e"),
    *([], {}, [[]], [None], {"type": 3}, ["x"] * 1000, "y" * 100_000),
)


def flip(content: bytearray, place: int, chance: random.Random) -> None:
    content[place] ^= 1 << chance.randrange(8)


def fill(content: bytearray, place: int, chance: random.Random) -> None:
    length = chance.choice((1, 4, 64, 4096))
    content[place : place + length] = bytes([chance.choice((0, 127, 255))]) * length


def number(content: bytearray, place: int, chance: random.Random) -> None:
    """A length or offset that is none."""
    value = chance.choice((-1, 2**31 - 1, 2**40, 2**63 - 1, len(content)))
    content[place : place + 8] = struct.pack("<q", value)


def cut(content: bytearray, place: int, chance: random.Random) -> None:
    del content[place : place + chance.choice((1, 100, len(content)))]


def repeat(content: bytearray, place: int, chance: random.Random) -> None:
    part = bytes(content[place : place + 50])
    content[place:place] = part * chance.choice((1, 1000))


def words(content: bytearray, place: int, chance: random.Random) -> None:
    """What texts are made of."""
    content[place:place] = chance.choice(
        (
            b'"',
            b"{",
            b"[" * 2000,
            b"\\u0000",
            b"9" * 5000,
            b"NaN",
            b"1e999",
            b"\xff",
            b"\x1b[2J",
            b"null",
            b"../",
            b"\n",
        )
    )


EDITS = (flip, flip, fill, number, cut, repeat, words)


def replace_values(path: Path, seed: int) -> None:
    """Give some places of a JSON document other values, or none."""
    chance, document = random.Random(seed), json.loads(path.read_text(encoding="utf-8"))
    for _ in range(chance.randint(1, 3)):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
                place = place[key]
                continue
            if chance.random() < 0.2:
                del place[key]
            else:
                place[key] = chance.choice(VALUES)
            break
    path.write_text(json.dumps(document), encoding="utf-8")


def damage(path: Path, seed: int) -> None:
    """Make some edits of a file, half of them near its ends, where most formats say what follows."""
    chance, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 4)):
        if content:
            near = min(len(content), 2000)
            places = (chance.randrange(len(content)), chance.randrange(near), len(content) - 1 - chance.randrange(near))
            chance.choice(EDITS)(content, chance.choice(places), chance)
    path.write_bytes(content)


@pytest.mark.once("name")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("executorch", "litert"))) for name in READERS]
)
def test_a_damaged_file_is_read_or_refused_in_one_line(name: str, seed: int, exports: Exports, tmp_path: Path) -> None:
    make, read = READERS[name]
    path = make(exports, tmp_path)
    damage(path, seed)
    check(read, path)


@pytest.mark.once("name")
@pytest.mark.parametrize("seed", DOCUMENT_SEEDS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_with_other_values_is_read_or_refused_in_one_line(
    name: str, seed: int, exports: Exports, tmp_path: Path
) -> None:
    make, read = READERS[name]
    path = make(exports, tmp_path)
    replace_values(path, seed)
    check(read, path)


def check(read: Callable[[Path], Any], path: Path) -> None:
    """Whether a file is read, or refused in one line, in bounded time and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with alarm(SECONDS):
        try:
            read(path)
        except MobileClipDeployError as error:
            told = str(error)
            assert "\n" not in told
            assert len(told) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
