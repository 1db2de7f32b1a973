"""How a Core AI program stores weights: as Core ML's packages for iOS 18 do, but for 4-bit integers and the table of
words."""

from __future__ import annotations

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules

GROUPS = (32, 16, 8)
# The scale of a block is searched for; what it cuts off at the lower end reaches one step further.
FOUR = Grid(4, "integers", low=-8, high=7, scale_bytes=2, positive=True)
RULES = StorageRules(
    eight=integers(8, scale_bytes=2),
    four=Shared(FOUR, GROUPS),
    table=Shared(Grid(4, "table"), GROUPS),
    # The table's noise is what a text tower at 4 bits has most of: nano's has a worst case of 20.0 dB at w4p with these
    # blocks; with one palette per 32 rows it had 17.5, and failed its gate.
    words=Shared(FOUR, (16, 8)),
    rest_bits=16,
    labels=True,
)
