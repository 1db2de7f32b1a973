"""What Core ML's compressed precisions weigh and cost on networks of real size, with golden weights.

    python benchmarks/coreml_goldens.py              # writes benchmarks/results/coreml_goldens.json, docs/figures
    python benchmarks/coreml_goldens.py --page-only  # the table of the page alone, from what was measured before

Bytes are those of the weights; the cosine is the worst over the three images or five prompts of tests/golden, of the
package evaluated as written. About 10 minutes of one core.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Figures, golden_source, markdown

KEPT = Figures("coreml_goldens", "figures/coreml.md")
TOWERS = (("mobileclip-s0.apple", "image"), ("mobileclip-s0.apple", "text"), ("mobileclip-s2.apple", "image"))
PRECISIONS = (
    ("w8", "iOS16"),
    ("w8", "iOS18"),
    ("w8a8", "iOS17"),
    ("w6p", "iOS16"),
    ("w6p", "iOS18"),
    ("w4p", "iOS16"),
    ("w4p", "iOS18"),
    ("w4", "iOS18"),
    ("w4p-p50", "iOS18"),
)


def main() -> None:
    """Measure every cell, write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page-only", action="store_true", help="write the table from what was measured before")
    if not parser.parse_args().page_only:
        rows = []
        for golden, tower in TOWERS:
            for precision, needs in PRECISIONS:
                rows.append(measure(golden, tower, precision, needs))
                print(json.dumps(rows[-1]), flush=True)
        KEPT.write_rows(rows)
    KEPT.show(table(KEPT.rows()))


def measure(golden: str, tower: Any, precision: str, needs: str) -> dict[str, Any]:
    """Export one tower and evaluate the package; seconds are CPU time of the export, conversion included."""
    import numpy as np
    import torch
    from golden_checkpoints import GoldenCheckpoint

    from mobileclip_deploy.network.embedding import embed_images
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.jobs import tower_job

    torch.set_num_threads(1)
    answers, source = GoldenCheckpoint(golden), golden_source(golden)
    if tower == "image":  # Core ML takes bytes, which the golden images are not: the folded network answers for them
        inputs = (np.rint(answers.images.numpy() * 255) / 255).astype(np.float32)
        wanted = embed_images(source.model, inputs)
    else:
        inputs, wanted = answers.tokens.numpy(), answers.arrays["text_embeddings"].numpy()
    coreml = get_target("coreml")
    target = coreml.with_options(coreml.Options.restored({"deployment_target": needs} if needs else {}))
    with tempfile.TemporaryDirectory(prefix="coreml-goldens-") as folder:
        path = Path(folder) / "tower.mlpackage"
        started = time.process_time()
        target.write(tower_job(source, tower, precision), path)
        seconds = time.process_time() - started
        deviation = compare(wanted, target.open(path).runner()(inputs))
        stored = weight_bytes(path)
    return {
        "golden": golden,
        "tower": tower,
        "precision": precision,
        "needs": needs,
        "weight_bytes": stored,
        "cosine": deviation.cosine,
        "export_cpu_s": round(seconds, 1),
    }


def weight_bytes(package: Path) -> int:
    """Bytes of its weights, without the header and the metadata (64 bytes each) of the file."""
    data = (package / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    return len(data) - 64 * (int.from_bytes(data[:4], "little") + 1)


def table(rows: list[dict[str, Any]]) -> str:
    """One row per precision, one column per tower."""
    found = {(row["golden"], row["tower"], row["precision"], row["needs"]): row for row in rows}
    told = []
    for precision, needs in PRECISIONS:
        cells = [found[golden, tower, precision, needs] for golden, tower in TOWERS]
        shown = (
            f"{cell['weight_bytes'] / 1e6:.2f}, {cell['cosine']:.4f}, {cell['export_cpu_s']:.0f} s" for cell in cells
        )
        told.append([precision, needs, *shown])
    return "\n".join(markdown(("precision", "needs", "S0 image: MB, cosine, CPU s", "S0 text", "S2 image"), told))


if __name__ == "__main__":
    main()
