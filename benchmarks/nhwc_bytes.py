"""What a bitmap's own bytes cost as the input of a LiteRT image tower (`--nhwc-bytes`), against planes of floats.

    python benchmarks/nhwc_bytes.py out/nano-litert-fp32/nano_image.tflite --json benchmarks/results/nhwc_bytes.json

The files are image towers as they are exported without the option; the other ones are made of them here. CPU time of
one thread, the two in turns, their order turned over in each round; of a round the inference counts that took the
least, and the ratio's interval is that of the median over rounds. Copying the input into the runtime is part of an
inference; making floats of a bitmap, which an app does without the option, is not. Both have to answer alike, or the
script fails.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

CALLS = 5
ALIKE = 1e-5
"""Relative: a division by 255 in another place rounds otherwise."""


def main() -> int:
    """Convert, compare, measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="image towers that take floats")
    parser.add_argument("--rounds", type=int, default=25, help="of five inferences each, by default %(default)s")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    rows = [measured(file, arguments.rounds) for file in arguments.files]
    if arguments.json:
        arguments.json.write_text(json.dumps({"schema_version": 1, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["difference"] <= ALIKE for row in rows) else 1


def measured(file: Path, rounds: int) -> dict[str, Any]:
    """One tower: how far the two answers are apart, and what each takes."""
    import numpy as np

    from mobileclip_deploy.benchmark.statistics import median_interval
    from mobileclip_deploy.targets.litert.authoring import take_bytes
    from mobileclip_deploy.targets.litert.editing import LiteRTEditor

    editor = LiteRTEditor(file.read_bytes())
    take_bytes(editor)
    towers = [interpreter(content) for content in (file.read_bytes(), editor.packed())]
    size = towers[1].get_input_details()[0]["shape"][1]
    bitmap = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    inputs = [np.ascontiguousarray(bitmap.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255), bitmap]
    whole, own = (answer(tower, given) for tower, given in zip(towers, inputs, strict=True))
    ratios: list[float] = []
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        found = {index: min(seconds(towers[index], inputs[index]) for _ in range(CALLS)) for index in order}
        ratios.append(found[1] / found[0])
        for index, took in found.items():
            times[bool(index)].append(1000 * took)
    interval = median_interval([[ratio] for ratio in ratios])
    row = {
        "file": file.name,
        "difference": float(np.abs(whole - own).max() / np.abs(whole).max()),
        "floats_cpu_ms": round(statistics.median(times[False]), 3),
        "bytes_cpu_ms": round(statistics.median(times[True]), 3),
        "ratio": round(statistics.median(ratios), 3),
        "low": round(interval.low, 3),
        "high": round(interval.high, 3),
        "rounds": rounds,
    }
    print(json.dumps(row), flush=True)
    return row


def interpreter(content: bytes) -> Any:
    """LiteRT on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=content, num_threads=1)
    made.allocate_tensors()
    return made


def answer(tower: Any, given: Any) -> Any:
    """What a tower gives."""
    seconds(tower, given)
    return tower.get_tensor(tower.get_output_details()[0]["index"])


def seconds(tower: Any, given: Any) -> float:
    """CPU seconds of an inference, its input copied in."""
    started = time.process_time()
    tower.set_tensor(tower.get_input_details()[0]["index"], given)
    tower.invoke()
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
