"""What a library of photographs costs `embed` beside its network: time and peak memory of very many files.

    python benchmarks/many_files.py WORK 100000

As many files of 8 x 8 pixels, embedded by their mean colour; killed half way, and begun again; and a hundredth of the
files for comparison. Prints JSON. About 2 minutes of CPU; files and embeddings stay in WORK.
"""

import argparse
import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("files", type=int)
    given = parser.parse_args()
    print(json.dumps(many(given.work, given.files), indent=1))


def many(work: Path, count: int) -> dict[str, Any]:
    """Seconds and peak memory of `count` files, after a kill half way, and of a hundredth of them."""
    told: dict[str, Any] = {}
    for number in (count // 100, count):
        folder, output = work / f"many-{number}", work / f"many-{number}.npy"
        folder.mkdir(parents=True, exist_ok=True)
        header = (
            b"BM" + struct.pack("<IHHI", 246, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 24, 0, 192, *[0] * 4)
        )
        for index in range(number):
            path = folder / f"{index // 1000:03d}" / f"{index:06d}.bmp"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(header + index.to_bytes(4, "little") * 48)
        command = [sys.executable, "-c", COUNTED, str(folder), str(output)]
        if number == count:
            killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while len(list((work / f".{output.name}.partial").glob("*/*.safetensors"))) < count // 2 // 256:
                time.sleep(0.2)
                assert killed.poll() is None
            killed.kill()
            killed.wait()
        told[str(number)] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return told


# Run by itself, so that its peak is its own.
COUNTED = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from mobileclip_deploy.search import embedding_files
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.network.model.scores import Scores
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.base.progress import Lines

variant = load_variant("nano")
mean = lambda pixels: np.repeat(pixels.mean(axis=(2, 3)), 171, axis=1)[:, :512].astype(np.float32)
embedder = Embedder(
    name="colours", variant="nano", engine="numpy", embedding_space="colours", images=mean, texts=mean,
    artifact=lambda tower: "0", preprocess=variant.preprocess, tokenizer=variant.tokenizer, template="",
    scores=Scores(1.0), alone=lambda: mean,
)
embedding_files.model_embedder = lambda _: embedder
cpu, wall = time.process_time(), time.perf_counter()
lines = Lines(lambda text: print(text, file=sys.stderr))
found = embedding_files.embed_to_file(None, [Path(sys.argv[1])], Path(sys.argv[2]), progress=lines)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "count": found.count, "computed": found.computed, "seconds": time.perf_counter() - wall,
    "cpu_seconds": time.process_time() - cpu, "peak_mb": used.ru_maxrss / 1000,
}))
"""


if __name__ == "__main__":
    main()
