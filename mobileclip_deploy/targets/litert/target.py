"""The LiteRT target: names, input and output; conversion is in `authoring`, running in `runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.base import Target
from mobileclip_deploy.targets.values import Runner, TensorInfo, TowerJob

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from mobileclip_deploy.mil.lint import LintReport
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.litert.model_file import ModelFile
    from mobileclip_deploy.targets.placement import Compiled
    from mobileclip_deploy.targets.rounded import RoundedFile
    from mobileclip_deploy.targets.storage import Storage

__all__ = ["LiteRTTarget"]


class LiteRTTarget(Target):
    name = "litert"
    title = "LiteRT"
    no_contexts = "litert-torch 0.10.0 cannot convert a text tower whose second dimension is free"
    no_pictures = "its resizing has no antialiasing, and its converter takes no picture of a free height and width"
    packages = ("ai_edge_litert",)
    converters = ("litert_torch",)
    proven: ClassVar[Mapping[str, str]] = {
        "ai-edge-litert": "2.3.0",
        "litert-torch": "0.10.0",
        "litert-converter": "0.5.0",
    }
    extra = "litert-run"
    converter_extra = "litert"
    suffixes = (".tflite",)
    order = 5
    runtime_modules = ("ai_edge_litert.interpreter",)
    runtime_packages: ClassVar[Mapping[str, str]] = {"litert": "ai_edge_litert"}
    foreign_suffix = ".tflite"
    compiled_places = ("gpu",)
    refused_options: ClassVar[Mapping[str, str]] = {
        "dynamic_batch": "litert-torch 0.10.0 cannot convert a text tower whose first dimension is free; leave it out, "
        "and embed prompts one by one"
    }
    precisions = ("fp32", "fp16", "w8", "w8a8", "w4")
    mixes = recoverable = absorbs_layer_scales = absorbs_norms = True

    def storage(
        self, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
    ) -> Storage:
        from mobileclip_deploy.targets.litert.storage import storage

        return storage(module, precision, four_bit)

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.tflite"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo("image", "float32", (1, *variant.image_input_shape), (0.0, 1.0), "RGB")
        return TensorInfo("text", "int32", (1, variant.tokens.context_length))

    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        if labels:
            return TensorInfo("probabilities", "float32", (1, labels))
        return TensorInfo("embedding", "float32", (1, *variant.answer_shape), normalised=False)

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.litert.authoring import write_model

        storage = self.storage(job.tower, job.module, job.precision, job.four_bit)
        write_model(job, path, storage, *self.port_names(job))
        return ()

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        model = self._model(path)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            counts = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
            raise InvalidInput(f"{path}: {counts} instead of one each")
        source, result = (
            TensorInfo(name, model.tensors[place].dtype, model.tensors[place].free_shape)
            for ports in (model.inputs, model.outputs)
            for name, place in ports.items()
        )
        return source, result

    def operators(self, path: Path) -> dict[str, int]:
        counts: dict[str, int] = {}
        for operator in self._model(path).operators:
            counts[operator.type] = counts.get(operator.type, 0) + 1
        return counts

    def contents(self, path: Path) -> dict[str, dict[str, int]]:
        """`operators` by type, and `weight_bytes` by type of number."""
        stored: dict[str, int] = {}
        for tensor in self._model(path).tensors:
            if tensor.values is not None:
                stored[tensor.dtype] = stored.get(tensor.dtype, 0) + tensor.bytes
        ranked = dict(sorted(stored.items(), key=lambda item: (-item[1], item[0])))
        return {"operators": dict(sorted(self.operators(path).items())), "weight_bytes": ranked}

    @staticmethod
    def _model(path: Path) -> ModelFile:
        from mobileclip_deploy.targets.litert.model_file import read_model

        return read_model(path)

    def graph(self, path: Path) -> Graph:
        from mobileclip_deploy.targets.litert.reading import read_graph

        return read_graph(path)

    def weights(self, path: Path) -> tuple[StoredWeight, ...]:
        from mobileclip_deploy.targets.litert.weights import read_weights

        return read_weights(path)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.litert.runner import LiteRTRunner

        return LiteRTRunner(path)

    def plain_runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.litert.plain import plain_model
        from mobileclip_deploy.targets.litert.runner import LiteRTRunner

        return LiteRTRunner(path, plain_model(path), ", float32 with the stored weights")

    def rounded(self, path: Path) -> RoundedFile:
        from mobileclip_deploy.targets.litert.roundings import RoundedLiteRT

        return RoundedLiteRT(path)

    def compiled(self, path: Path, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        from mobileclip_deploy.targets.litert.gpu import compile_for_gpu
        from mobileclip_deploy.targets.litert.halves import extremes

        self.require_place(place)
        found = compile_for_gpu(path, inputs)
        if inputs is None:
            return found
        largest, largest_sum = extremes(path, inputs)
        return replace(found, largest=largest, largest_sum=largest_sum)

    def lint(self, path: Path, device: str) -> tuple[LintReport, ...]:
        from mobileclip_deploy.targets.litert.linting import lint_model

        self.require_place(device.lower())
        return (lint_model(path, device.lower()),)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.litert.benchmarking import places

        return places(device)

    def session(self, path: Path, setup: SessionSetup) -> Session:
        from mobileclip_deploy.targets.litert.benchmarking import LiteRTSession

        return LiteRTSession(path, setup)

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        from mobileclip_deploy.targets.litert.benchmarking import declared

        return declared(path)
