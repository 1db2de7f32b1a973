"""What `recover` wins back: the built-in network at low precisions, without and with recovery.

    python models/nano/build_data.py --work /tmp/nano --pairs /tmp/nano/pairs        # needs npm; training styles only
    python benchmarks/recovery.py --data /tmp/nano/pairs --work /tmp/nano/recovery

Recovers nano for each target and precision on its training images (the evaluation set is of another style and is not
trained on), exports with and without, evaluates the artifacts as written, and compares them with the float checkpoint.
Activations (w8a8) are calibrated on 128 of the training images and their names, in both cases.
Writes benchmarks/results/recovery.json and the table in docs/figures. What was recovered in an earlier run for
this checkpoint with these settings is kept in the work folder. About 25 minutes of one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measuring import Figures, markdown, versions

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.parity import Gates, compare
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.embedder import bundle_embedder, model_embedder
from mobileclip_deploy.training.recovery.plan import Settings

KEPT = Figures("recovery", "figures/training.md")
FIGURES = {"top-1": "top1", "recall@1": "image_to_text_recall@1"}
RUNS = (("coreml", "w4"), ("coreml", "w4p"), ("coreml", "w8a8"), ("onnx", "w4"))
"""ONNX has no w4p: its runtimes have no tables."""
SETTINGS = Settings()
CALIBRATED_ON = 128


def main() -> None:
    """Recover, measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="nano's training images, from build_data.py --pairs")
    parser.add_argument("--work", type=Path, required=True, help="folder for embeddings and recovered checkpoints")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    original = mcd.load_model()
    assert original.provenance is not None
    dataset = builtin_dataset()
    reference = Reference.compute(original, sample_inputs(original))
    checkpoint = measure(model_embedder(original), dataset).result
    calibration = calibration_folder(arguments.data, arguments.work / "calibration")
    rows = []
    for target, precision in RUNS:
        recovered = mcd.load_model(
            None, recover(target, precision, arguments.data, arguments.work, original.provenance.sha256)
        )
        for name, model in (("without", mcd.load_model()), (_kept(recovered), recovered)):
            print(f"{target} {precision}, {name}", file=sys.stderr, flush=True)
            own = calibration if PRECISIONS[precision].calibrated else None
            with tempfile.TemporaryDirectory() as folder:
                bundle = mcd.export(model, target, precision, folder, calibration=own, verify=False)
                found = _measured(bundle, precision, reference, checkpoint, dataset)
            rows.append({"target": target, "precision": precision, "training": name} | found)
    result = {
        "schema_version": 1,
        "checkpoint": original.provenance.sha256,
        "settings": asdict(SETTINGS),
        "dataset": dataset.name,
        "images": len(dataset.images),
        "versions": versions("mobileclip-deploy", "coremltools", "onnxruntime", "torch"),
        "torch": {name: checkpoint.figures[key].value for name, key in FIGURES.items()},
        "rows": rows,
    }
    KEPT.write(result)
    print(table(result))
    KEPT.show(table(result))


def recover(target: str, precision: str, data: Path, work: Path, source: str) -> Path:
    """The checkpoint recovered for a target at a precision, from the one of this SHA-256; made when it is not there."""
    made_with = hashlib.sha256(f"{source} {SETTINGS}".encode()).hexdigest()[:8]
    output = work / f"nano_{target}_{precision}_{made_with}.safetensors"
    if not output.is_file():
        print(f"recovering {precision} for {target}", file=sys.stderr, flush=True)
        folder = work / f"embeddings-{made_with}"
        mcd.recover(mcd.load_model(), precision, data, output, target=target, work=folder, settings=SETTINGS)
    return output


def calibration_folder(data: Path, folder: Path) -> Path:
    """Images of the data, spread evenly over it, and what they are called."""
    pairs = read_pairs(data)
    rows = [pairs.rows[number * len(pairs.rows) // CALIBRATED_ON] for number in range(CALIBRATED_ON)]
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        shutil.copy(pairs.folder / row.image, folder)
    (folder / "prompts.json").write_text(json.dumps([row.texts[0] for row in rows]), encoding="utf-8")
    return folder


def _kept(model: mcd.MobileCLIP) -> str:
    """Which towers were trained: where training did not help, a tower is as it was."""
    assert model.provenance is not None
    kept = () if model.provenance.recovered is None else tuple(model.provenance.recovered.precisions)
    return "recovered" if kept == TOWERS else f"recovered ({', '.join(kept) or 'neither'} kept)"


def _measured(
    bundle: mcd.Bundle, precision: str, reference: Reference, checkpoint: Any, dataset: Any
) -> dict[str, Any]:
    """One bundle as written, against the float checkpoint."""
    runners = {tower: mcd.load_runner(bundle, tower) for tower in TOWERS}
    deviations = {t: compare(reference.of(t), run(reference.inputs.of(t))) for t, run in runners.items()}
    found = measure(bundle_embedder(bundle), dataset).result
    size = sum(entry.bytes for entry in bundle.manifest.towers.values())
    figures = {
        name: {"value": found.figures[key].value, "drop": checkpoint.figures[key].value - found.figures[key].value}
        for name, key in FIGURES.items()
    }
    bound = Gates().shipped(precision)
    failed = [f"{tower} {bound.metric}" for tower in TOWERS if not passes(deviations[tower], bound)]
    failed += [name for name, figure in figures.items() if not Gates().allow_drop(figure["drop"])]
    return {
        "bytes": size,
        "deviation": {tower: one.model_dump() for tower, one in deviations.items()},
        "figures": figures,
        "failed_gates": failed,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    own = ", ".join(f"{name} {value:.2f}%" for name, value in result["torch"].items())
    lines = [
        f"The float checkpoint in torch: {own}. Cosine with it: worst of packaged photographs and prompts; accuracy "
        f"on {result['images']:,} images, then the drop in points. {result['settings']['steps']} steps a tower. "
        f"Activations are calibrated on {CALIBRATED_ON} training images and their names.",
        "",
    ]
    heads = ("target", "precision", "training", "MB", "cosine image, text", "top-1 %", "drop", "recall@1 %", "drop")
    rows = []
    for row in result["rows"]:
        cells = [row["target"], row["precision"], row["training"], f"{row['bytes'] / 1e6:.2f}"]
        cells.append(", ".join(f"{row['deviation'][tower]['cosine']:.4f}" for tower in TOWERS))
        for figure in row["figures"].values():
            cells += [f"{figure['value']:.2f}", f"{figure['drop']:+.2f}"]
        failed = ", ".join(row["failed_gates"])
        cells.append(f"fails: {failed}" if failed else "passes")
        rows.append(cells)
    return "\n".join(lines + markdown((*heads, "gates"), rows))


if __name__ == "__main__":
    main()
