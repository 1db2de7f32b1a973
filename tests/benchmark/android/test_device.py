"""What is read from a phone's own words."""

import pytest
from benchmark.android.standin import BATTERY, PROPERTIES, THERMAL

from mobileclip_deploy.benchmark.android.device import (
    Thermal,
    battery_counter,
    fast_cores,
    is_simulated,
    parse_battery,
    parse_thermal,
    wait_until_cool,
)
from mobileclip_deploy.errors import RuntimeFailed

PHONE = PROPERTIES | {"ro.hardware": "tensor"}


def test_a_phone_is_never_called_simulated_and_linux_and_an_emulator_always() -> None:
    assert not is_simulated(PHONE, has_bionic=True)
    assert not is_simulated(PHONE | {"ro.kernel.qemu": "0"}, has_bionic=True)
    assert not is_simulated({}, has_bionic=True)
    assert is_simulated(PHONE, has_bionic=False)
    assert is_simulated(PHONE | {"ro.mobileclip.simulated": "0"}, has_bionic=False)
    for name, value in (
        ("ro.kernel.qemu", "1"),
        ("ro.boot.qemu", "1"),
        ("ro.hardware", "ranchu"),
        ("ro.hardware", "goldfish_arm64"),
        ("ro.mobileclip.simulated", "1"),
    ):
        assert is_simulated(PHONE | {name: value}, has_bionic=True), name


@pytest.mark.parametrize(
    ("status", "state"), [(0, "nominal"), (1, "fair"), (2, "fair"), (3, "serious"), (4, "critical"), (6, "critical")]
)
def test_the_thermal_state_is_the_services(status: int, state: str) -> None:
    assert parse_thermal(THERMAL.format(status=status)).state == state


def test_temperatures_are_of_the_hardwares_list_and_without_the_service_there_are_none() -> None:
    assert parse_thermal(THERMAL.format(status=0)) == Thermal("nominal", 36.5)
    without_skin = THERMAL.format(status=0).replace("mType=3", "mType=9")
    assert parse_thermal(without_skin).celsius == 41.5
    cached_only = THERMAL.format(status=0).partition("HAL Ready")[0]
    assert parse_thermal(cached_only).celsius is None
    assert parse_thermal("Can't find service: thermalservice\n") == Thermal(None, None)


def test_the_battery_is_told_in_percent_and_degrees() -> None:
    assert parse_battery(BATTERY) == (83.0, 29.7, True)
    assert parse_battery(BATTERY.replace("status: 2", "status: 5"))[2] is False
    assert parse_battery("") == (None, None, None)
    assert [battery_counter(BATTERY, name) for name in ("Charge counter", "voltage", "level")] == [3_120_000, 4123, 83]
    assert battery_counter(BATTERY.replace("3120000", "0"), "Charge counter") is None


def test_the_cores_are_of_one_kind_and_as_many_as_there_are_threads() -> None:
    tensor = dict.fromkeys(range(4), 1_700_000) | dict.fromkeys((4, 5, 6), 2_370_000) | {7: 2_910_000}
    assert fast_cores(tensor, 1) == (7,)
    assert fast_cores(tensor, 2) == (5, 6)
    assert fast_cores(tensor, 3) == (4, 5, 6)
    assert fast_cores(tensor, 4) == (0, 1, 2, 3)
    assert fast_cores(tensor, 5) == ()
    assert fast_cores(dict.fromkeys(range(8), 2_000_000), 1) == ()
    assert fast_cores({}, 1) == ()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_a_hot_phone_is_waited_for_and_one_that_stays_hot_is_not_measured() -> None:
    clock, told = Clock(), list[str]()
    states = iter([Thermal("serious", 44.0), Thermal("fair", 39.0), Thermal("nominal", 35.0)])
    wait_until_cool(lambda: next(states), 600, told.append, now=clock.now, sleep=clock.sleep)
    assert len(told) == 2
    assert told[0] == "waiting for the phone to cool: thermal state serious, 44 °C, at most 600 s more"
    clock = Clock()
    with pytest.raises(
        RuntimeFailed, match=r"still hot after 600 s \(thermal state critical\): take it off the charger"
    ):
        wait_until_cool(lambda: Thermal("critical", None), 600, lambda _: None, now=clock.now, sleep=clock.sleep)
    assert clock.seconds == 600


@pytest.mark.parametrize("state", ["fair", None])
def test_a_phone_that_stays_warm_or_says_nothing_is_measured(state: str | None) -> None:
    clock = Clock()
    found = Thermal(state, None)  # type: ignore[arg-type]
    wait_until_cool(lambda: found, 600, lambda _: None, now=clock.now, sleep=clock.sleep)
    assert clock.seconds in (0, 600)
