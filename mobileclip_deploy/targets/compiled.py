"""What a compiler made of an artifact for one place, such as a GPU: what stays on the CPU, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Left:
    """An operation that stays on the CPU, and what the compiler says of it; nothing where it gives no reason."""

    type: str
    name: str
    reason: str


@dataclass(frozen=True)
class Extreme:
    """The largest of some numbers, without its sign, and the layer that gave it."""

    value: float
    name: str


@dataclass(frozen=True)
class LayerNoise:
    """How near the value behind a layer is to float32 with the same weights, as signal-to-noise ratios in dB:
    `compiled` as the place computes it, `interpreted` as a runtime on the CPU computes the same file."""

    layer: str
    compiled: float
    interpreted: float


@dataclass(frozen=True)
class Compiled:
    """An artifact compiled for one place.

    `engine`: what compiled it, with its version, and for which device. `operations`: how many the artifact has, `left`:
    those that stay on the CPU. `refusal`: why nothing of it runs there, a driver that died among the reasons; None
    where something does. `answers`: to as many of the inputs as there was time for, [N, D]; None where there are none,
    and `silence` says why. `largest`: of all values that the artifact computes on the inputs, and `largest_sum`: of
    those that a mean adds up; None where they were not measured.
    """

    engine: str
    operations: int
    left: tuple[Left, ...] = ()
    refusal: str | None = None
    answers: npt.NDArray[np.float32] | None = None
    silence: str | None = None
    largest: Extreme | None = None
    largest_sum: Extreme | None = None
