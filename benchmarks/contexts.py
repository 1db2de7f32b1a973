"""What short prompts cost of a causal text tower that takes several lengths: MobileCLIP-B's, in ONNX Runtime and in
ExecuTorch.

    python benchmarks/contexts.py

Golden weights (tests/golden_checkpoints), one thread, CPU time, lengths and files in turn, round by round; only ratios
mean anything. `plain` is the tower exported without contexts. Writes benchmarks/results/contexts.json and the table in
docs/figures/onnx.md. About 4 minutes of one core; `--runtime executorch` renews those rows alone.
"""

import argparse
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Figures, golden_source, in_turns, markdown, processor, versions

from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets import Form, get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.onnx.runner import open_session

KEPT = Figures("contexts", "figures/onnx.md")
CONTEXTS = (16, 32, 77)
PRECISIONS = {"onnx": ("fp32", "fp16", "w8", "w8a8"), "executorch": ("fp32", "w8")}
PACKAGES = ("mobileclip-deploy", "onnx", "onnxruntime", "executorch", "torch", "numpy")
Ask = Callable[[Any], Any]
PROMPT = "a photo of a cat on a red sofa"  # 11 tokens with start and end
ROUNDS = 30


def main() -> None:
    """Measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=list(PRECISIONS), help="measure this one alone; the other rows stay")
    chosen = parser.parse_args().runtime
    torch.set_num_threads(1)
    before = [] if chosen is None else KEPT.rows()
    rows = {name: [row for row in before if row["runtime"] == name] for name in PRECISIONS}
    for name in PRECISIONS if chosen is None else [chosen]:
        rows[name] = [row for precision in PRECISIONS[name] for row in measured(name, precision)]
    result: dict[str, Any] = {
        "schema_version": 1,
        "versions": versions(*PACKAGES),
        "machine": {"processor": processor(), "python": platform.python_version()},
        "prompt": PROMPT,
        "rows": [row for found in rows.values() for row in found],
    }
    KEPT.write(result)
    KEPT.show(table(result["rows"]))
    print(table(result["rows"]))


def opened(runtime: str, path: Path) -> Ask:
    """A file at one thread: ids -> embedding."""
    if runtime == "onnx":
        session = open_session(path, threads=1)
        name = session.get_inputs()[0].name
        return lambda ids: session.run(None, {name: ids})[0]
    from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
    from mobileclip_deploy.targets.executorch.runner import RuntimeRunner

    return RuntimeRunner(ExecuTorchArtifact(path, readable=True), 1)


def measured(runtime: str, precision: str) -> list[dict[str, Any]]:
    """CPU time and answers of a precision at every length, and of the plain export."""
    source, target = golden_source("mobileclip-b.apple"), get_target(runtime)
    ids = encode([PROMPT])
    sessions: dict[str, tuple[Ask, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, contexts in (("plain", ()), ("contexts", CONTEXTS)):
            print(f"{runtime} {precision} {name}", file=sys.stderr, flush=True)
            path = Path(folder) / f"{name}.file"
            target.write(tower_job(source, "text", precision, form=Form(contexts=contexts)), path)
            ask = opened(runtime, path)
            sessions |= {f"{name} {length}": (ask, length) for length in contexts or (77,)}
    given = {name: np.ascontiguousarray(ids[:, :length]) for name, (_, length) in sessions.items()}
    answers = {name: ask(given[name]) for name, (ask, _) in sessions.items()}
    times = in_turns({name: partial(ask, given[name]) for name, (ask, _) in sessions.items()}, ROUNDS)
    full = np.array(times[f"contexts {CONTEXTS[-1]}"])
    return [
        {
            "runtime": runtime,
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
    heads = ("runtime", "precision", "file", ">tokens", ">CPU ms", ">times as fast as 77")
    told = []
    for row in rows:
        told.append([row["runtime"], row["precision"], row["file"], str(row["tokens"]), f"{row['cpu_ms']:.1f}"])
        told[-1] += [f"{row['times_as_fast_as_full']:.2f}", f"{row['relative']:.1e}"]
    return "\n".join(markdown((*heads, ">from the plain file's embedding"), told))


if __name__ == "__main__":
    main()
