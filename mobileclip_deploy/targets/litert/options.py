"""What may be chosen of LiteRT."""

from __future__ import annotations

from dataclasses import dataclass

from mobileclip_deploy.targets.options import TargetOptions, option

__all__ = ["LiteRTOptions"]


@dataclass(frozen=True)
class LiteRTOptions(TargetOptions):
    """What may be chosen of LiteRT."""

    nhwc_bytes: bool = option(
        "--nhwc-bytes",
        "The image tower takes a bitmap's bytes, uint8 [1, S, S, 3], in the place of floats [1, 3, S, S].",
        default=False,
    )
