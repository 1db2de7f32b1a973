"""Options of the target for Qualcomm's NPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.qnn.chips import BY_NAME, Chip, chips_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.values import Precisions


@dataclass(frozen=True)
class QnnOptions(TargetOptions):
    """Options of the target for Qualcomm's NPU.

    Attributes:
        chip: chips to compile for, by code or phone, separated by commas; None for one of each architecture of 2023 to
            2025.
        float_layers: layers that stay in float16 among integers, by tower and name, or the start of their names.
        allow_cpu: True to leave operations that an NPU does not support to the CPU; otherwise they are refused.
    """

    chip: str | None = option(
        "--chip",
        "Chips, phones or Hexagon versions to compile for, such as sm8650, galaxy-s23. [default: v73, v75, v79]",
        metavar="C[,C...]",
        names=BY_NAME,
    )
    float_layers: str | None = option(
        "--float-layers",
        "Layers to keep in float16: image. or text., then a name that `compare` by layer prints.",
        metavar="L[,L...]",
    )
    allow_cpu: bool = option("--allow-cpu", "Run operations on the CPU that the NPU does not support.", default=False)

    @property
    def chips(self) -> tuple[Chip, ...]:
        """Chips to compile for: see `chips_of`."""
        return chips_of(self.chip)

    @property
    def kept(self) -> tuple[str, ...]:
        """Layers that stay in float16."""
        return () if self.float_layers is None else tuple(name.strip() for name in self.float_layers.split(","))

    def keeps(self, tower: TowerName, parameter: str) -> bool:
        """Returns whether a layer stays in float16, by the name of its weight."""
        return any(f"{tower}.{parameter}.".startswith(f"{name}.") for name in self.kept)

    def require(self, precisions: Precisions) -> None:
        """Refuses an unknown chip, and float layers in a tower of floats.

        Raises:
            UsageError: the text says what is allowed.
        """
        _ = self.chips
        for name in self.kept:
            tower = next((tower for tower in precisions if name.startswith(f"{tower}.")), None)
            if tower is None:
                raise UsageError(f"`float_layers` {name!r} does not begin with a tower: {', '.join(precisions)}")
            if precision_of(precisions[tower]).kind == "float":
                example = ",".join(f"{each}={'w8a16' if each == tower else kind}" for each, kind in precisions.items())
                raise UsageError(
                    f"`float_layers` {name!r}: all of the {tower} tower is in float16; leave it out, or give that "
                    f"tower integers (`precision='{example}'`)"
                )

    def require_layers(self, known: Callable[[], Mapping[TowerName, Collection[str]]]) -> None:
        for name in self.kept:
            names = [f"{tower}.{weight}" for tower, weights in known().items() for weight in weights]
            if not any(f"{full_name}.".startswith(f"{name}.") for full_name in names):
                prefixes = {".".join(full_name.split(".")[: name.count(".") + 1]) for full_name in names}
                raise UsageError(f"`float_layers`: unknown layer {name!r}{suggestion(name, sorted(prefixes))}")
