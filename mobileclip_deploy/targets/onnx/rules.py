"""Storage rules of the ONNX target."""

from dataclasses import replace

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules

# The scale of a block is searched for, and a negative one mirrors the range.
FOUR = Grid(4, "integers", block=32, low=-8, high=7, scale_bytes=4)

RULES = StorageRules(
    eight=integers(8, scale_bytes=4),
    four=Shared(FOUR),
    # Most of a text tower's noise at 4 bits comes from the table. Its scales can be float16 (those of products cannot),
    # so blocks of half the length cost no bytes.
    words=Shared(replace(FOUR, scale_bytes=2), (16,)),
    # ONNX Runtime has 4-bit products and look-ups, no 4-bit convolutions. The projection would cost nano's text tower
    # 3 dB of its 21.
    coarse=lambda layer, tower, _: layer.is_table or (layer.is_product(tower) and not layer.is_projection),
)
