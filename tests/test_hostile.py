"""What was made to do harm is refused in one line, soon, and without taking the machine's memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from benchmark import documents
from command_line import PROGRAM, Outcome, refusal, run
from exports import Exports
from safetensors.numpy import load_file, save_file

import mobileclip_deploy as mcd
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import FoldingError, InvalidInput
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.variants import models_dir

MEGABYTES = 500
SECONDS = 2  # of CPU time, and what importing torch takes on this machine where something is read that needs it
# By a small process in between: the most memory of a child counts what its parent had when it was forked.
MEASURED = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
MANY = "[" + "0," * 5_000_000 + "0]"
DEEP = "[" * 100_000


def refused(*arguments: str | Path) -> str:
    """The line with which a command refuses, in this process: what hangs is interrupted."""
    with alarm(60):
        line = refusal(run(*arguments))
    assert len(line) < 600
    return line


def measured(*command: str) -> tuple[Outcome, float, float]:
    """What a process printed, the seconds of CPU time that it took and the most megabytes that it had."""
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, timeout=120)
    *printed, used = done.stderr.splitlines()
    seconds, megabytes = map(float, used.split())
    return Outcome(done.returncode, done.stdout, "\n".join(printed)), seconds, megabytes


@cache
def importing_torch() -> float:
    """Seconds of CPU time."""
    return measured(sys.executable, "-c", "import torch")[1]


def refused_cheaply(*arguments: str | Path, torch: bool = True) -> str:
    """The line with which a command refuses, in a process of its own that is held to time and memory.

    Args:
        torch: whether what is refused is read with torch; what stands in a manifest is not.
    """
    outcome, seconds, megabytes = measured(*PROGRAM, *map(str, arguments))
    line = refusal(outcome)
    print(f"{seconds:.1f} s, {megabytes:.0f} MB: {line}")
    assert len(line) < 600
    assert megabytes < MEGABYTES
    assert seconds < SECONDS + (importing_torch() if torch else 0)
    return line


@pytest.fixture
def bundle(exports: Exports, tmp_path: Path) -> Path:
    return exports.copy("onnx", "fp16", tmp_path)


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    text = json.dumps(manifest).replace('"DIGITS"', "9" * 5_000)
    (bundle / "manifest.json").write_text(text, encoding="utf-8")


MANIFESTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "5 million items": (lambda path: (path / "manifest.json").write_text(MANY), "larger than"),
    "a million labels": (lambda path: (path / "manifest.json").write_text("[" + "0," * 10**6 + "0]"), "more items"),
    "100,000 labels that are none": (
        lambda path: edit(path, lambda m: m.update(classifier={"labels": [0] * 90_000, "template": "{}"})),
        "classifier.labels.0",
    ),
    "nested": (lambda path: (path / "manifest.json").write_text(DEEP), "nested"),
    "a number of 5,000 digits": (lambda path: edit(path, lambda m: m.update(embed_dim="DIGITS")), "digits"),
    "a number of 400 digits": (lambda path: edit(path, lambda m: m.update(embed_dim=10**400)), "embed_dim"),
    "context length": (
        lambda path: edit(path, lambda m: m["tokenizer"].update(context_length=10**9)),
        "tokenizer.context_length is not from 1",
    ),
    "embedding": (lambda path: edit(path, lambda m: m.update(embed_dim=10**9)), "embed_dim is not"),
    "image size": (lambda path: edit(path, lambda m: m["preprocess"].update(size=10**9)), "preprocess.size is not"),
    "a path that is none": (
        lambda path: edit(path, lambda m: m["towers"]["image"].update(file="a\0b")),
        "cannot be found",
    ),
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_is_refused(bundle: Path, manifest: str) -> None:
    harm, complaint = MANIFESTS[manifest]
    harm(bundle)
    if "000" in manifest or "million" in manifest:
        assert complaint in refused_cheaply("inspect", bundle, torch=False)
    else:
        assert complaint in refused("inspect", bundle)


def test_a_pipe_in_place_of_any_file_is_not_waited_for(bundle: Path) -> None:
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    assert len(files) > 8
    with alarm(20):
        for file in files:
            kept = file.rename(file.with_name("kept"))
            os.mkfifo(file)
            with pytest.raises(InvalidInput, match="not a regular file"):
                Bundle.open(bundle)
            file.unlink()
            file.symlink_to(file)
            with pytest.raises(InvalidInput, match=r"cannot be (read|found)"):
                Bundle.open(bundle)
            file.unlink()
            kept.rename(file)
    Bundle.open(bundle)


@pytest.mark.parametrize("name", ["a.onnx", "a.pte", "a.pt", "a.safetensors", "a"])
def test_a_pipe_in_place_of_an_artifact_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "is not a regular file" in refused("inspect", tmp_path / name)


def test_a_folder_that_is_a_link_to_itself_is_refused(bundle: Path) -> None:
    shutil.rmtree(bundle / "onnx")
    (bundle / "onnx").symlink_to(bundle / "onnx")
    assert "cannot be" in refused("inspect", bundle)


@pytest.mark.parametrize("text", [MANY, DEEP])
def test_what_was_measured_is_refused(bundle: Path, text: str) -> None:
    (bundle / "parity.json").write_text(text)
    assert "parity.json" in refused_cheaply("inspect", bundle)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer/merges.txt", "MODEL_CARD.md"])
def test_a_text_of_gigabytes_is_not_read(bundle: Path, name: str) -> None:
    os.truncate(bundle / name, 10**10)
    assert f"{name} is larger than" in refused_cheaply("inspect", bundle)


def golden_with(bundle: Path, **metadata: str) -> None:
    file = bundle / "golden.safetensors"
    save_file(load_file(file), file, {"images": "[]", "prompts": "[]", "folded": "true"} | metadata)


GOLDENS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested": (lambda path: golden_with(path, images=DEEP), "damaged"),
    "digits": (lambda path: golden_with(path, folded="9" * 5_000), "damaged"),
    "header": (
        lambda path: (path / "golden.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{" * 100),
        "header",
    ),
}


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_answers_are_refused(bundle: Path, golden: str) -> None:
    harm, complaint = GOLDENS[golden]
    harm(bundle)
    assert complaint in refused("verify", bundle)


def test_a_lock_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    lock = tmp_path / "parity.lock.json"
    for text, complaint in ((MANY, "larger than"), (DEEP, "nested")):
        lock.write_text(text)
        assert complaint in refused_cheaply("verify", bundle, "--baseline", lock)


def tar(path: Path, kind: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in ("a.jpg", "a.cls"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, name
            archive.addfile(member)


def shards(folder: Path, count: str) -> None:
    tar(folder / "test" / "0.tar", tarfile.REGTYPE)
    (folder / "test" / "nshards.txt").write_text(count, encoding="utf-8")


def table(folder: Path, text: str, classes: str) -> Path:
    folder.mkdir()
    (folder / "a.jpg").write_text("an image")
    (folder / "pairs.jsonl").write_text(text)
    (folder / "classes.txt").write_text(classes)
    (folder / "dataset.json").write_text('{"name": "x", "classes": "classes.txt"}')
    return folder


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


LABEL = '{"image": "a.jpg", "label": "' + "7" * 5_000 + '"}\n'
KARPATHY = '{"dataset": "x", "images": ' + MANY + "}"
DATASETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "10^12 shards": (lambda path: shards(path, str(10**12)), "instead of a number of shards"),
    "999,999,999 shards": (lambda path: shards(path, "999999999"), "no shard at"),
    "a digit that is no number": (lambda path: shards(path, "²"), "instead of a number of shards"),
    "symbolic links": (lambda path: tar(path / "test" / "0.tar", tarfile.SYMTYPE), "a link or a special file"),
    "hard links": (lambda path: tar(path / "test" / "0.tar", tarfile.LNKTYPE), "a link or a special file"),
    "devices": (lambda path: tar(path / "test" / "0.tar", tarfile.CHRTYPE), "a link or a special file"),
    "a shard that is a pipe": (
        lambda path: (shards(path, "1"), (path / "test/0.tar").unlink(), os.mkfifo(path / "test/0.tar")),
        "no shard at",
    ),
    "a label of 5,000 digits": (lambda path: table(path, LABEL, "cat\ndog\n"), "is not in"),
    "a description of 5 million items": (
        lambda path: written(path / "dataset.json", MANY),
        "Input should be a valid dictionary",
    ),
    "a nested description": (lambda path: written(path / "dataset.json", DEEP), "not JSON"),
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_dataset_is_refused(bundle: Path, tmp_path: Path, dataset: str) -> None:
    harm, complaint = DATASETS[dataset]
    harm(tmp_path / "data")
    assert complaint in refused("evaluate", bundle, "--dataset", tmp_path / "data")


def test_a_table_of_millions_is_refused_at_its_first_row(bundle: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "dataset.json", KARPATHY)
    assert "images.0" in refused_cheaply("evaluate", bundle, "--dataset", file)


def test_class_names_are_refused(bundle: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "data", '{"image": "a.jpg", "label": "cat"}\n', "cat\n")
    names = written(tmp_path / "names.txt", "9" * (17 << 20))
    assert "larger than" in refused("evaluate", bundle, "--dataset", data, "--class-names", names)
    names = written(tmp_path / "names.json", "[" + "9" * 5_000 + "]")
    assert "not JSON" in refused("evaluate", bundle, "--dataset", data, "--class-names", names)


RECIPES = {
    "nested": (DEEP[:60_000], "nested more deeply"),
    "nested lists": ("- " * 30_000, "nested too deeply"),
    "larger": ("a" * 100_000, "larger than"),
    "references": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "refers back"),
    "digits": (f"version: {'9' * 5_000}\n", "digits"),
    "a day that is none": ("seed: 2026-13-45\n", "not YAML"),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_refused(tmp_path: Path, recipe: str) -> None:
    text, complaint = RECIPES[recipe]
    file = written(tmp_path / "recipe.yaml", text)
    assert complaint in refused("train", file, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [(MANY.replace("0", '""', 1), "samples_ns"), (DEEP, "recursion"), ("9" * 5_000, "number out of range")],
)
def test_a_result_is_refused(tmp_path: Path, samples: str, complaint: str) -> None:
    text = documents.result().model_dump_json().replace("[2000000,2100000,1900000]", samples)
    assert complaint in refused_cheaply(
        "report", written(tmp_path / "r.json", text), "-o", tmp_path / "report.md", torch=False
    )


def test_a_result_of_a_million_fields_is_refused(tmp_path: Path) -> None:
    text = "{" + ",".join(f'"k{number}":0' for number in range(10**6)) + "}"
    assert "more fields" in refused_cheaply(
        "report", written(tmp_path / "r.json", text), "-o", tmp_path / "report.md", torch=False
    )


def test_an_index_of_shards_is_refused(exports: Exports, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    recipe = "version: 1\nvariant: nano\ndata: data\nsteps: 1\nbatch: 2\nlearning_rate: 0.1\n"
    for text, complaint in ((MANY, "larger than"), (DEEP, "nested")):
        written(folder / "index.json", text)
        assert complaint in refused("train", written(tmp_path / "recipe.yaml", recipe), "-o", tmp_path / "out")


def test_labels_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    large = written(tmp_path / "large.txt", "label\n" * 10**6)
    for file, complaint in ((tmp_path / "pipe", "not a regular file"), (large, "larger than")):
        assert complaint in refused("export", "--target", "onnx", "--labels", file, "-o", tmp_path / "out")


def test_half_a_million_different_labels_are_compared_in_no_time() -> None:
    from mobileclip_deploy.towers.labels import LabelSet

    with alarm(10):
        assert len(LabelSet(tuple(map(str, range(500_000)))).names) == 500_000


def test_a_negative_variance_is_refused_wherever_it_is_met(exports: Exports, tmp_path: Path) -> None:
    weights = exports.weights()
    name = next(key for key in weights if key.endswith("running_var"))
    weights[name] = weights[name].clone()
    weights[name][1] = -0.5
    from safetensors.torch import save_file as save

    file = tmp_path / "negative.safetensors"
    save(weights, file)
    sentence = f"{file}: {name} holds a negative variance, which no BatchNorm has; give an undamaged file"
    out = tmp_path / "out.safetensors"
    recipe = written(
        tmp_path / "recipe.yaml",
        f"version: 1\nvariant: nano\ndata: {models_dir() / 'nano' / 'evaluation'}\nstart: {file}\nsteps: 1\nbatch: 2\n"
        "learning_rate: 0.1\ndistillation: 0\n",
    )
    for command in (
        ("reparameterize", "--checkpoint", file, "-o", out),
        ("export", "--target", "onnx", "--checkpoint", file, "-o", tmp_path / "out"),
        ("recover", "--checkpoint", file, "--precision", "w4", "--data", tmp_path, "-o", out),
        ("train", recipe, "-o", tmp_path / "run"),
    ):
        assert refused(*command) == f"error: {sentence}", command[0]


def test_folding_a_negative_variance_is_refused_by_name() -> None:
    model = mcd.load_model()
    name, norm = next((name, one) for name, one in model.named_modules() if type(one).__name__ == "BatchNorm2d")
    norm.running_var[0] = -1e-6  # type: ignore[index, operator]
    with pytest.raises(FoldingError, match=f"{name} has a running variance that is negative"):
        fold(model)


class alarm:
    """A limit in seconds for what may hang."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGALRM, self._late)
        signal.alarm(self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self.before)

    @staticmethod
    def _late(*_: object) -> Iterator[None]:
        raise TimeoutError("it hangs")
