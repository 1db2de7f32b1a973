"""A 7 x 7 convolution of stride 2 that doubles the channels, as converted and as it is dealt out, in LiteRT on a CPU.

    python benchmarks/litert_downsampling.py --json benchmarks/results/litert_downsampling.json

The sizes are those of S0's three downsamplings. Times are CPU time of one thread, both in turn, the median of the
rounds; only their ratio means anything. Both have to give the same numbers but for rounding, or the script fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from measuring import in_turns, medians

SIZES = ((64, 64), (128, 32), (256, 16))
CALLS = 5
ROUNDING = 1e-6
"""A share of the largest value."""


def main() -> int:
    """Convert, compare, measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="of five inferences each, by default %(default)s")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    rows = [measured(channels, size, arguments.rounds) for channels, size in SIZES]
    if arguments.json:
        arguments.json.write_text(json.dumps({"schema_version": 2, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["difference"] <= ROUNDING for row in rows) else 1


def measured(channels: int, size: int, rounds: int) -> dict[str, Any]:
    """One size: how far the two are apart, and what each takes."""
    import litert_torch
    import numpy as np
    import torch
    from torch import nn

    from mobileclip_deploy.targets.litert.bands import deal_out
    from mobileclip_deploy.targets.litert.editing import Editor

    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, 2 * channels, 7, 2, 3, groups=channels)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # between layers channels are last

    torch.manual_seed(0)
    image = torch.randn(1, size, size, channels)
    with torch.no_grad():
        converted = litert_torch.convert(Doubling().eval(), (image,)).model_content()
    editor = Editor(converted)
    before = len(editor.graph.operators)
    deal_out(editor)
    assert len(editor.graph.operators) > before
    calls = [interpreter(content, image) for content in (converted, editor.packed())]
    whole, dealt = (answer(call) for call in calls)
    times = in_turns(dict(zip(("whole", "dealt"), (partial(several, call) for call in calls), strict=True)), rounds)
    whole_ms, dealt_ms = (took / CALLS for took in medians(times).values())
    row = {
        "channels": channels,
        "pixels": size,
        "difference": float(np.abs(whole - dealt).max() / np.abs(whole).max()),
        "converted_cpu_ms": round(whole_ms, 3),
        "dealt_out_cpu_ms": round(dealt_ms, 3),
        "ratio": round(dealt_ms / whole_ms, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def interpreter(content: bytes, image: Any) -> Any:
    """LiteRT on one thread that has answered to an image [1, H, W, C]."""
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=content, num_threads=1)
    made.allocate_tensors()
    made.set_tensor(made.get_input_details()[0]["index"], image.numpy())
    made.invoke()
    return made


def several(made: Any) -> None:
    """`CALLS` inferences."""
    for _ in range(CALLS):
        made.invoke()


def answer(made: Any) -> Any:
    """What the last inference gave."""
    return made.get_tensor(made.get_output_details()[0]["index"])


if __name__ == "__main__":
    sys.exit(main())
