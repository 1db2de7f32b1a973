"""What short prompts cost of a causal text tower that takes several lengths: MobileCLIP-B's, in ONNX Runtime.

    python benchmarks/contexts.py

Golden weights (checkpoints/golden.py), one thread, CPU time, lengths and files in turn, round after round; only ratios
mean anything. `plain` is the tower exported without contexts. Writes benchmarks/results/contexts.json and the table in
docs/onnx.md. About 2 minutes of one core.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generated import replace_block
from onnx_speed import golden, processor

from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.onnx.session import open_session

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "contexts.json"
PAGE = ROOT.parent / "docs" / "onnx.md"
CONTEXTS, PRECISIONS = (16, 32, 77), ("fp32", "fp16", "w8", "w8a8")
PROMPT = "a photo of a cat on a red sofa"  # 11 tokens with start and end
ROUNDS, WARM_UP = 30, 3


def main() -> None:
    """Measure, write the figures, and renew the table."""
    torch.set_num_threads(1)
    result = {
        "schema_version": 1,
        "versions": {name: version(name) for name in ("mobileclip-deploy", "onnx", "onnxruntime", "torch", "numpy")},
        "machine": {"processor": processor(), "python": platform.python_version()},
        "prompt": PROMPT,
        "rows": [row for precision in PRECISIONS for row in measured(precision)],
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    replace_block(PAGE, "<!-- begin: benchmarks/contexts.py -->", "<!-- end -->", table(result["rows"]))
    print(table(result["rows"]))


def measured(precision: str) -> list[dict[str, Any]]:
    """CPU time and answers of a precision at every length, and of the plain export."""
    model, target = golden("mobileclip-b.apple"), get_target("onnx")
    ids = tokenize([PROMPT])
    sessions: dict[str, tuple[Any, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, contexts in (("plain", ()), ("contexts", CONTEXTS)):
            print(f"{precision} {name}", file=sys.stderr, flush=True)
            path = Path(folder) / f"{name}.onnx"
            target.write(tower_job(Source.of(model), "text", precision, contexts=contexts), path)
            session = open_session(path, threads=1)
            sessions |= {f"{name} {length}": (session, length) for length in contexts or (77,)}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    answers: dict[str, np.ndarray[Any, Any]] = {}
    order = list(sessions)
    for turn in range(WARM_UP + ROUNDS):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            session, length = sessions[name]
            start = time.process_time()
            (answers[name],) = session.run(None, {session.get_inputs()[0].name: ids[:, :length]})
            if turn >= WARM_UP:
                times[name].append(1000 * (time.process_time() - start))
    full = np.array(times[f"contexts {CONTEXTS[-1]}"])
    return [
        {
            "precision": precision,
            "file": name.split()[0],
            "tokens": length,
            "cpu_ms": statistics.median(times[name]),
            "times_as_fast_as_full": statistics.median(full / np.array(times[name])),
            "relative": compare(answers["plain 77"], answers[name]).relative,
        }
        for name, (_, length) in sessions.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| precision | file | tokens | CPU ms | times as fast as 77 | from the plain file's embedding |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for row in rows:
        cells = [row["precision"], row["file"], str(row["tokens"]), f"{row['cpu_ms']:.1f}"]
        cells += [f"{row['times_as_fast_as_full']:.2f}", f"{row['relative']:.1e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
