"""The layers that keep 8 bits where others have fewer: all that a tower computes goes through them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import nn

from mobileclip_deploy.model.provenance import weight_sha256

__all__ = ["is_on_main_path", "main_path_weights"]


def is_on_main_path(name: str) -> bool:
    """Whether a layer of a tower, by its name in torch, is in no residual branch: stem, downsampling, projection.

    What a branch adds is small beside what passes it by, and so is the noise of its weights. Of what rounding to 4 bits
    does to nano's image tower nine tenths came from its three downsamplings and its projection, a tenth of it. The
    table of words, which is on the main path too, is too large to keep.
    """
    return name == "projection" or name.startswith("stem.") or ".downsample.1." in name


def main_path_weights(module: nn.Module) -> frozenset[str]:
    """`provenance.weight_sha256` of the weights of these layers, as they are and transposed (as the converter writes
    some of them).

    Args:
        module: what is exported of a folded model, which calls its tower `encoder`.
    """
    return frozenset(weight_sha256(form) for weight in _weights(module) for form in (weight, weight.T))


def _weights(module: nn.Module) -> Iterator[npt.NDArray[np.generic]]:
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and is_on_main_path(name.rpartition("encoder.")[2]):
            yield layer.weight.detach().numpy()
