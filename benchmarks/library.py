"""A library of photographs through `embed`, and through open_clip's own pipeline: pictures a second, on the same files.

    python benchmarks/library.py WORK

S0's image tower (MobileCLIP2-S0, weights from a seed, in both the same), made photographs of 12 and of 2 megapixels as
JPEG files. open_clip's pipeline is its model in torch, its transform, and torch's DataLoader, as it comes and folded by
timm's `reparameterize_model`, at the number of workers, the batch and the memory format that were fastest in a trial
before. Every pipeline is a process that stays; they run one after another over the same files, round after round in
another order; ratios are taken round by round. CPU seconds are those of the process and of its workers, whose threads
wait without spinning. Writes benchmarks/results/library.json and the tables in docs/figures. About 5 minutes of
CPU; bundles, photographs and what was measured stay in WORK: a run that was stopped goes on.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Figures, cpu_ms, markdown, processor, versions
from PIL import Image

KEPT = Figures("library", "figures/library.md")
VARIANT = "mobileclip2_s0"
SIZES = {"12 MP": (4032, 3024), "2 MP": (1632, 1224)}
COUNTS = {"12 MP": 8, "2 MP": 8}
ROUNDS = 2
PACKAGES = ("mobileclip-deploy", "open_clip_torch", "onnxruntime", "torch", "timm", "pillow", "numpy")
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Threads of torch that wait would otherwise take CPU time, the more the busier the machine is."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Pipeline:
    """What goes over a folder of photographs. `precision` and `fast_jpeg` are of `embed`, the rest of open_clip."""

    name: str
    precision: str | None = None
    fast_jpeg: bool = False
    folded: bool = False
    workers: int = 0
    batch: int = 0
    channels_last: bool = False


OURS = tuple(
    Pipeline(f"embed, {precision}{', --fast-jpeg' if fast else ''}", precision, fast)
    for precision in ("fp32", "w8a8")
    for fast in (False, True)
)
TRIED = [
    Pipeline("", folded=True, workers=workers, batch=batch, channels_last=last)
    for workers, batch, last in (
        (0, 16, False),
        (CORES, 16, False),
        (CORES, 64, False),
        (CORES, 16, True),
    )
]


def main() -> None:
    """Measure, write the figures, and renew the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.work, Pipeline(**json.loads(given.serve)))
        return
    folders = {name: photographs(given.work, name) for name in SIZES}
    build(given.work)
    before = os.getloadavg()[0]
    state = given.work / "took.json"
    took = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}
    took.setdefault("load_average_before", before)
    if "tried" not in took:
        took["tried"] = trial(given.work, folders["2 MP"])
        state.write_text(json.dumps(took), encoding="utf-8")
    tried = took["tried"]
    best = max(tried, key=lambda row: row["per_second"])["pipeline"]
    settings = {name: best[name] for name in ("workers", "batch", "channels_last")}
    theirs = (
        Pipeline("open_clip as it comes", **settings),
        Pipeline("open_clip, folded by timm", folded=True, **settings),
    )
    for name, folder in folders.items():
        if name not in took:
            took[name] = rounds(given.work, name, folder, (*theirs, *OURS))
            state.write_text(json.dumps(took), encoding="utf-8")
    result = {
        "schema_version": 1,
        "versions": versions(*PACKAGES),
        "machine": {"processor": processor(), "cores": CORES, "python": platform.python_version()},
        "load_average_before": took["load_average_before"],
        "tried": tried,
        "runs": [row for name in folders for row in rows_of(name, took[name], (*theirs, *OURS))],
        "parts": parts(given.work, folders),
        "moved": moved(given.work, folders),
    }
    KEPT.write(result)
    KEPT.show(table(result))
    print(table(result))


def photographs(work: Path, name: str) -> Path:
    """JPEG files with coarse, middle and fine structure, of about 0.2 bytes a pixel."""
    (width, height), folder = SIZES[name], work / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNTS[name]):
        path = folder / f"{number:03d}.jpg"
        if path.exists():
            continue
        values = np.random.default_rng(number)
        total = np.full((height, width, 3), 128, np.int16)
        for cell, share in ((126, 1), (16, 4), (2, 12)):
            coarse = values.integers(0, 256, (height // cell, width // cell, 3), dtype=np.uint8)
            layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            total += (np.asarray(layer, dtype=np.int16) - 128) // share
        Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def build(work: Path) -> None:
    """The bundles, in processes of their own."""
    from subjects import Subjects

    for precision in {one.precision for one in OURS if one.precision}:
        Subjects(work).bundle(VARIANT, "onnx", precision)


def serve(work: Path, pipeline: Pipeline) -> None:
    """Go over the folders that come in, a line each, and say how long it took."""
    run = open_clip_run(pipeline) if pipeline.precision is None else own_run(work, pipeline)
    for line in sys.stdin:
        files = sorted(Path(line.strip()).glob("*.jpg"))
        cpu, wall = cpu_seconds(), time.perf_counter()
        run(files)
        told = {"images": len(files), "seconds": time.perf_counter() - wall, "cpu_seconds": cpu_seconds() - cpu}
        print(json.dumps(told), flush=True)


def own_run(work: Path, pipeline: Pipeline) -> Callable[[list[Path]], Any]:
    """What `embed` does, with the bundle loaded."""
    from subjects import Subjects

    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.pictures.embedder import bundle_embedder
    from mobileclip_deploy.pictures.pictures import Reading, embed_dataset_images

    assert pipeline.precision is not None
    embedder = bundle_embedder(Bundle.of(Subjects(work).bundle(VARIANT, "onnx", pipeline.precision)), ("image",))

    def run(files: list[Path]) -> Any:
        with tempfile.TemporaryDirectory() as cache:
            how = Reading(cache=Path(cache), fast_jpeg=pipeline.fast_jpeg)
            return embed_dataset_images(embedder, files, list(map(str, files)), how)[0]

    return run


def open_clip_run(pipeline: Pipeline) -> Callable[[list[Path]], Any]:
    """open_clip's model and transform, and torch's DataLoader, whose workers stay."""
    import open_clip
    import torch
    from subjects import OPEN_CLIP, image_weights
    from torch.utils.data import DataLoader, Dataset

    model, _, transform = open_clip.create_model_and_transforms(OPEN_CLIP[VARIANT])
    assert not model.load_state_dict(image_weights(VARIANT), strict=False).unexpected_keys
    visual = model.visual.eval()
    if pipeline.folded:
        from timm.utils.model import reparameterize_model

        visual = reparameterize_model(visual)
    if pipeline.channels_last:
        visual = visual.to(memory_format=torch.channels_last)

    class Photographs(Dataset[torch.Tensor]):
        def __init__(self, files: list[Path]) -> None:
            self.files = files

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> torch.Tensor:
            return transform(Image.open(self.files[index]))

    loaders: dict[tuple[Path, ...], DataLoader[torch.Tensor]] = {}

    @torch.inference_mode()
    def run(files: list[Path]) -> Any:
        kept = loaders.setdefault(
            tuple(files),
            DataLoader(
                Photographs(files),
                batch_size=pipeline.batch,
                num_workers=pipeline.workers,
                persistent_workers=pipeline.workers > 0,
            ),
        )
        form = torch.channels_last if pipeline.channels_last else torch.contiguous_format
        return torch.cat([visual(batch.to(memory_format=form)) for batch in kept]).numpy()

    return run


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that live."""
    import multiprocessing

    tick, total = os.sysconf("SC_CLK_TCK"), time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / tick
    return total


@contextmanager
def running(work: Path, pipelines: tuple[Pipeline, ...]) -> Iterator[dict[str, Callable[[Path], dict[str, Any]]]]:
    """Each pipeline in a process of its own: folder -> what it took."""
    opened: list[subprocess.Popen[str]] = []

    def ask(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        told: dict[str, Any] = json.loads(process.stdout.readline())
        return told

    try:
        asked: dict[str, Callable[[Path], dict[str, Any]]] = {}
        for pipeline in pipelines:
            command = [sys.executable, __file__, str(work), "--serve", json.dumps(asdict(pipeline))]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **WAITING}
            )
            opened.append(process)
            asked[pipeline.name] = partial(ask, process)
        yield asked
    finally:
        for process in opened:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def trial(work: Path, folder: Path) -> list[dict[str, Any]]:
    """Pictures a second of open_clip's pipeline at each setting: the better of two passes, after one unmeasured."""
    rows = []
    for pipeline in TRIED:
        with running(work, (pipeline,)) as asked:
            ask = asked[pipeline.name]
            ask(folder)
            took = [ask(folder) for _ in range(2)]
        fastest = min(took, key=lambda one: one["seconds"])
        rows.append({"pipeline": asdict(pipeline), "per_second": fastest["images"] / fastest["seconds"], **fastest})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def rounds(work: Path, size: str, folder: Path, pipelines: tuple[Pipeline, ...]) -> dict[str, list[dict[str, float]]]:
    """All pipelines over one folder, round after round in another order: what each round took, by pipeline."""
    took: dict[str, list[dict[str, Any]]] = {one.name: [] for one in pipelines}
    order = random.Random(0)
    with running(work, pipelines) as asked:
        for turn in range(1 + ROUNDS):
            for name in order.sample(list(asked), len(asked)):
                found = asked[name](folder)
                if turn:  # the first is to warm up
                    took[name].append(found)
                print(size, turn, name, found, file=sys.stderr, flush=True)
    return took


def rows_of(
    size: str, took: dict[str, list[dict[str, float]]], pipelines: tuple[Pipeline, ...]
) -> list[dict[str, Any]]:
    """Time per picture of each pipeline, and the first two's time divided by it, round by round."""
    rows = []
    for one in pipelines:
        row: dict[str, Any] = {"size": size, "pipeline": asdict(one)}
        for what in ("seconds", "cpu_seconds"):
            own = np.array([found[what] / found["images"] for found in took[one.name]])
            row[f"{what}_an_image"] = float(np.median(own))
            for base in pipelines[:2]:
                other = np.array([found[what] / found["images"] for found in took[base.name]])
                row[f"{what}: {base.name} over it"] = sorted((other / own).tolist())
        rows.append(row)
    return rows


def parts(work: Path, folders: dict[str, Path]) -> list[dict[str, Any]]:
    """CPU milliseconds of one photograph on one thread: decoded, resized, both at a part of its size, and in the
    tower."""
    from subjects import Subjects

    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.network.model.preprocessing import decode_image, tower_bytes
    from mobileclip_deploy.targets.onnx.runner import open_session

    bundle = Bundle.of(Subjects(work).bundle(VARIANT, "onnx", "fp32"))
    spec, session = bundle.manifest.preprocess, open_session(bundle.artifact("image"), threads=1)
    name = session.get_inputs()[0].name
    pixels = np.zeros((1, 3, spec.size, spec.size), np.float32)
    rows = []
    for size, folder in folders.items():
        content = next(folder.glob("*.jpg")).read_bytes()
        opened = decode_image(content, size)
        ways: dict[str, Callable[[], Any]] = {
            "decode_ms": partial(decode_image, content, "photograph"),
            "resize_ms": partial(tower_bytes, opened, spec),
            "fast_jpeg_ms": partial(shrunk, content, spec),
            "tower_ms": lambda: session.run(None, {name: pixels}),
        }
        with ThreadPoolExecutor(1) as thread:  # as `embed` decodes: the system gives a first thread memory otherwise
            row = {"size": size, "bytes": len(content)}
            row |= {way: thread.submit(milliseconds, run).result() for way, run in ways.items()}
        rows.append(row)
    return rows


def shrunk(content: bytes, spec: Any) -> Any:
    """A photograph as `embed --fast-jpeg` reads it."""
    from mobileclip_deploy.network.model.preprocessing import decoded, tower_bytes

    with decoded(content, "", 2 * spec.size) as picture:
        return tower_bytes(picture, spec)


def milliseconds(run: Callable[[], Any], times: int = 11) -> float:
    """CPU time of one call, the median of `times`."""
    run()
    return statistics.median(cpu_ms(run) for _ in range(times))


def moved(work: Path, folders: dict[str, Path]) -> list[dict[str, Any]]:
    """Cosines of embeddings with and without --fast-jpeg: of the made photographs, and of the packaged ones in nano,
    which is trained, and whose 64 pixels are to them as 256 to photographs of 2,560."""
    from subjects import Subjects

    import mobileclip_deploy as mcd
    from mobileclip_deploy.network.samples import image_paths

    s0 = Subjects(work).bundle(VARIANT, "onnx", "fp32")
    nano = mcd.load_model()
    given: dict[str, tuple[Any, list[Path]]] = {
        "made, 12 MP": (s0, [folders["12 MP"]]),
        "made, 2 MP": (s0, [folders["2 MP"]]),
    }
    given["packaged photographs"] = (nano, list(image_paths()))
    rows = []
    for name, (bundle, sources) in given.items():
        found = {}
        for fast in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                mcd.embed(bundle, sources, Path(folder) / "e.npy", normalise=True, fast_jpeg=fast)
                found[fast] = np.load(Path(folder) / "e.npy")
        cosines = (found[False] * found[True]).sum(axis=1)
        others = found[False] @ found[False].T - 2 * np.eye(len(cosines))
        rows.append(
            {
                "photographs": name,
                "model": bundle.name if isinstance(bundle, Path) else "nano",
                "images": len(cosines),
                "cosine_median": float(np.median(cosines)),
                "cosine_worst": float(cosines.min()),
                "nearest_other": float(others.max()),
            }
        )
    return rows


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    bases = [row["pipeline"]["name"] for row in result["runs"][:2]]
    rows = []
    for row in result["runs"]:
        cells = [row["size"], row["pipeline"]["name"], f"{1000 * row['cpu_seconds_an_image']:.1f}"]
        for base in bases:
            cpu, wall = (statistics.median(row[f"{what}: {base} over it"]) for what in ("cpu_seconds", "seconds"))
            cells.append(f"{cpu:.2f} ({wall:.2f})")
        rows.append(cells)
    lines = markdown(("photographs", "pipeline", "CPU ms a picture", *(f"times {one}" for one in bases)), rows)
    best = max(result["tried"], key=lambda row: row["per_second"])["pipeline"]
    form = "channels last" if best["channels_last"] else "contiguous"
    lines += [
        "",
        "Times as many pictures in the same CPU time; in brackets, in the same time on the clock.\nopen_clip with "
        f"{best['workers']} workers, batches of {best['batch']}, {form}: the fastest of "
        f"{len(result['tried'])} settings.",
        "",
    ]
    names = ("decode_ms", "resize_ms", "fast_jpeg_ms", "tower_ms")
    heads = ("CPU ms on one thread", "decoded", "resized", "both with --fast-jpeg", "the tower, fp32")
    lines += markdown(heads, ([row["size"], *(f"{row[name]:.1f}" for name in names)] for row in result["parts"]))
    cosines = ("cosine_median", "cosine_worst", "nearest_other")
    heads = ("--fast-jpeg", "pictures", "cosine with the exact embedding, median", "worst", "nearest other picture")
    shown = ((f"{row['photographs']} ({row['model']})", str(row["images"]), row) for row in result["moved"])
    lines += ["", *markdown(heads, ([*told, *(f"{row[name]:.5f}" for name in cosines)] for *told, row in shown))]
    machine = result["machine"]
    lines += [
        "",
        f"`python benchmarks/library.py WORK`; {machine['processor']}, {machine['cores']} cores, load average "
        f"{result['load_average_before']:.1f} before;\n"
        + ", ".join(f"{name} {result['versions'][name]}" for name in ("onnxruntime", "torch", "pillow"))
        + ".",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
