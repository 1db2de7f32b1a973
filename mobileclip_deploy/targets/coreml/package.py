"""Conversion of a tower to a Core ML ML program, with the same bytes for the same input.

Also joins both towers into one package with one function per tower: one file to ship, with shared constants stored
once.
"""

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileclip_deploy.base.files.staging import remove
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName, Variant
from mobileclip_deploy.targets.coreml.compression import compress_weights, quantize_activations
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.targets.values import TowerJob
from mobileclip_deploy.targets.vendor_internals.coremltools import (
    SPECIFICATION,
    import_coremltools,
    lean_passes,
    make_reproducible,
)


def write_package(job: TowerJob, path: Path, target: str, storage: Storage, input_name: str, output_name: str) -> None:
    """Converts a tower and writes the .mlpackage for a deployment target, such as "iOS16", with weights stored as
    `storage` says.

    Pixels are an image input (bytes scaled by 1/255 before the graph), ids are int32. The embedding is float32 at every
    precision, since apps read that type.

    Raises:
        ExportError: coremltools refused the tower, or the precision needs calibration inputs and has none.
    """
    precision = precision_of(job.precision)
    what = f"Core ML conversion of the {job.tower} tower"
    with conversion(what), torch.no_grad(), lean_passes(), ExitStack() as packages:
        model = _kept(packages, convert(job, target, input_name, output_name))
        if precision.calibrated:
            if job.calibration is None:
                raise ExportError(f"precision {job.precision} needs calibration inputs")
            model = _kept(packages, quantize_activations(model, job.calibration))
        if precision.kind != "float":
            model = _kept(packages, compress_weights(model, job.module, storage))
        _describe(model, job, input_name, output_name)
        model.save(str(path))
        make_reproducible(path)


def _kept(packages: ExitStack, model: Any) -> Any:
    """Returns the model, and deletes its temporary package when `packages` closes; coremltools keeps it until the
    process ends."""
    packages.callback(remove, Path(model.package_path))
    return model


def convert(job: TowerJob, target: str, input_name: str, output_name: str) -> Any:
    """Converts a tower to coremltools' MLModel, not loaded: float32 for fp32, float16 inside for every other precision.

    Args:
        target: the deployment target, such as "iOS16".
    """
    ct = import_coremltools()
    if job.tower == "image":
        source = ct.ImageType(name=input_name, shape=job.example.shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)
    else:
        shape = job.example.shape
        if job.form.contexts:  # enumerated, not a range: the Neural Engine compiles for each listed length
            shape = ct.EnumeratedShapes(shapes=[(1, length) for length in job.form.contexts], default=shape)
        source = ct.TensorType(name=input_name, shape=shape, dtype=np.int32)
    # With a ClassifierConfig the outputs are `classLabel` and `classLabel_probs`, which Vision expects.
    result: dict[str, Any] = {"outputs": [ct.TensorType(name=output_name, dtype=np.float32)]}
    if job.labels:
        result = {"classifier_config": ct.ClassifierConfig(list(job.labels), predicted_feature_name="classLabel")}
    return ct.convert(
        job.once("coreml", lambda: exported(job)),
        inputs=[source],
        **result,
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT32 if job.precision == "fp32" else ct.precision.FLOAT16,
        skip_model_load=True,
    )


def exported(job: TowerJob) -> torch.export.ExportedProgram:
    """Returns coremltools' input, the same for every precision and deployment target.

    It uses torch.export rather than a trace: with numpy 2.4 the trace frontend breaks (coremltools #2633).
    """
    example, free = job.example if job.tower == "image" else job.example.to(torch.int32), None
    if job.form.contexts:
        # Traced below the full length, since there a slice of the mask is the mask itself. The program is the same, and
        # coremltools takes the lengths from `convert`.
        shortest, longest = job.form.contexts[0], job.form.contexts[-1]
        example = example[:, :shortest].contiguous()
        free = ({1: torch.export.Dim("tokens", min=shortest, max=longest - 1)},)
    with _spelled_out(job.module):
        return torch.export.export(job.module, (example,), dynamic_shapes=free).run_decompositions({})


class _SpelledGELU(nn.GELU):
    """GELU by tanh in the form that coremltools fuses to one `gelu` of mode TANH_APPROXIMATION."""

    def forward(self, x: Tensor) -> Tensor:
        return (0.5 * x) * (torch.tanh((torch.pow(x, 3) * 0.044715 + x) * math.sqrt(2 / math.pi)) + 1)


@contextmanager
def _spelled_out(module: nn.Module) -> Iterator[None]:
    """Context manager in which a module writes GELU by tanh as separate operations: coremltools 9.0 ignores the form of
    torch.export's GELU, and writes the exact one."""
    gelus = [layer for layer in module.modules() if type(layer) is nn.GELU and layer.approximate == "tanh"]
    for gelu in gelus:
        gelu.__class__ = _SpelledGELU
    try:
        yield
    finally:
        for gelu in gelus:
            gelu.__class__ = nn.GELU


def _describe(model: Any, job: TowerJob, input_name: str, output_name: str) -> None:
    title, precision = job.variant.title, job.precision
    model.author = "converted by mobileclip-deploy"
    model.license = job.licence
    model.short_description = f"{title}, {job.tower} tower, {precision}: embedding of dimension {job.variant.embed_dim}"
    model.version = "1"
    if job.tower == "image":
        size = job.variant.preprocess.size
        model.input_description[input_name] = f"RGB image, {size} x {size}"
    else:
        tokenizer = job.variant.tokens
        lengths = " or ".join(map(str, job.form.contexts or (tokenizer.context_length,)))
        model.input_description[input_name] = f"{lengths} token ids: {tokenizer.described}"
    if job.labels:
        model.short_description = f"{title}, {precision}: classifier of {len(job.labels)} labels"
        model.output_description["classLabel"] = "the most probable label"
        model.output_description["classLabel_probs"] = "the probability of each label"
    else:
        length = "at length 1" if job.form.normalised else "not normalised"
        model.output_description[output_name] = f"embedding, {length}"
    model.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)


def join(towers: Mapping[TowerName, Path], path: Path, variant: Variant) -> None:
    """Writes one package whose functions have the towers' names, and deletes the packages that it was made from.

    Args:
        towers: package of each tower, for iOS18 or later. The first is the default function.
    """
    with conversion("Core ML package of both towers"):
        import_coremltools()
        from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
        from coremltools.proto import Model_pb2

        functions = MultiFunctionDescriptor()
        for tower, package in towers.items():
            functions.add_function(str(package), "main", tower)
        functions.default_function_name = next(iter(towers))
        save_multifunction(functions, str(path))
        # Author, licence and version come from the original packages: coremltools drops them.
        files = (package / SPECIFICATION for package in (path, next(iter(towers.values()))))
        model, first = (Model_pb2.Model.FromString(file.read_bytes()) for file in files)
        model.description.metadata.CopyFrom(first.description.metadata)
        model.description.metadata.shortDescription = (
            f"{variant.title}, both towers, a function each: embeddings of dimension {variant.embed_dim}"
        )
        (path / SPECIFICATION).write_bytes(model.SerializeToString())
        make_reproducible(path)
    for package in towers.values():
        shutil.rmtree(package)
