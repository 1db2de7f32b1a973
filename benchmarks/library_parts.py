"""What one photograph costs `embed` and open_clip's own pipeline, part by part, on one thread of this processor.

    python benchmarks/library_parts.py WORK

The parts of `library.py`: decoded and resized by `embed` exactly, by `embed --fast-jpeg` and by open_clip's transform;
S0's image tower in ONNX Runtime as `embed` runs it (4 pictures together) and in torch as open_clip gives it, folded by
timm, and in bfloat16 (8 together, channels last). One after the other, round after round, the median of five. Writes
benchmarks/results/library_parts.json and a table in docs/figures. About a minute of CPU; bundles stay in WORK.
"""

import argparse
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from library import VARIANT, photographs
from measuring import Figures, in_turns, markdown, medians, processor
from PIL import Image

KEPT = Figures("library_parts", "figures/library.md")
SIZES, ROUNDS, OURS, THEIRS = ("2 MP", "12 MP"), 5, 4, 8
TOWERS = {"open_clip as it comes": (False, False), "folded by timm": (True, False), "folded, bfloat16": (True, True)}


def main() -> None:
    """Measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    ways = parts(parser.parse_args().work)
    load = os.getloadavg()[0]
    took = medians(in_turns({name: run for name, (run, _) in ways.items()}, ROUNDS, 1))
    result = {
        "schema_version": 1,
        "machine": {"processor": processor(), "load": load},
        "cpu_ms": {name: took[name] / pictures for name, (_, pictures) in ways.items()},
    }
    KEPT.write(result)
    KEPT.show(table(result))
    print(table(result))


def parts(work: Path) -> dict[str, tuple[Callable[[], Any], int]]:
    """What is measured, by its name, and of how many pictures."""
    import open_clip
    import torch
    from subjects import OPEN_CLIP, Subjects, image_weights

    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.network.model.preprocessing import decoded, tower_bytes
    from mobileclip_deploy.targets.onnx.runner import open_session

    torch.set_num_threads(1)
    found: dict[str, tuple[Callable[[], Any], int]] = {}
    pixels = np.random.default_rng(0).random((THEIRS, 3, 256, 256), np.float32)
    for precision in ("fp32", "w8a8"):
        bundle = Bundle.of(Subjects(work).bundle(VARIANT, "onnx", precision))
        session = open_session(bundle.artifact("image"), threads=1)
        given = {session.get_inputs()[0].name: pixels[:OURS]}
        found[f"embed, {precision}"] = (partial(session.run, None, given), OURS)
    last = torch.from_numpy(pixels).to(memory_format=torch.channels_last)
    for name, (folded, narrow) in TOWERS.items():
        model, _, transform = open_clip.create_model_and_transforms(OPEN_CLIP[VARIANT])
        model.load_state_dict(image_weights(VARIANT), strict=False)
        visual = model.visual.eval()
        if folded:
            from timm.utils.model import reparameterize_model

            visual = reparameterize_model(visual)
        visual = visual.to(memory_format=torch.channels_last)

        def run(visual: Any = visual, narrow: bool = narrow) -> Any:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                return visual(last)

        found[name] = (run, THEIRS)
    spec = bundle.manifest.preprocess
    for size in SIZES:
        content = next(iter(sorted(photographs(work, size).glob("*.jpg")))).read_bytes()

        def embed(content: bytes = content, least: int | None = None) -> Any:
            with decoded(content, "", least) as picture:
                return tower_bytes(picture, spec)

        def theirs(content: bytes = content) -> Any:
            return transform(Image.open(io.BytesIO(content)))

        pipelines: dict[str, Callable[[], Any]] = {
            "embed": embed,
            "--fast-jpeg": partial(embed, least=2 * spec.resized),
            "open_clip": theirs,
        }
        found |= {f"{size}, {name}": (decode, 1) for name, decode in pipelines.items()}
    return found


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown: of each pair of pipelines, how many times as many pictures `embed` makes."""
    took = result["cpu_ms"]
    rows = []
    for size in SIZES:
        for precision in ("fp32", "w8a8"):
            for name, how in (("embed", ""), ("--fast-jpeg", ", --fast-jpeg")):
                own = took[f"{size}, {name}"] + took[f"embed, {precision}"]
                ratios = [(took[f"{size}, open_clip"] + took[tower]) / own for tower in TOWERS]
                rows.append([size, precision + how, f"{own:.1f}", *(f"{ratio:.2f}" for ratio in ratios)])
    lines = markdown(("photographs", "embed", "CPU ms a picture", *(f"times {name}" for name in TOWERS)), rows)
    machine = result["machine"]
    lines += ["", "CPU ms of the parts: " + "; ".join(f"{name} {value:.1f}" for name, value in took.items()) + "."]
    lines.append(
        f"`python benchmarks/library_parts.py WORK`; {machine['processor']}, one thread, load average "
        f"{machine['load']:.1f} before."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
