"""Whether what a .tflite computes fits into float16, in which a GPU computes: values, and the sums that means take.

A mean over a map adds up as many values as the map has pixels before it divides: on a phone's GPU the mean of a
squeeze-and-excite block was seen to overflow so (google-ai-edge/litert-samples, issue 222).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.litert.gpu import layer_name
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact
from mobileclip_deploy.targets.litert.static import computed_values
from mobileclip_deploy.targets.placement import Extreme

__all__ = ["extremes"]


def extremes(artifact: LiteRTArtifact, inputs: npt.NDArray[np.generic]) -> tuple[Extreme, Extreme | None]:
    """The largest value that a file computes in float32 over all inputs, and the largest sum behind a mean of it.

    A sum is that of the values without their signs, so that it bounds every order of adding up; None where there is no
    mean.

    Raises:
        InvalidInput: the file is damaged.
    """
    model = artifact.model
    means = [one for one in model.operators if one.type == "MEAN"]
    values, sums = [], []
    for computed in computed_values(artifact.path.read_bytes(), model, inputs):
        for place, value in computed.items():
            values.append((float(np.abs(value).max()), layer_name(model.tensors[place].name)))
        for mean in means:
            source, axes = computed.get(mean.inputs[0]), model.tensors[mean.inputs[1]].values
            if source is not None and axes is not None:
                sums.append((_sum(source, axes), layer_name(model.tensors[mean.outputs[0]].name)))
    return Extreme(*max(values)), Extreme(*max(sums)) if sums else None


def _sum(values: npt.NDArray[np.float32], axes: npt.NDArray[Any]) -> float:
    return float(np.abs(values).sum(axis=tuple(int(axis) for axis in axes.reshape(-1)), dtype=np.float64).max())
