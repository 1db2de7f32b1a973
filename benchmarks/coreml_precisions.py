"""What every Core ML precision costs the built-in network: bytes, deviation, top-1 and recall@1.

    python benchmarks/coreml_precisions.py

Exports nano at every precision, evaluates the packages as written with mobileclip_deploy.mil (every float16 result
rounded, batch 1) on the built-in evaluation set, and writes benchmarks/results/coreml_precisions.json and the table in
docs/coreml.md. Nothing is gated here: what `export` would refuse is measured and marked. About 13 minutes of one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation import Dataset, EvaluationResult, builtin_dataset, evaluate, model_embedder
from mobileclip_deploy.evaluation.evaluate import Embedder
from mobileclip_deploy.exporting import export_bundle
from mobileclip_deploy.parity import Deviation, Gates, compare
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.reference import Reference, sample_inputs
from mobileclip_deploy.targets import ExportOptions, get_target
from mobileclip_deploy.towers import TOWERS, TowerName

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "coreml_precisions.json"
PAGE = ROOT.parent / "docs" / "coreml.md"
BEGIN, END = "<!-- begin: benchmarks/coreml_precisions.py -->", "<!-- end -->"
FIGURES = {"top-1": "top1", "recall@1": "image_to_text_recall@1"}

# (precision, deployment target) of both towers, and of image and text where they differ.
SINGLE = [
    ("fp32", "iOS16"),
    ("fp16", "iOS16"),
    ("w8", "iOS16"),
    ("w8a8", "iOS17"),
    ("w6p", "iOS16"),
    ("w6p", "iOS18"),
    ("w4p", "iOS16"),
    ("w4p", "iOS18"),
    ("w4", "iOS18"),
    ("w4p-p50", "iOS18"),
]
MIXED = [
    (("w8", "iOS16"), ("w4p", "iOS16")),
    (("w8", "iOS16"), ("w6p", "iOS16")),
    (("w6p", "iOS18"), ("w4p", "iOS18")),
    (("w6p", "iOS18"), ("w4", "iOS18")),
    (("w6p", "iOS18"), ("w4p-p50", "iOS18")),
    (("w8a8", "iOS17"), ("w8", "iOS16")),
]
Choice = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """One tower at one precision."""

    bytes: int
    deviation: Deviation
    run: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


def main() -> None:
    """Measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="evaluate on the first N images only, and write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = mcd.load_model()
    dataset = _first(builtin_dataset(), arguments.limit)
    reference = Reference.compute(model, sample_inputs(model))
    base = model_embedder(model)
    checkpoint = evaluate(base, dataset)
    with tempfile.TemporaryDirectory() as folder:
        towers = {choice: _measure(model, choice, reference, Path(folder)) for choice in SINGLE}
        pairs = [(choice, choice) for choice in SINGLE] + MIXED
        rows = [_row(pair, towers, base, dataset, checkpoint) for pair in pairs]
    result = {
        "schema_version": 1,
        "checkpoint": model.provenance.sha256 if model.provenance else None,
        "engine": "mobileclip_deploy.mil, every float16 result rounded; not Core ML",
        "dataset": dataset.name,
        "images": len(dataset.images),
        "versions": {name: version(name) for name in ("mobileclip-deploy", "coremltools", "torch", "numpy")},
        "torch": {name: checkpoint.figures[key].model_dump() for name, key in FIGURES.items()},
        "rows": rows,
    }
    print(table(result))
    if arguments.limit is None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        renew(PAGE, table(result))


def _first(dataset: Dataset, limit: int | None) -> Dataset:
    if limit is None:
        return dataset
    return replace(
        dataset, images=dataset.images[:limit], captions=dataset.captions[:limit], labels=dataset.labels[:limit]
    )


def _measure(model: mcd.MobileCLIP, choice: Choice, reference: Reference, folder: Path) -> dict[TowerName, Measured]:
    precision, target = choice
    print(f"{precision} for {target}", file=sys.stderr, flush=True)
    coreml = get_target("coreml")
    bundle = export_bundle(
        model,
        coreml,
        dict.fromkeys(TOWERS, precision),
        folder / target,
        options=ExportOptions(deployment_target=target),
        verify=False,
        reference=reference,
    ).bundle
    measured = {}
    for tower in TOWERS:
        run = _remembered(coreml.runner(bundle.artifact(tower)))
        deviation = compare(reference.of(tower), run(reference.inputs.of(tower)))
        measured[tower] = Measured(bundle.manifest.towers[tower].bytes, deviation, run)
    return measured


def _remembered(run: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]) -> Callable[..., npt.NDArray[np.float32]]:
    """A tower that is run once on each batch, however many pairs it is part of."""
    known: dict[str, npt.NDArray[np.float32]] = {}

    def once(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        key = hashlib.sha256(np.ascontiguousarray(inputs).tobytes()).hexdigest()
        if key not in known:
            known[key] = run(inputs)
        return known[key]

    return once


def _row(
    pair: tuple[Choice, Choice],
    towers: dict[Choice, dict[TowerName, Measured]],
    base: Embedder,
    dataset: Dataset,
    checkpoint: EvaluationResult,
) -> dict[str, Any]:
    choice = dict(zip(TOWERS, pair, strict=True))
    measured = {tower: towers[choice[tower]][tower] for tower in TOWERS}
    print(f"evaluating {choice}", file=sys.stderr, flush=True)
    embedder = replace(base, images=measured["image"].run, texts=measured["text"].run)
    found = evaluate(embedder, dataset)
    figures = {
        name: found.figures[key].model_dump() | {"drop": checkpoint.figures[key].value - found.figures[key].value}
        for name, key in FIGURES.items()
    }
    failed = [
        f"{tower} {metric}"
        for tower in TOWERS
        for metric, bound in [Gates().shipped(choice[tower][0])]
        if not passes(measured[tower].deviation, metric, bound)
    ] + [name for name, figure in figures.items() if figure["drop"] > Gates().task]
    return {
        "precision": {tower: choice[tower][0] for tower in TOWERS},
        "deployment_target": max(target for _, target in pair),
        "towers": {
            tower: {"bytes": one.bytes, "deviation": one.deviation.model_dump()} for tower, one in measured.items()
        },
        "figures": figures,
        "failed_gates": failed,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    own = ", ".join(f"{name} {figure['value']:.2f}%" for name, figure in result["torch"].items())
    lines = [
        f"The checkpoint itself in torch: {own}. {result['images']:,} images; in brackets the 95% bootstrap interval "
        "of the figure, then the drop in points. Cosine and dB (centred signal-to-noise): worst, or over all, of the "
        "packaged photographs and prompts.",
        "",
        "| image | text | needs | MB image + text | cosine image, text | dB image, text | top-1 % | drop "
        "| recall@1 % | drop | gates |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        parts = [row["towers"][tower] for tower in TOWERS]
        cells = [
            row["precision"]["image"],
            row["precision"]["text"],
            row["deployment_target"],
            " + ".join(f"{part['bytes'] / 1e6:.2f}" for part in parts),
            ", ".join(f"{part['deviation']['cosine']:.4f}" for part in parts),
            ", ".join(f"{part['deviation']['snr_db']:.1f}" for part in parts),
        ]
        for name in FIGURES:
            figure = row["figures"][name]
            cells += [f"{figure['value']:.2f} [{figure['low']:.1f}, {figure['high']:.1f}]", f"{figure['drop']:+.2f}"]
        failed = ", ".join(row["failed_gates"])
        cells.append(f"fails: {failed}" if failed else "passes")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def renew(page: Path, text: str) -> None:
    """Replace what stands between the page's markers."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
