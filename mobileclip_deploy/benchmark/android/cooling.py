"""The thermal gate: no measurement starts on a phone that is hot."""

from __future__ import annotations

import time
from collections.abc import Callable

from mobileclip_deploy.benchmark.android.device import Thermal
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.progress import Progress

PAUSE_SECONDS = 10.0


def wait_until_cool(
    read: Callable[[], Thermal],
    limit: float,
    progress: Progress,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the thermal state is nominal, at most `limit` seconds.

    A phone that stays `fair` is measured all the same: the state is in the result. One without a thermal service too.

    Raises:
        RuntimeFailed: it is still serious or critical.
    """
    end = now() + limit
    while True:
        found = read()
        if found.state in (None, "nominal"):
            return
        degrees = "" if found.celsius is None else f", {found.celsius:.0f} °C"
        left = end - now()
        if left <= 0:
            if found.state == "fair":
                return
            raise RuntimeFailed(
                f"the phone is still hot after {limit:.0f} s (thermal state {found.state}{degrees}): take it off the "
                "charger and out of its case, let it cool, and run again"
            )
        progress(f"waiting for the phone to cool: thermal state {found.state}{degrees}, at most {left:.0f} s more")
        sleep(min(PAUSE_SECONDS, left))
