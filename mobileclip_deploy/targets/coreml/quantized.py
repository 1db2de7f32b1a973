"""What an ML program quantizes by `quantize`, followed in our evaluator, in float32 between the quantized values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, worded
from mobileclip_deploy.targets.coreml.runner import feeds
from mobileclip_deploy.targets.graph import Node
from mobileclip_deploy.targets.quantized import Floats, Pair, QuantizedFile, quantized_values

if TYPE_CHECKING:
    from mobileclip_deploy.mil import Program
    from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact


def _limits(node: Node) -> tuple[int, int]:
    ends = np.iinfo(node.settings["result"].partition("[")[0])
    return int(ends.min), int(ends.max)


PAIR = Pair(
    quantize=("quantize", "input", "scale", "zero_point"),
    dequantize=("dequantize", "input", "scale", "zero_point"),
    shapes=("reshape", "transpose", "squeeze", "expand_dims", "cast", "identity"),
    limits=_limits,
    sums=("add", "sub"),
    tolerance=2**-9,  # of steps in float16: a rounding each, and one of their quotient
)


class QuantizedProgram(QuantizedFile):
    """A package with `quantize` operations.

    Raises:
        InvalidInput: it is damaged, or quantizes by what does not stand in it, or by one scale per channel.
    """

    def __init__(self, artifact: CoreMLArtifact) -> None:
        self._quantized, self._plain = artifact.program.prepared(), artifact.unquantized
        try:
            self.values = tuple(quantized_values(artifact.graph, PAIR))
        except (KeyError, ValueError) as error:
            raise InvalidInput(f"{artifact.path}: what it quantizes cannot be read: {worded(error)}") from error
        self.bias_steps: Mapping[str, Floats] = {}
        self.engine = "mobileclip_deploy.mil (float32 arithmetic; not Core ML)"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        return {name: one.astype(np.float32) for name, one in _computed(self._plain, row, self.followed).items()}

    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        result = self._quantized.outputs[-1].name
        found = _computed(self._quantized, row, [result, *(value.name for value in self.values)])
        return found[result].astype(np.float32), found


def _computed(program: Program, row: npt.NDArray[np.generic], names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    (fed,) = feeds(program, row)
    steps = program.trace(fed, names=frozenset(names))
    return {name: np.asarray(value) for step in steps for name, value in step.values.items()}
