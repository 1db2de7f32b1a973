"""What an ONNX file rounds by QuantizeLinear, followed as the file says it: in float32, by no kernel for integers.

Those kernels are what `shipped` is about: which there are depends on the processor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.onnx.plain import plain_model
from mobileclip_deploy.targets.onnx.reading import load
from mobileclip_deploy.targets.onnx.runner import OnnxRunner
from mobileclip_deploy.targets.rounded import Floats, Flow, RoundedFile, RoundedValue

__all__ = ["RoundedOnnx"]

# They change no number.
SHAPES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast")


class RoundedOnnx(RoundedFile):
    """A file with QuantizeLinear nodes.

    Raises:
        InvalidInput: it is damaged, or rounds by what does not stand in it.
        RuntimeFailed: ONNX Runtime does not take it.
    """

    def __init__(self, path: Path) -> None:
        model = load(path)
        try:
            reader = _Reader(model)
            self.values, self.bias_steps = tuple(reader.values()), dict(reader.bias_steps())
        except (KeyError, ValueError, IndexError) as error:
            raise InvalidInput(f"{path}: its roundings cannot be read: {error}") from error
        self._names = sorted({name for value in self.values for name in (value.source, *value.takers)})
        plain = plain_model(path)
        given, results = ({port.name for port in ports} for ports in (plain.graph.input, plain.graph.output))
        self._given = given & {*self._names}
        _give(plain, dict.fromkeys((name for name in self._names if name not in given | results), TensorProto.FLOAT))
        self._plain = OnnxRunner(path, plain.SerializeToString(), as_written=True)
        _give(model, reader.kinds)
        self._rounded = OnnxRunner(path, model.SerializeToString(), as_written=True)
        self.engine = f"{self._rounded.engine}, as it is written"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        found = self._plain.values(row)
        return {name: np.asarray(row if name in self._given else found[name], np.float32) for name in self._names}

    def rounded(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        found = self._rounded.values(row)
        answer = next(iter(found.values()))
        return answer.astype(np.float32), found


def _give(model: onnx.ModelProto, kinds: Mapping[str, int]) -> None:
    """Have the model give values that it computes as well, of these types."""
    for name, kind in kinds.items():
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))


class _Reader:
    """What a model says of its roundings.

    Its methods raise KeyError, ValueError or IndexError for what no export writes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t
        self._results = frozenset(port.name for port in model.graph.output)
        self._rounding = {node.output[0]: node for node in self._nodes if node.op_type == "QuantizeLinear"}

    @property
    def kinds(self) -> dict[str, int]:
        """The type of what QuantizeLinear gives: that of its zero point."""
        return {name: self._tensors[node.input[2]].data_type for name, node in self._rounding.items()}

    def values(self) -> Iterator[RoundedValue]:
        """What is rounded, an entry each time that it is restored."""
        flow, restoring = Flow(self._results), dict[str, list[onnx.NodeProto]]()
        for node in self._nodes:
            if node.op_type == "DequantizeLinear" and node.input[0] in self._rounding:
                restoring.setdefault(node.input[0], []).append(node)
            elif node.op_type in SHAPES:
                flow.reshape(node.input[0], node.output[0])
            elif node.op_type != "QuantizeLinear":
                flow.compute(node.input, self._result(node))
        for name, backs in restoring.items():
            source, *grid = self._rounding[name].input
            scale, zero = (self._numbers(given) for given in grid)
            ends = np.iinfo(zero.dtype)
            for back in backs:
                if [self._numbers(given) for given in back.input[1:]] != [scale, zero]:
                    raise ValueError(f"{source} is not restored by what it was rounded by")
                takers = flow.taking(source, back.output[0], alone=len(backs) == 1)
                step = float(scale.item())
                yield RoundedValue(name, source, takers, step, int(zero.item()), int(ends.min), int(ends.max), step)

    def bias_steps(self) -> Iterator[tuple[str, Floats]]:
        """The scales of biases that are restored from integers, by the name of their layer's integers."""
        restored = {node.output[0]: node for node in self._nodes if node.op_type == "DequantizeLinear"}
        for node in self._nodes:
            if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and {*node.input[1:3]} <= restored.keys():
                weight, bias = (restored[given] for given in node.input[1:3])
                yield weight.input[0], self._numbers(bias.input[1]).astype(np.float32)

    def _numbers(self, name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(self._tensors[name])

    def _result(self, node: onnx.NodeProto) -> str:
        """What an operation computes; of a product whose bias is added behind it, that sum: in torch they are one."""
        result = str(node.output[0])
        users = [user for user in self._nodes if result in user.input] if node.op_type == "MatMul" else []
        if len(users) == 1 and users[0].op_type == "Add" and any(name in self._tensors for name in users[0].input):
            return str(users[0].output[0])
        return result
