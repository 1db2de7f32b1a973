"""What a round's cores say against its figures."""

from __future__ import annotations

import pytest

from mobileclip_deploy.benchmark.judgement import marked
from mobileclip_deploy.benchmark.result import CoreUse, RoundResult

LITTLE, BIG = 1_800_000, 2_900_000


def core(number: int, maximum: int = BIG, *, allowed: int | None = None, running: int | None = None) -> CoreUse:
    return CoreUse(
        core=number,
        inferences=30,
        running_khz=running or allowed or maximum,
        allowed_khz=allowed or maximum,
        maximum_khz=maximum,
    )


@pytest.mark.parametrize(
    ("cores", "pinned", "said"),
    [
        ((core(6), core(7)), (6, 7), ()),
        ((CoreUse(core=7, inferences=30),), (), ()),  # an emulator tells no clocks
        ((core(0, LITTLE), core(7)), (), ("mixed cores: ran on 2 kinds, of 1.8 GHz and 2.9 GHz",)),
        ((core(3, LITTLE),), (7,), ("not pinned: ran on core 3, and should have on 7",)),
        ((core(7, allowed=2_000_000),), (7,), ("throttled: core 7 was allowed 2.0 GHz of 2.9 GHz",)),
        ((core(7, running=1_400_000),), (7,), ("slow clock: core 7 ran at 1.4 GHz of 2.9 GHz",)),
    ],
)
def test_a_round_on_other_cores_or_clocks_than_the_best_is_marked(
    cores: tuple[CoreUse, ...], pinned: tuple[int, ...], said: tuple[str, ...]
) -> None:
    finished = RoundResult(run_id="r", cell="c", round=0, status="done", samples_ns=(1,), cores=cores)
    found = marked(finished, pinned)
    assert found.warnings == said
    assert marked(found, pinned) == found
