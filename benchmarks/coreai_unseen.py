"""nano in Core AI's `w4p` on pictures that chose nothing: how its grids are made was decided by what it loses on its
held-out set.

    python benchmarks/coreai_unseen.py    # benchmarks/results/coreai_unseen.json, and the table in docs/figures

The numbers that stand in the files, in torch: on nano's calibration pictures (another artist's emoji than the held-out
ones), worst cosine and centred SNR; on mirrored and on shifted held-out pictures, what is lost of top-1 and recall@1
against the checkpoint on the same, with the 95% interval of the paired difference.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from measuring import ROOT, Figures, markdown

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.embedding import embed
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.verify.instruments.matching import matched_weights
from mobileclip_deploy.verify.instruments.stored_tower import tower_as_stored

KEPT = Figures("coreai_unseen", "figures/coreai.md")
PICTURES = ROOT / "models" / "nano" / "calibration"
SHIFT = 4
IMAGES = 512  # of the held-out set, evenly chosen
FIGURES = ("top1", "image_to_text_recall@1")
Pixels = npt.NDArray[np.float32]


def mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[..., ::-1])


def shifted(pixels: Pixels) -> Pixels:
    """By 4 of 64 pixels right and down; what comes in is the edge."""
    padded = np.pad(pixels, ((0, 0), (0, 0), (SHIFT, 0), (SHIFT, 0)), mode="edge")
    return np.ascontiguousarray(padded[..., : pixels.shape[2], : pixels.shape[3]])


VIEWS: dict[str, Callable[[Pixels], Pixels]] = {"mirrored": mirrored, "shifted": shifted}


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", action="append", help="by default w4p")
    arguments = parser.parse_args()
    model = mcd.load_model(None, builtin_checkpoint())
    mcd.reparameterize(model)
    pictures = sorted((PICTURES / "images").iterdir())
    prompts = (PICTURES / "prompts.txt").read_text(encoding="utf-8").split("\n")
    samples = sample_inputs(model, pictures, tuple(line for line in prompts if line)[: len(pictures)])
    wanted = {tower: embed(model, tower, samples) for tower in TOWERS}
    dataset, own = builtin_dataset().sample(IMAGES), model_embedder(model)
    print("pictures embedded", flush=True)
    before = {name: measure(replace(own, images=_behind(view, own.images)), dataset) for name, view in VIEWS.items()}
    rows = []
    for precision in arguments.precision or ("w4p",):
        towers = {tower: stored(model, tower, precision) for tower in TOWERS}
        row: dict[str, Any] = {"precision": precision, "pictures": len(pictures)}
        for tower in TOWERS:
            found = compare(wanted[tower], towers[tower](samples.of(tower)))
            row[tower] = {"cosine": float(found.cosine), "snr_db": float(found.snr_db or 0)}
        for name, view in VIEWS.items():
            changed = replace(own, images=_behind(view, towers["image"]), texts=towers["text"])
            now = measure(changed, dataset)
            lost = {one: paired_difference(before[name].hits[one], now.hits[one]) for one in FIGURES}
            row[name] = {
                one: {
                    "checkpoint": before[name].result.figures[one].value,
                    "drop": lost[one].value,
                    "low": lost[one].low,
                    "high": lost[one].high,
                }
                for one in FIGURES
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    KEPT.write_rows(rows)
    KEPT.show(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """One row per precision: noise on other pictures, and what is lost on mirrored and shifted ones."""
    heads = [
        "precision",
        *(f"{tower}: cosine, dB" for tower in TOWERS),
        *(f"{view}: top-1, recall@1" for view in VIEWS),
    ]
    told = []
    for row in rows:
        noise = [f"{row[tower]['cosine']:.4f}, {row[tower]['snr_db']:.1f}" for tower in TOWERS]
        lost = [", ".join(_points(row[view][name]) for name in FIGURES) for view in VIEWS]
        told.append([f"`{row['precision']}`", *noise, *lost])
    return "\n".join(markdown(heads, told))


def _points(found: dict[str, float]) -> str:
    return f"{-found['drop']:+.2f} ({-found['high']:+.1f} to {-found['low']:+.1f})"


def _behind(view: Callable[[Pixels], Pixels], images: Callable[[Pixels], Pixels]) -> Callable[[Pixels], Pixels]:
    return lambda pixels: images(view(pixels))


def stored(model: mcd.MobileCLIP, tower: Any, precision: str) -> Callable[[Any], Any]:
    """A tower with the numbers that its file holds."""
    target, module = get_target("coreai"), make_tower(model, tower)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.aimodel"
        target.write(tower_job(Source.of(model), tower, precision), path)
        read = target.open(path).weights
        assert read is not None, path
        found, missing = matched_weights(module, read)
    assert not missing, missing
    exact = tower_as_stored(module, found, storage_of(target, tower, module, precision))

    def run(inputs: Any) -> Any:
        with torch.no_grad():
            return torch.cat([exact(batch) for batch in torch.from_numpy(np.asarray(inputs)).split(64)]).numpy()

    return run


if __name__ == "__main__":
    main()
