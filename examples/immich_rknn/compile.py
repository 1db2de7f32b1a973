# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["rknn-toolkit2==2.5.0", "onnx==1.16.1", "setuptools<81"]
# ///
"""Compiles a bundle of `--layout immich` for the NPU of Rockchip's boards, as Immich's service names and loads it.

    uv run examples/immich_rknn/compile.py out/mobileclip_s0-immich-fp32 --soc rk3588

Writes `rknpu/<soc>/model.rknn` next to each `model.onnx`. Names and settings follow the sources of Immich:
immich-app/immich, machine-learning/immich_ml, at commit 042e5d5bda11f667d8832400db01eb8dfa84163c
(`sessions/rknn/__init__.py`: the path, the order of axes, what a file without a `custom_string` takes;
`models/constants.py`: the chips), and immich-app/ml-models, `immich_model/rknn/compile.py` (no quantization, a batch of
one, and no fusion of attention where the compiler refuses it).

Linux x86-64. `--answers` runs each tower in Rockchip's simulator on this machine and prints how near it
is to ONNX Runtime's.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

SOCS = ("rk3566", "rk3568", "rk3576", "rk3588")
PARTS = ("visual", "textual")
FUSION = "fuse_matmul_softmax_matmul_to_sdpa"
NEAR = 0.99
NEWEST = 19
DOG = (49406, 320, 1929, 49407)
"""CLIP's ids of "a dog"."""


def main() -> int:
    """Compiles both towers for each chip. Returns 1 if the simulator's answers are another network's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="the folder that `export --layout immich` wrote")
    parser.add_argument("--soc", action="append", choices=SOCS, help="may be given several times [default: all]")
    parser.add_argument("--answers", action="store_true", help="Run the simulator, too.")
    arguments = parser.parse_args()
    worst = 1.0
    for part in PARTS:
        source = arguments.bundle / part / "model.onnx"
        if not source.is_file():
            parser.error(f"{source} is missing: is this a bundle of `--layout immich`?")
        for soc in arguments.soc or SOCS:
            rknn = compiled(source, soc)
            written = source.parent / "rknpu" / soc / "model.rknn"
            written.parent.mkdir(parents=True, exist_ok=True)
            done(rknn.export_rknn(str(written)), "writing")
            print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
            if arguments.answers:
                found = cosine(rknn, source)
                worst = min(worst, found)
                print(f"{part}, {soc}, Rockchip's simulator: cosine {found:.6f} with ONNX Runtime's answer")
            rknn.release()
    return 0 if worst >= NEAR else 1


def compiled(source: Path, soc: str) -> Any:
    """Returns a model of a batch of one, in float16, as the NPU computes."""
    from rknn.api import RKNN

    name, shape = port(source)
    with tempfile.TemporaryDirectory() as folder:
        model = str(lowered(source, Path(folder)))
        for disabled in ([], [FUSION]):
            rknn = RKNN(verbose=False)
            rknn.config(target_platform=soc, disable_rules=disabled)
            done(rknn.load_onnx(model=model, inputs=[name], input_size_list=[shape]), "reading")
            if rknn.build(do_quantization=False) == 0:
                return rknn
            rknn.release()
    sys.exit(f"{source} cannot be compiled for {soc}")


def lowered(source: Path, folder: Path) -> Path:
    """Returns the model in opset 19, the newest that the compiler reads: GELU, one operation in 20, is written out."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    nodes = []
    for number, node in enumerate(model.graph.node):
        if node.op_type != "Gelu":
            nodes.append(node)
            continue
        (given,), (result,) = node.input, node.output
        scaled, error, above, half = (f"gelu_{number}_{part}" for part in ("scaled", "error", "above", "half"))
        nodes += [
            helper.make_node("Mul", [given, "gelu_root"], [scaled]),
            helper.make_node("Erf", [scaled], [error]),
            helper.make_node("Add", [error, "gelu_one"], [above]),
            helper.make_node("Mul", [given, "gelu_half"], [half]),
            helper.make_node("Mul", [half, above], [result]),
        ]
    for name, value in (("root", 0.5**0.5), ("one", 1.0), ("half", 0.5)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.float32), f"gelu_{name}"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for entry in model.opset_import:
        entry.version = min(entry.version, NEWEST) if not entry.domain else entry.version
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def port(source: Path) -> tuple[str, list[int]]:
    """Returns name and shape of the only input."""
    import onnx

    (given,) = onnx.load(source).graph.input
    return given.name, [dim.dim_value or 1 for dim in given.type.tensor_type.shape.dim]


def cosine(rknn: Any, source: Path) -> float:
    """Returns the cosine between the simulator's and ONNX Runtime's embedding of a picture of noise, or of "a dog"."""
    import numpy as np
    import onnxruntime

    name, shape = port(source)
    if len(shape) == 4:
        given, order = np.random.default_rng(0).random(shape, np.float32), "nchw"
    else:
        given, order = np.zeros(shape, np.int32), None
        given[0, :4] = DOG
    done(rknn.init_runtime(), "starting the simulator")
    found = np.asarray(rknn.inference(inputs=[given], data_format=order)[0]).reshape(-1)
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {name: given})[0].reshape(-1)
    return float(found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted))


def done(code: int, what: str) -> None:
    """Ends the program if Rockchip's compiler did not do something; it has printed why."""
    if code:
        sys.exit(f"{what} failed with code {code}")


if __name__ == "__main__":
    sys.exit(main())
