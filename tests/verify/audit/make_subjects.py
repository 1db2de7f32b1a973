"""Files of the built-in network as other tools write them, clean ones and some with a planted fault.

    python tests/verify/audit/make_subjects.py OUT [--kinds onnx,litert] [--faults 5] [--clean 4]

writes the files and OUT/subjects.json: a list of {"image", "text", "kind", "convention", "fault"}. A subject has one
tower; of kind `joint` the file is both `image` and `text`. What a kind needs is imported when it is made; a package
that is missing is reported, and its kind is left out. Existing files are kept, so that an interrupted run goes on.
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from verify.audit.faults import CLIP, IMAGE, IMAGE_ROWS, IMAGENET, JOINT, TEXT, TEXT_ROWS

from mobileclip_deploy import load_model
from mobileclip_deploy.network.model.architecture import MobileCLIP

SIZE, LENGTH = 64, 77
RANGES = {
    "0..1": ((0.0,) * 3, (1.0,) * 3),
    "0..255": ((0.0,) * 3, (1 / 255,) * 3),
    "-1..1": ((0.5,) * 3, (0.5,) * 3),
    "clip": CLIP,
    "imagenet": IMAGENET,
}
"""Range -> mean and std by which an app makes the input from 0 to 1."""


@dataclass(frozen=True)
class Convention:
    """How a file wants to be fed, and what it gives."""

    axes: Literal["NCHW", "NHWC"] = "NCHW"
    range: str = "0..1"
    colours: Literal["RGB", "BGR"] = "RGB"
    ids: Literal["int64", "int32"] = "int64"
    output: Literal["raw", "unit", "scaled"] = "raw"
    batch: Literal["1", "4", "free"] = "1"


class ImageFile(nn.Module):
    """The image tower under a convention."""

    def __init__(self, model: MobileCLIP, how: Convention) -> None:
        super().__init__()
        assert model.image is not None
        self.tower, self.how = model.image, how
        mean, std = (torch.tensor(values)[:, None, None] for values in RANGES[how.range])
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        if self.how.axes == "NHWC":
            x = x.permute(0, 3, 1, 2)
        if self.how.range == "0..255":
            x = x / 255
        elif self.how.range != "0..1":
            x = x * self.std + self.mean
        if self.how.colours == "BGR":
            x = torch.cat((x[:, 2:3], x[:, 1:2], x[:, 0:1]), dim=1)
        return given(self.tower(x), self.how)


class TextFile(nn.Module):
    """The text tower under a convention."""

    def __init__(self, model: MobileCLIP, how: Convention) -> None:
        super().__init__()
        assert model.text is not None
        self.tower, self.how = model.text, how

    def forward(self, ids: Tensor) -> Tensor:
        return given(self.tower(ids), self.how)


class JointFile(nn.Module):
    """Both towers, as optimum exports CLIP."""

    def __init__(self, model: MobileCLIP, how: Convention) -> None:
        super().__init__()
        self.image, self.text = ImageFile(model, how), TextFile(model, how)
        self.factor, self.outputs = model.logit_factor, getattr(model, "outputs", lambda *each: each)

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image, text = self.image(pixel_values), self.text(input_ids)
        image_unit, text_unit = (x / x.norm(dim=-1, keepdim=True) for x in (image, text))
        logits = text_unit @ image_unit.T * self.factor
        return self.outputs(logits.T, logits, text, image)


def given(x: Tensor, how: Convention) -> Tensor:
    if how.output == "unit":
        return x / (x * x).sum(-1, keepdim=True).sqrt()
    return x * 100 if how.output == "scaled" else x


def example(tower: str, how: Convention) -> Tensor:
    if tower == "text":
        ids = torch.zeros(1, LENGTH, dtype=torch.int64 if how.ids == "int64" else torch.int32)
        ids[0, :3] = torch.tensor([49406, 320, 49407])
        return ids.repeat(4 if how.batch == "4" else 1, 1)
    x = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    x = x.repeat(4 if how.batch == "4" else 1, 1, 1, 1) * (255 if how.range == "0..255" else 1)
    return x.permute(0, 2, 3, 1).contiguous() if how.axes == "NHWC" else x


def onnx_file(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
    free = how.batch == "free"
    if tower == "joint":
        arguments: tuple[Tensor, ...] = (example("text", how), example("image", how))
        inputs = ["input_ids", "pixel_values"]
        outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
        axes = {"input_ids": {0: "texts"}, "pixel_values": {0: "images"}}
    else:
        arguments = (example(tower, how),)
        inputs, outputs = ["input_ids" if tower == "text" else "pixel_values"], [f"{tower}_embeds"]
        axes = {inputs[0]: {0: "batch"}, outputs[0]: {0: "batch"}}
    # The tracing exporter, which optimum and most recipes use.
    torch.onnx.export(
        module,
        arguments,
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes=axes if free or tower == "joint" else None,
    )


def onnx_dynamo(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
    shapes = ({0: torch.export.Dim("batch")},) if how.batch == "free" else None
    program = torch.onnx.export(module, (example(tower, how),), dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    program.save(str(path), external_data=False)


def derived(change: Callable[[Path, Path], None]) -> Callable[[nn.Module, str, Convention, Path], None]:
    """A kind that another tool makes of an ONNX file."""

    def make(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
        plain = path.with_suffix(".plain")
        onnx_file(module, tower, how, plain)
        try:
            change(plain, path)
        finally:
            plain.unlink()

    return make


def onnx_int8(plain: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(plain, path, weight_type=QuantType.QInt8)


def onnx_fp16(plain: Path, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=True), path)


def by_program(name: str) -> Callable[[Path, Path], None]:
    """A program of a venv of its own, on the PATH: `onnxslim` or `onnxsim`."""

    def change(plain: Path, path: Path) -> None:
        subprocess.run([name, str(plain), str(path)], check=True, capture_output=True)

    return change


def litert(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
    import litert_torch

    litert_torch.convert(module, (example(tower, how),)).export(str(path))


def coreml(convert_to: str) -> Callable[[nn.Module, str, Convention, Path], None]:
    def make(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
        import coremltools as ct
        import numpy as np

        example_input = example(tower, how)
        traced = torch.jit.trace(module, example_input)
        dtype = np.int32 if tower == "text" else np.float32
        options: dict[str, Any] = {"convert_to": convert_to}
        if convert_to == "mlprogram":
            options |= {"minimum_deployment_target": ct.target.iOS16, "compute_precision": ct.precision.FLOAT32}
        name = "input_ids" if tower == "text" else "pixel_values"
        inputs = [ct.TensorType(name=name, shape=tuple(example_input.shape), dtype=dtype)]
        ct.convert(traced, inputs=inputs, skip_model_load=True, **options).save(str(path))

    return make


def executorch(delegated: bool) -> Callable[[nn.Module, str, Convention, Path], None]:
    def make(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
        from executorch.exir import to_edge_transform_and_lower

        partitioner: list[Any] = []
        if delegated:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

            partitioner = [XnnpackPartitioner()]
        program = torch.export.export(module, (example(tower, how),))
        lowered = to_edge_transform_and_lower(program, partitioner=partitioner).to_executorch()
        path.write_bytes(lowered.buffer)

    return make


def coreai(module: nn.Module, tower: str, how: Convention, path: Path) -> None:
    import coreai_torch

    program = torch.export.export(module, (example(tower, how),))
    program = program.run_decompositions(coreai_torch.get_decomp_table())
    coreai_torch.TorchConverter().add_exported_program(program).to_coreai().save_asset(path)


@dataclass(frozen=True)
class Kind:
    suffix: str
    make: Callable[[nn.Module, str, Convention, Path], None]
    towers: tuple[str, ...] = ("image", "text")
    free_batch: bool = True
    ids: tuple[str, ...] = ("int64", "int32")


KINDS = {
    "onnx": Kind(".onnx", onnx_file),
    "joint": Kind(".onnx", onnx_file, towers=("joint",)),
    "onnx-dynamo": Kind(".onnx", onnx_dynamo),
    "onnx-int8": Kind(".onnx", derived(onnx_int8)),
    "onnx-fp16": Kind(".onnx", derived(onnx_fp16)),
    "onnx-slim": Kind(".onnx", derived(by_program("onnxslim"))),
    "onnx-sim": Kind(".onnx", derived(by_program("onnxsim"))),
    "litert": Kind(".tflite", litert, free_batch=False, ids=("int32",)),  # it cannot lower `argmax` of int64
    "coreml": Kind(".mlpackage", coreml("mlprogram"), free_batch=False, ids=("int32",)),
    "coreml-nn": Kind(".mlmodel", coreml("neuralnetwork"), free_batch=False, ids=("int32",)),
    "executorch": Kind(".pte", executorch(False), free_batch=False),
    "executorch-xnnpack": Kind(".pte", executorch(True), free_batch=False),
    "coreai": Kind(".aimodel", coreai, free_batch=False, ids=("int32",)),
}


BYTES = Convention(axes="NHWC", range="0..255", output="unit")


def image_conventions(free_batch: bool) -> list[Convention]:
    """The usual ones first, then all others."""
    first = [
        Convention(),
        BYTES,
        Convention(range="clip", output="unit", batch="free" if free_batch else "1"),
        Convention(range="imagenet", colours="BGR"),
        Convention(axes="NHWC", range="-1..1", output="scaled"),
    ]
    products = itertools.product(("NCHW", "NHWC"), RANGES, ("RGB", "BGR"), ("raw", "unit"))
    rest = [Convention(axes, span, colours, output=output) for axes, span, colours, output in products]  # type: ignore[arg-type]
    return list(dict.fromkeys([*first, *rest]))


def text_conventions(kind: Kind) -> list[Convention]:
    batches = ("1", "free") if kind.free_batch else ("1",)
    products = itertools.product(batches, kind.ids, ("raw", "unit", "scaled"))
    return [Convention(ids=ids, output=output, batch=batch) for batch, ids, output in products]  # type: ignore[arg-type]


def module_of(model: MobileCLIP, tower: str, how: Convention) -> nn.Module:
    kinds: dict[str, type[nn.Module]] = {"image": ImageFile, "text": TextFile, "joint": JointFile}
    return kinds[tower](model, how).eval()


def faults_of(tower: str) -> dict[str, tuple[str, Callable[[MobileCLIP], None]]]:
    """Fault -> tower, and the change."""
    towers = {"image": IMAGE, "text": TEXT}
    names = ("image", "text") if tower == "joint" else (tower,)
    faults = {f"{name}: {fault}": (name, change) for name in names for fault, change in towers[name].items()}
    for fault, outputs in JOINT.items() if tower == "joint" else ():
        name = "text" if fault.startswith("text") else "image"
        faults[f"{name}: {fault}"] = (name, lambda m, outputs=outputs: object.__setattr__(m, "outputs", outputs))
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--faults", type=int, default=1000, help="most faults of each tower of a kind")
    parser.add_argument("--only", default="", help="regular expression of the names of faults")
    parser.add_argument("--clean", type=int, default=4, help="most clean conventions of each tower of a kind")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    listing = chosen.out / "subjects.json"
    subjects = json.loads(listing.read_text()) if listing.exists() else []
    known = {subject["image"] or subject["text"] for subject in subjects}
    model, failed = load_model(), 0
    for name in chosen.kinds.split(","):
        kind = KINDS[name]
        for tower in kind.towers:
            every = text_conventions(kind) if tower == "text" else image_conventions(kind.free_batch)
            conventions = every[: chosen.clean]
            jobs: list[tuple[str | None, Convention]] = [(None, how) for how in conventions]
            faults = {name: each for name, each in faults_of(tower).items() if re.search(chosen.only, name)}
            names = list(faults)
            start = list(KINDS).index(name) * chosen.faults % max(1, len(names))  # other faults of each kind
            for index, fault in enumerate([*names[start:], *names[:start]][: chosen.faults]):
                # From values that are not normalised: else two mistakes make a right file.
                plain = tower != "text" and fault.endswith(("mean baked in", "divided by 255 twice"))
                jobs.append((fault, BYTES if plain else conventions[index % len(conventions)]))
                if fault.partition(": ")[2] in IMAGE_ROWS | TEXT_ROWS and kind.free_batch:
                    fixed = fault.endswith("empty") and tower != "joint"
                    how = Convention(batch="4" if fixed else "free")
                    jobs[-1:] = [(fault, how), *([] if (None, how) in jobs else [(None, how)])]
            for index, (fault, how) in enumerate(jobs):
                file = f"{name}-{tower}-{index:03}{kind.suffix}"
                if file in known:
                    continue
                changed = copy.deepcopy(model)
                try:
                    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
                        if fault is not None:
                            faults[fault][1](changed)
                        kind.make(module_of(changed, tower, how), tower, how, chosen.out / file)
                except ImportError as error:
                    print(f"{name}: left out, {error}")
                    break
                except Exception:
                    failed += 1
                    print(
                        f"{file} ({fault or 'clean'}, {how}): {traceback.format_exc(limit=-1).splitlines()[-1][:200]}"
                    )
                    continue
                subjects.append(
                    {
                        "image": file if tower != "text" else None,
                        "text": file if tower != "image" else None,
                        "kind": name,
                        "convention": asdict(how),
                        "fault": fault,
                    }
                )
                listing.write_text(json.dumps(subjects, indent=1) + "\n")
                print(f"{file}: {fault or 'clean'}", flush=True)
    print(f"{len(subjects)} subjects, {failed} not made")


if __name__ == "__main__":
    main()
