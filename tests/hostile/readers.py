"""Every reader of a stranger's bytes, besides those of `test_fuzz.py`: how its input is made, and what reads it."""

import contextlib
import io
import json
import plistlib
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from benchmark import documents
from benchmark.ios.phone_folder import LISTED
from evaluation import datasets
from exports import Exports
from hostile.test_fuzz import BUNDLE, READERS, copied, text
from hub_server import COMMIT
from published_shards import reinforcement
from relevant_bundle import relevant_bundle
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from spaces.test_tags import DIGESTS, RULE
from web.published import local_hub

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.opening import RELEVANCE, SEARCH_LOG
from mobileclip_deploy.artifacts.bundle.published import fetch_bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import given_labels
from mobileclip_deploy.base.files import files_of
from mobileclip_deploy.base.pages import runtime
from mobileclip_deploy.benchmark.android import adb, device, ready, release
from mobileclip_deploy.benchmark.bounded import parsing_device_output
from mobileclip_deploy.benchmark.browser.session import BrowserSession
from mobileclip_deploy.benchmark.ddp import gcloud
from mobileclip_deploy.benchmark.ddp.service import Started
from mobileclip_deploy.benchmark.documents import parse_stream
from mobileclip_deploy.benchmark.ios import building, devicectl, devices
from mobileclip_deploy.benchmark.ios.exchange import checked_run
from mobileclip_deploy.benchmark.ios.following import read_progress
from mobileclip_deploy.benchmark.ios.power import PowerMeter
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.errors import RuntimeFailed, reraising
from mobileclip_deploy.evaluation.class_names import names_of_folders
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.evaluation.templates import read_templates
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.cutting import _names
from mobileclip_deploy.network.checkpoints.finetuned import merged
from mobileclip_deploy.network.checkpoints.folded import save
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.checkpoints.transformers import _activation
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint, shard_files
from mobileclip_deploy.network.model.variants import models_dir, read_card
from mobileclip_deploy.network.samples import read_prompts
from mobileclip_deploy.pictures.text_files import BadRows, read_texts
from mobileclip_deploy.search import engines
from mobileclip_deploy.spaces.relevance import Relevance
from mobileclip_deploy.targets.onnx.runner import _normalisation
from mobileclip_deploy.training.datacompdr import members
from mobileclip_deploy.training.language.parallel import read_parallel
from mobileclip_deploy.training.reinforcement.index import read_index
from mobileclip_deploy.training.trainer.loop import read_state
from mobileclip_deploy.verify.audit.embeddings_file import read_embeddings

Make = Callable[[Exports, Path], Path]
REPOSITORY, PEFT = "owner/nano", Path(__file__).parents[1] / "golden" / "peft-0.21.2.safetensors"


def made(name: str, write: Callable[[Path], object]) -> Make:
    def make(_: Exports, folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def document(name: str, value: Any) -> Make:
    return text(name, json.dumps(value))


def hub_reply(name: str) -> Make:
    """A bundle in a folder next to the file, which is the hub's reply about it."""

    def make(exports: Exports, folder: Path) -> Path:
        bundle = exports.copy(*BUNDLE, folder)
        bundle.rename(folder / "bundle")
        with hub(folder) as server:
            reply = server.info(b"", REPOSITORY, COMMIT) if name == "info" else server.tree(b"", REPOSITORY, COMMIT)
        (folder / name).write_text(json.dumps(reply), encoding="utf-8")
        return folder / name

    return make


@contextmanager
def hub(folder: Path) -> Iterator[Any]:
    with local_hub(folder / "hub") as server:
        bundle = folder / "bundle"
        files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files_of(bundle)}
        server.commits[REPOSITORY] = [files]
        yield server


def from_hub(path: Path) -> None:
    """Opens a bundle of a hub whose reply is the file."""
    with hub(path.parent) as server:
        answer = server.answer

        def told(method: str, url: str, *rest: Any) -> Any:
            if "/api/models/" in url and ("/tree/" in url) == (path.name == "tree"):
                return 200, {"Content-Type": "application/json"}, path.read_bytes()
            return answer(method, url, *rest)

        server.answer = told
        fetch_bundle(f"hf:{REPOSITORY}", lambda _: None)


def failing(path: Path) -> None:
    with contextlib.suppress(RuntimeFailed):  # which is what a sound report of a failure is
        replied(devicectl, devices.list_devices)(path)


def replied(module: ModuleType, ask: Callable[[], Any]) -> Callable[[Path], None]:
    """Runs a client whose program prints the file, and writes it to where it is told to."""

    def read(path: Path) -> None:
        def run(command: Sequence[str], *_: Any, **__: Any) -> subprocess.CompletedProcess[bytes]:
            if "--json-output" in command:
                Path(command[command.index("--json-output") + 1]).write_bytes(path.read_bytes())
            return subprocess.CompletedProcess(command, 0, path.read_bytes(), b"")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "run_bounded", run)
            patch.setattr("shutil.which", lambda _: "/bin/true")
            patch.setattr(devices, "_with_lock", lambda device: device)
            patch.setenv("GOOGLE_CLOUD_PROJECT", "a-project")
            ask()

    return read


def described(path: Path) -> None:
    """Reads a phone's words as the drivers do."""
    words = path.read_bytes().decode(errors="replace")
    with parsing_device_output("the phone"):
        device.described(words, words)
        device.parse_thermal(words)
        device.parse_battery(words)


def packed(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in runtime.FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"12345"))


def zipped(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("runners.json", json.dumps(RUNNERS))


def in_cache(read: Callable[[Path], Any]) -> Callable[[Path], None]:
    def cached(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
            read(path)

    return cached


def adapter(_: Exports, folder: Path) -> Path:
    parts = {key: value for key, value in load_file(PEFT).items() if key.startswith("true/")}
    save_file({k[10:]: v for k, v in parts.items() if k[5:9] == "base"}, folder / "base.safetensors")
    factors = {k.partition(".model.")[2]: v for k, v in parts.items() if ".model." in k}
    save_file(factors, folder / "adapter_model.safetensors")
    with safe_open(PEFT, framework="pt") as file:
        (folder / "adapter_config.json").write_text(file.metadata()["true"], encoding="utf-8")
    return folder / "adapter_config.json"


def merge(path: Path) -> None:
    result = merged(
        open_tensors(path.parent / "base.safetensors"), open_tensors(path.parent / "adapter_model.safetensors")
    )
    assert [result.read(name) for name in result.shapes]


def beside_checkpoint(name: str, value: Any) -> Make:
    def make(exports: Exports, folder: Path) -> Path:
        copied(builtin_checkpoint(), folder)
        return document(name, value)(exports, folder)

    return make


def words(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def session(path: Path) -> BrowserSession:
    return BrowserSession(Plan(path.parent, documents.job(), expected=documents.EXPECTED), lambda *_: None)


def run_of_a_device(path: Path) -> None:
    checked_run(path.read_bytes(), Plan(path.parent, documents.sent().job, expected=documents.EXPECTED), "android")


def with_pairs(path: Path) -> None:
    datasets.image(path.with_name("a.png"))
    if path.suffix == ".json":
        path.with_name("pairs.jsonl").write_text('{"image": "a.png", "text": "a cat"}\n')
    read_pairs(path.parent)


def finished(path: Path) -> None:
    running = session(path)
    running.next()
    running.round(words(path))


def of_bundle(file: str, content: bytes) -> Make:
    def make(exports: Exports, folder: Path) -> Path:
        path = exports.copy(*BUNDLE, folder) / file
        path.write_bytes(content)
        return path

    return make


def four_bit(path: Path) -> None:
    assert Bundle.open_unchecked(path.parent).four_bit is not None


def relevant(exports: Exports, folder: Path) -> Path:
    return relevant_bundle(exports.bundle(*BUNDLE), folder / "bundle").path / RELEVANCE


def folded(path: Path) -> None:
    model = mcd.load_model()
    mcd.reparameterize(model)
    save(model, path)


def member(read: Callable[[bytes], Any], path: Path) -> None:
    with reraising("it", ValueError):  # as its dataset does
        read(path.read_bytes())


def with_images(_: Exports, folder: Path) -> Path:
    for number in range(3):
        datasets.image(folder / f"{number}.png")
    return datasets.karpathy(folder)


def engine(path: Path) -> None:
    """Refuses the ids of another export next to a new one."""
    engines._check_unshared(path, path.with_name("a.usearch"))


RUNNERS = {"schema_version": 1, "version": "7", "machine": "aarch64", "c_library": "glibc", "files": {}} | {
    "wheels": [],
    "debian_packages": {},
}
TURN = {"cell": "onnx-image", "round": 0}
ROUND = documents.sent().rounds[0].model_dump(mode="json") | documents.job().order[0].model_dump()
STREAM = json.dumps(ROUND) + "\n"
PHONE = "[ro.product.model]: [Pixel 9]\n0-7\nMemTotal: 123 kB\nbionic\nThermal Status: 1\nlevel: 50\ntemperature: 300\n"
STARTED = Started(session="abc-def", device="caiman-35", project="a-project", seconds=600)
CATALOG = [{"name": "projects/p/locations/global/devices/caiman-35", "osVersion": "35", "platform": "ANDROID"}]
SESSION = {"sessionReport": {"status": {"statusType": "DONE"}, "jobReports": [{"startTime": "2026-01-01T00:00:00Z"}]}}
POWER = {"elapsed_ns": 10, "processor": dict.fromkeys(("cpu_energy", "gpu_energy", "ane_energy"), 1)}
TEAMS = {name: {"a@b": [{"teamID": "ABCDE12345", "teamName": "me"}]} for name in building.TEAMS}
CLDR = {"annotations": {"annotations": {"x": {"default": ["cat"], "tts": ["cat"]}}}}
OPEN_CLIP = {
    "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear"},
    "model_cfg": {"embed_dim": 256},
}
ROWS = "\n".join(json.dumps({"en": f"a cat {n}", "de": f"eine Katze {n}"}) for n in range(4))
VECTORS = {"embeddings": torch.ones(2, 3)}
BROWSER = dict.fromkeys(("name", "version", "engine", "user_agent"), "a") | dict.fromkeys(("secure", "isolated"), True)
BROWSER |= dict.fromkeys(("clock_step_ns", "cores"), 8)
INDEX = {"images": "a", "rows": 0, "pairs_sha256": "0" * 64, "augmentations": 1, "policy": None, "seed": 0} | {
    "shard_rows": 1,
    "teachers": [{"file": "a", "sha256": "", "variant": "nano", "embed_dim": 2, "image_size": 64, "scale": 1.0}],
}
HEAD = LabelHead(("cat", "dog"), np.eye(3, 4, dtype=np.float32), np.ones(3, np.float32), RULE, "space", digests=DIGESTS)
MEMBERS: dict[str, Callable[[bytes], Any]] = {
    "syn.json": members.captions,
    "paug.json": members.parameters,
    "npz": lambda content: members.embeddings(content, "npz"),
    "pth.gz": lambda content: members.embeddings(content, "pth.gz"),
}
STRANGERS: dict[str, tuple[Make, Callable[[Path], Any]]] = (
    {
        name: case
        for name, case in READERS.items()
        if name not in ("coreai", "executorch", "litert")  # minutes
    }
    | {
        "hub, commit": (hub_reply("info"), from_hub),
        "hub, files": (hub_reply("tree"), from_hub),
        "npm": (made("a.tgz", packed), lambda path: runtime._unpack(path, path.parent)),
        "runners": (made("a.zip", zipped), in_cache(release.unpacked_runners)),
        "runners.json": (document("runners.json", RUNNERS), lambda path: ready.read_contents(path.parent)),
        "adb": (text("adb", "List of devices attached\nABC\tdevice\n"), replied(adb, adb.listed_devices)),
        "phone": (text("phone", PHONE), described),
        "devicectl": (document("a", {"result": {"devices": [LISTED]}}), replied(devicectl, devices.list_devices)),
        "devicectl, failure": (
            document(
                "a", {"error": {"domain": "a", "code": 1, "userInfo": {"NSUnderlyingError": {"error": {"code": 2}}}}}
            ),
            failing,
        ),
        "xcode": (
            made("a", lambda path: path.write_bytes(plistlib.dumps(TEAMS))),
            replied(building, building._xcode_teams),
        ),
        "power": (
            made("a", lambda path: path.write_bytes(plistlib.dumps(POWER) + b"\0")),
            lambda path: PowerMeter()._add(path.read_bytes()),
        ),
        "catalog": (document("a", CATALOG), replied(gcloud, lambda: gcloud.Gcloud().devices())),
        "session": (document("a", SESSION), replied(gcloud, lambda: gcloud.Gcloud().report(STARTED))),
        "progress": (
            document("a", {"run_id": "a", "state": "running", "finished_turns": 1, "turn": TURN}),
            lambda path: read_progress(path.read_bytes(), "a"),
        ),
        "stream": (text("a", STREAM), lambda path: parse_stream(path.read_bytes(), documents.job(), "it")),
        "adapter": (adapter, merge),
        "shards": (
            lambda e, folder: document(
                "a.safetensors.index.json", {"weight_map": {"x": copied(builtin_checkpoint(), folder).name}}
            )(e, folder),
            shard_files,
        ),
        "open_clip_config": (
            beside_checkpoint("open_clip_config.json", OPEN_CLIP),
            lambda path: load(path.with_name("weights.safetensors"), preprocess=path),
        ),
        "preprocessor_config": (
            beside_checkpoint(
                "preprocessor_config.json", {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "resample": 2}
            ),
            lambda path: load(path.with_name("weights.safetensors"), preprocess=path),
        ),
        "card": (lambda _, folder: copied(models_dir() / "nano.json", folder), read_card),
        "axes": (made("a.safetensors", lambda path: Axes(np.eye(4, dtype=np.float32)[:, :2]).save(path)), Axes.read),
        "state": (
            made("checkpoint.pt", lambda path: torch.save({"step": 1}, path)),
            lambda path: read_state(path.parent),
        ),
        "cldr": (document("annotations.json", CLDR), _names),
        "prompts": (text("a.txt", "a cat\na dog\n"), read_prompts),
        "labels": (text("labels.txt", "cat\ndog\n"), lambda path: given_labels(str(path))),
        "templates": (text("a.txt", "a photo of a {}\n"), read_templates),
        "npy": (
            made("a.npy", lambda path: np.save(path, np.ones((2, 3), np.float32))),
            lambda p: read_embeddings(p, "image"),
        ),
        "npz": (
            made("a.npz", lambda path: np.savez(path, a=np.ones((2, 3)))),
            lambda path: read_embeddings(path, "image"),
        ),
        "jsonl": (
            text("a.jsonl", '{"embedding": [1, 2], "id": "a"}\n[1, 2]\n'),
            lambda path: read_embeddings(path, "text"),
        ),
        "vectors": (
            made("a.safetensors", lambda path: save_file(VECTORS, path, {"names": '["a", "b"]'})),
            lambda path: read_embeddings(path, "text"),
        ),
        "sentences": (text("a.jsonl", ROWS), lambda path: read_parallel([path], ["de"])),
        "folded": (made("a.safetensors", folded), lambda path: load(path)),
        "transformers": (document("config.json", {"text_config": {"hidden_act": "gelu"}}), _activation),
        "page": (document("a", BROWSER), lambda path: session(path).hello(path.read_bytes().decode(errors="replace"))),
        "page, state": (document("a", {"hidden": False, "awake": True}), lambda path: session(path).tell(words(path))),
        "page, round": (document("a", ROUND), finished),
        "run": (text("a", documents.sent().model_dump_json()), run_of_a_device),
        "class names": (
            document("a.json", {"a": "cat", "b": "dog"}),
            lambda p: names_of_folders(p, ["a", "b"], BadRows(False)),
        ),
        "prompts.json": (document("a.json", ["a cat", "a dog"]), read_prompts),
        "texts.jsonl": (text("a.jsonl", '{"text": "a cat"}\n"a dog"\n'), read_texts),
        "pairs": (document("dataset.json", {"pairs": "pairs.jsonl"}), with_pairs),
        "pairs.jsonl": (text("pairs.jsonl", '{"image": "a.png", "text": "a cat"}\n'), with_pairs),
        "search log": (of_bundle(SEARCH_LOG, b'{"trials": [{"four_bit": {"image": ["a"]}}]}'), four_bit),
        "relevance": (relevant, lambda path: Relevance.of(Bundle.open_unchecked(path.parent))),
        "label head": (made("a.safetensors", HEAD.save), LabelHead.read),
        "reinforced": (document("index.json", INDEX), lambda path: read_index(path.parent)),
        **{
            f"datacompdr, {end}": (
                made("a", lambda path, end=end: path.write_bytes(reinforcement(1, bf16=end == "pth.gz")[end])),
                lambda path, read=read: member(read, path),
            )
            for end, read in MEMBERS.items()
        },
        "csv": (lambda _, folder: datasets.table(folder, "image,label\na.png,cat\nb.png,dog\n"), read_dataset),
        "karpathy": (with_images, read_dataset),
        "engine": (document("a.json", {"schema_version": 1, "embeddings": "a.usearch"}), engine),
        "normalisation": (
            document("a", {"mean": [0, 0, 0], "std": [1, 1, 1]}),
            lambda path: _normalisation(path.read_bytes().decode(errors="replace")),
        ),
    }
)
