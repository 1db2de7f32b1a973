"""nano's accuracy on Qualcomm's emulator, beside ONNX Runtime's CPU with the same files, picture by picture.

    python benchmarks/qnn_accuracy.py out/nano-qnn-w8a16 --every 5 --cache kept/     # prints rows in Markdown

The emulator takes half a second of a core for a picture, so that every fifth of the held-out set is asked for;
embeddings stay in the cache, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets import Runner

ROOT = Path(__file__).parents[1]
HELD_OUT = ROOT / "models" / "nano" / "evaluation"
TASK = ("classification",)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=5, help="ask for every N-th picture")
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subset(Path(folder), arguments.every)
        for row in rows(arguments.bundles, Path(folder), arguments.cache):
            print(f"| {' | '.join(row)} |", flush=True)


def subset(folder: Path, every: int) -> None:
    """The held-out set with every N-th picture."""
    (folder / "images").symlink_to(HELD_OUT / "images")
    (folder / "classes.txt").write_bytes((HELD_OUT / "classes.txt").read_bytes())
    lines = (HELD_OUT / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[::every]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = json.loads((HELD_OUT / "dataset.json").read_text(encoding="utf-8"))
    kept = {name: told[name] for name in ("pairs", "classes", "template")}
    (folder / "dataset.json").write_text(json.dumps({"name": f"every {every}th", **kept}), encoding="utf-8")


def rows(bundles: list[Path], dataset: Path, cache: Path | None) -> Iterator[tuple[str, ...]]:
    """Precision, pictures, engine, top-1 with its interval, what is lost of it, dB of the towers; twice a bundle."""
    import mobileclip_deploy as mcd
    from mobileclip_deploy.artifacts.bundle import Bundle as Opened
    from mobileclip_deploy.evaluation.dataset_files import read_dataset
    from mobileclip_deploy.evaluation.evaluate import Measuring, measure
    from mobileclip_deploy.evaluation.metrics import paired_difference
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
    from mobileclip_deploy.pictures.embedder import bundle_embedder

    data = read_dataset(dataset)
    own = measure(model_embedder(mcd.load_model()), data, TASK)
    for bundle in map(Opened.open, bundles):
        for embedder in (bundle_embedder(bundle), bundle_embedder(bundle, load=partial(interpreted, bundle))):
            found = measure(embedder, data, TASK, Measuring(cache=cache))
            top1, lost = found.result.figures["top1"], paired_difference(own.hits["top1"], found.hits["top1"])
            near = [compare(*pair).decibels for pair in ((own.images, found.images), (own.texts, found.texts))]
            engine = "emulator" if "emulator" in found.result.engine else "ONNX Runtime's CPU"
            yield (
                bundle.manifest.towers["image"].precision + (", gptq" if bundle.manifest.rounding else ""),
                f"{len(own.hits['top1'])}",
                engine,
                f"{top1.value:.1f} ({top1.low:.1f} to {top1.high:.1f})",
                f"{lost.value:+.1f} ({lost.low:+.1f} to {lost.high:+.1f})",
                *near,
            )


def interpreted(bundle: Bundle, tower: TowerName) -> Runner:
    """What stands in for the emulator: ONNX Runtime's CPU with the model that was compiled."""
    from mobileclip_deploy.targets import restored_target

    target = restored_target(bundle.manifest.target, bundle.manifest.options)
    found = target.open(bundle.artifact(tower)).stand_in()
    assert found is not None
    return found


if __name__ == "__main__":
    main()
