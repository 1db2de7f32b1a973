"""Image and text tower of nano as quantized here, and as quantizers of others make them from our float32 file.

    python benchmarks/quantizers.py [--target onnx,litert,coreml] [--folder FOLDER]

Bytes of a tower's file; zero-shot top-1 with the checkpoint's other tower; mean and least cosine to the checkpoint over
the pictures, or over the prompts of the classes. Writes benchmarks/results/quantizers.json (rows of targets that are
left out stay) and the table in docs/figures/benchmarks.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import ROOT, Figures, markdown
from subjects import CALIBRATION, Subjects

if TYPE_CHECKING:
    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.evaluation.evaluate import Measurement
    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.pictures.embedder import Embedder

KEPT = Figures("quantizers")
BLOCK = 32
"""Weights with one scale, as in ours at 4 bits."""
TITLES = ("target", "tower", "quantized by", ">MB", ">top-1", ">cosine", ">least")


@dataclass(frozen=True)
class Peer:
    """A quantizer: its package, what is called, and a function that reads a float32 file and writes another."""

    target: str
    tower: TowerName
    package: str
    call: str
    write: Callable[[Path, Path], None]


def dynamic(source: Path, output: Path) -> None:
    """Weights in int8; ONNX Runtime measures the range of an activation when it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, output, weight_type=QuantType.QInt8)


def static(source: Path, output: Path) -> None:
    """Weights and activations in int8, by the ranges of the calibration pictures."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # has no types
        def __init__(self) -> None:
            self.rows = iter(calibration())

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {"pixel_values": row[None]}

    quantize_static(source, output, Reader())


def four_bits(source: Path, output: Path) -> None:
    """Weights of matrix products in blocks at 4 bits."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=BLOCK, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(output))


def recipe(name: str) -> Callable[[Path, Path], None]:
    """Returns ai-edge-quantizer by one of its recipes. Its static one is left out: it takes and gives int8."""

    def write(source: Path, output: Path) -> None:
        from ai_edge_quantizer import recipe as recipes
        from ai_edge_quantizer.quantizer import Quantizer

        quantizer = Quantizer(str(source), getattr(recipes, name)())
        output.write_bytes(bytes(quantizer.quantize().quantized_model))

    return write


def integers(source: Path, output: Path) -> None:
    """coremltools: weights on a grid of 8 bits for each channel."""
    from coremltools.optimize import coreml as optimize

    config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric")
    changed(source, output, optimize.linear_quantize_weights, config)


def palette(source: Path, output: Path) -> None:
    """coremltools: weights by tables of 16 entries."""
    from coremltools.optimize import coreml as optimize

    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=4)
    changed(source, output, optimize.palettize_weights, config)


def changed(source: Path, output: Path, call: Callable[[Any, Any], Any], config: Any) -> None:
    """A package that coremltools reads, changes and saves; it is not compiled, which takes a Mac."""
    from coremltools.models import MLModel
    from coremltools.optimize.coreml import OptimizationConfig

    package = MLModel(str(source), skip_model_load=True)
    call(package, OptimizationConfig(global_config=config)).save(str(output))


ONNX_PEER, LITERT_PEER, CORE_ML_PEER = "onnxruntime", "ai-edge-quantizer", "coremltools"
PEERS = (
    Peer("onnx", "image", ONNX_PEER, "quantize_static", static),
    Peer("onnx", "image", ONNX_PEER, "quantize_dynamic", dynamic),
    Peer("onnx", "text", ONNX_PEER, "quantize_dynamic", dynamic),
    Peer("onnx", "text", ONNX_PEER, f"MatMulNBitsQuantizer, blocks of {BLOCK}", four_bits),
    Peer("litert", "image", LITERT_PEER, "dynamic_wi8_afp32", recipe("dynamic_wi8_afp32")),
    Peer("litert", "text", LITERT_PEER, "dynamic_wi8_afp32", recipe("dynamic_wi8_afp32")),
    Peer("litert", "text", LITERT_PEER, "dynamic_wi4_afp32", recipe("dynamic_wi4_afp32")),
    *(Peer("coreml", tower, CORE_ML_PEER, "linear_quantize_weights", integers) for tower in ("image", "text")),
    *(Peer("coreml", tower, CORE_ML_PEER, "palettize_weights, 4 bits", palette) for tower in ("image", "text")),
)
OURS = {"onnx": ("w8a8", "w8", "w4"), "litert": ("w8a8", "w8", "w4"), "coreml": ("w8", "w4p")}


def main() -> None:
    """Measures, writes the figures, and renews the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=",".join(OURS), help="with commas")
    parser.add_argument("--folder", type=Path, help="keep the bundles here, and use those that are there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for target in given.target.split(","):
            rows = []
            for row in measured(target, given.folder or Path(folder)):
                print(row, file=sys.stderr, flush=True)
                rows.append(row)
            rows += [row for row in KEPT.rows() if row["target"] != target]
            KEPT.write_rows(sorted(rows, key=lambda row: (list(OURS).index(row["target"]), row["tower"])))
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "page.py")], check=True)


def measured(target: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a target, ours first."""
    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.network.model.variants import TOWERS

    subjects = Subjects(folder)
    for precision in OURS[target]:
        bundle = Bundle.open(subjects.bundle("nano", target, precision))
        for tower in TOWERS:
            yield row_of(bundle, tower, f"mobileclip-deploy, {bundle.manifest.towers[tower].precision}")
    plain = Bundle.open(subjects.bundle("nano", target))
    for peer in (peer for peer in PEERS if peer.target == target):
        with tempfile.TemporaryDirectory() as place:
            by = f"{peer.package} {metadata.version(peer.package)}, {peer.call}"
            yield row_of(requantized(plain, peer, Path(place) / "bundle"), peer.tower, by)


def requantized(plain: Bundle, peer: Peer, folder: Path) -> Bundle:
    """A copy of a float32 bundle with one file by a peer."""
    from exports import rehash

    from mobileclip_deploy.artifacts.bundle import Bundle

    shutil.copytree(plain.path, folder)
    file = folder / plain.manifest.towers[peer.tower].file
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    peer.write(plain.artifact(peer.tower), file)
    rehash(folder)
    return Bundle.open(folder)


def row_of(bundle: Bundle, tower: TowerName, by: str) -> dict[str, Any]:
    """Measures one tower of a bundle."""
    import numpy as np

    from mobileclip_deploy.pictures.embedder import bundle_embedder

    checkpoint, exact = reference()
    other = bundle_embedder(bundle, [tower])
    mixed = replace(checkpoint, images=other.images) if tower == "image" else replace(checkpoint, texts=other.texts)
    answers = figures(mixed)
    rows, exact_rows = (answers.images, exact.images) if tower == "image" else (answers.texts, exact.texts)
    cosines = np.sum(rows.astype(np.float64) * exact_rows, axis=1)
    return {
        "target": bundle.manifest.target,
        "tower": tower,
        "by": by,
        "bytes": bundle.manifest.towers[tower].bytes,
        "top1": answers.result.figures["top1"].value,
        "cosine": float(cosines.mean()),
        "least": float(cosines.min()),
    }


@cache
def reference() -> tuple[Embedder, Measurement]:
    """The checkpoint, and what it answers."""
    import mobileclip_deploy as mcd
    from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder

    embedder = model_embedder(mcd.load_model())
    return embedder, figures(embedder)


def figures(embedder: Embedder) -> Measurement:
    """Classifies nano's pictures."""
    from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
    from mobileclip_deploy.evaluation.evaluate import measure

    return measure(embedder, builtin_dataset(), ("classification",))


@cache
def calibration() -> Any:
    """The calibration pictures as the tower takes them, float32 [N, 3, H, W]."""
    import mobileclip_deploy as mcd
    from mobileclip_deploy.network.model.preprocessing import load_batch

    paths = sorted((CALIBRATION / "images").iterdir())
    return load_batch(paths, mcd.load_model().variant.preprocess)


def section() -> str:
    """The part of docs/figures/benchmarks.md; empty where nothing was measured."""
    lines = [
        (
            *(row["target"], row["tower"], row["by"], f"{row['bytes'] / 1e6:.2f}"),
            *(f"{row['top1']:.1f}", f"{row['cosine']:.4f}", f"{row['least']:.3f}"),
        )
        for row in KEPT.rows()
    ]
    if not lines:
        return ""
    head = (
        "The same trained nano, its float32 file quantized by the runtimes' own tools. Top-1 with the checkpoint's "
        "other tower; cosines to the checkpoint over 1,911 pictures, or over the classes' prompts."
    )
    return "\n\n".join(
        ("## Quantizers of others", head, "\n".join(markdown(TITLES, lines)), "`python benchmarks/quantizers.py`.")
    )


if __name__ == "__main__":
    main()
