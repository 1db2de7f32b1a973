"""How a Core ML package stores weights."""

from __future__ import annotations

from dataclasses import replace

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules

GROUPS = (32, 16, 8)
RULES = StorageRules(
    eight=integers(8, scale_bytes=2),
    four=Shared(integers(4, scale_bytes=2), GROUPS),
    table=Shared(Grid(4, "table"), GROUPS),
    rest_bits=16,
    labels=True,
)
# One table a weight, and a scale has a zero point.
BEFORE_IOS18 = replace(RULES, eight=integers(8, scale_bytes=3), table=Shared(Grid(4, "table")))
