"""`OnnxArtifact`: an opened ONNX file, as stored, as a graph independent of names, order and encoding, and for
running."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import InvalidInput, first_sentence, readable_reason, reraising
from mobileclip_deploy.targets.artifact import Artifact, counted
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.graph import Graph
from mobileclip_deploy.targets.onnx.runner import APPLIED, OnnxRunner, OnnxSession
from mobileclip_deploy.targets.onnx.stored import TABLE
from mobileclip_deploy.targets.quantized import QuantizedFile
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    import onnx


class OnnxArtifact(Artifact):
    """A .onnx file. Data in other files is not read. It runs without the package onnx, which reads it."""

    weight_table = TABLE

    @property
    def file(self) -> Path:
        """Path of the .onnx file itself."""
        return self.path

    @cached_property
    def model(self) -> onnx.ModelProto:
        """Protobuf message of the file; must not be changed."""
        import onnx
        from google.protobuf.message import DecodeError

        with reraising(f"{self.file} is not a readable ONNX file", OSError, DecodeError):
            model = onnx.load(self.file, load_external_data=False)
        if not model.graph.node:  # an empty file parses as a message, too
            raise InvalidInput(f"{self.file} is not a readable ONNX file: it has no operations")
        return model

    @cached_property
    def _ports(self) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        from mobileclip_deploy.targets.onnx.reading import ports_of

        return ports_of(self.model.graph)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self._ports[0]

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self._ports[1]

    @property
    def operators(self) -> dict[str, int]:
        return dict(Counter(node.op_type for node in self.model.graph.node))

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        import onnx

        type_name = onnx.TensorProto.DataType.Name
        items = self.model.graph.initializer
        return counted(self.operators, ((type_name(item.data_type).lower(), len(item.raw_data)) for item in items))

    @property
    def applied(self) -> str | None:
        return next((entry.value for entry in self.model.metadata_props if entry.key == APPLIED), None)

    @cached_property
    def graph(self) -> Graph:
        """Graph of the file. Settings are attributes; omitted ones have the default of the operator's definition.

        Elements in other files and sparse ones, which no conversion writes, are refused.
        """
        import onnx

        from mobileclip_deploy.targets.onnx.reading import graph_of

        model = self.model
        try:
            onnx.checker.check_model(str(self.file))  # ambiguous names, operations before their inputs
            return graph_of(model)
        except onnx.checker.ValidationError as error:
            raise InvalidInput(f"{self.file} is rejected by onnx's checker: {first_sentence(error)}") from error
        except (ValueError, TypeError) as error:  # a name that is not valid text is not a str
            raise InvalidInput(f"{self.file} is not a valid ONNX model: {readable_reason(error)}") from error

    def runner(self) -> Runner:
        return OnnxRunner(self.file)

    def lazy_runner(self) -> Runner:
        return OnnxRunner(self.file, lazily=True)

    def plain_runner(self) -> Runner:
        from mobileclip_deploy.targets.onnx.quantized import plain_model

        return OnnxRunner(self.file, plain_model(self).SerializeToString(), as_written=True)

    def quantized(self) -> QuantizedFile:
        from mobileclip_deploy.targets.onnx.quantized import QuantizedOnnx

        return QuantizedOnnx(self)

    def session(self, setup: SessionSetup) -> Session:
        return OnnxSession(self.path, setup)

    def copied(self) -> onnx.ModelProto:
        """Returns a copy of the file's message that may be changed."""
        return copy.deepcopy(self.model)
