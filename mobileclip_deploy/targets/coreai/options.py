"""What a user may choose of Core AI, what others report of its precisions, and where and how fast it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.precision import precision_of
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import ComputeUnits, Pace, RuntimePlace

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName

# By itself, on the CPU alone, and with each kind of unit preferred: nothing tells where it ran, and some choices are
# reported to answer wrongly, so each is asked for the golden answers.
UNITS: tuple[ComputeUnits, ...] = ("default", "cpuOnly", "preferCPU", "preferGPU", "preferNeuralEngine")
PLACES = tuple(RuntimePlace("coreai", compute_units=unit) for unit in UNITS)


# Apple's runtime for Linux takes 10 times as long as torch in float32, and 100 to 400 times as long for products of
# float16 that it sums itself (docs/coreai.md). `seconds` are those of S0 on a busy Xeon, both towers together.
PACE = Pace(asked=((1e8, 16), (1e9, 8), (8e9, 4), (float("inf"), 2)), seconds={"float16": 4.0, "float32": 0.35})


@dataclass(frozen=True)
class CoreAIOptions(TargetOptions):
    """`multifunction` puts both towers into one asset, one function per tower. `image_entry`: the image tower takes a
    picture, 32-bit BGRA as a camera gives it, in place of float32 pixels."""

    multifunction: bool = option("--multifunction", "Both towers in one asset, a function each.", default=False)
    image_entry: bool = option(
        "--image-entry", "The image tower takes a picture (32-bit BGRA), not float32 pixels.", default=False
    )

    def require(self, precisions: Mapping[TowerName, str]) -> None:
        """Refuse to join one tower alone.

        Raises:
            UsageError: that is asked for.
        """
        if self.multifunction and len(precisions) == 1:
            (tower,) = precisions
            raise UsageError(
                f"`multifunction` puts both towers into one asset; leave it out for the {tower} tower alone"
            )


def reported(precisions: Mapping[TowerName, str]) -> str | None:
    """What others report of these precisions on devices, which nothing here can see; None for those without reports."""
    blocks = [name for tower, name in precisions.items() if _has_blocks(tower, name)]
    if not blocks:
        return None
    return (
        f"{' and '.join(dict.fromkeys(blocks))}: integers with a scale a block are reported to answer wrongly on the "
        "Neural Engine of iOS 27, there of 8 bits (coreai-models 279); run the bundle's golden answers on a device "
        "before you ship it."
    )


def _has_blocks(tower: TowerName, precision: str) -> bool:
    found = precision_of(precision)
    table = found.table or found.rest
    return found.rest in ("w4", "mixed") or (tower == "text" and table in ("w4", "w4p"))
