"""Interface of a driver, which runs jobs on one kind of device. A new kind is one file or folder."""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import REASON, DependencyMissing, NotRun, UsageError, reraising, suggestion
from mobileclip_deploy.targets import found_places, get_target, targets
from mobileclip_deploy.targets.values import RuntimePlace

DRIVERS: dict[str, str] = {
    "host": "mobileclip_deploy.benchmark.host.driver:HostDriver",
    "android": "mobileclip_deploy.benchmark.android.driver:AndroidDriver",
    "ios": "mobileclip_deploy.benchmark.ios.driver:IosDriver",
    "mac": "mobileclip_deploy.benchmark.ios.mac:MacDriver",
    "browser": "mobileclip_deploy.benchmark.browser.driver:BrowserDriver",
    "ddp": "mobileclip_deploy.benchmark.ddp.driver:DdpDriver",
}
"""Device kind -> `module:class`, imported on demand."""
ENGINES = {("qnn-net-run", "android"): "mobileclip_deploy.benchmark.android.netrun:NetRunDriver"}
"""A vendor's program that runs models instead of this project's programs, and its device kind -> `module:class`."""


@dataclass(frozen=True)
class Listing:
    """A device within reach. `remedy`: an action that makes the device usable; None if it is ready."""

    device: str
    name: str
    state: str
    remedy: str | None = None


class RoundCounter:
    """Progress of rounds, with the remaining time estimated from this process's rounds so far."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self._progress = total, progress
        self._started, self._first = time.monotonic(), -1

    def tell(self, done: int, what: str) -> None:
        """Reports the next step.

        Args:
            done: number of finished rounds, including those of an interrupted run.
        """
        self._first = done if self._first < 0 else self._first
        left = ""
        if done > self._first:
            seconds = (time.monotonic() - self._started) / (done - self._first) * (self.total - done)
            left = f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} minutes left"
        self._progress(f"{done} of {self.total} rounds{left}: {what}")


class Driver(ABC):
    """One device kind. `selector` is the part of `device` after the colon, `KIND:SELECTOR`; None if there is no
    colon."""

    kind: ClassVar[str]
    devices: ClassVar[str]
    """Name of its devices in a sentence, as in `coreml does not run on Android phones`."""
    only: ClassVar[str | None] = None
    """Name of the device, for kinds with exactly one device; None for the others."""
    runs_checkpoints: ClassVar[bool] = False
    """True if it can time the checkpoint itself, in torch."""
    takes_pictures: ClassVar[bool] = False
    """True if it feeds image towers that take pictures of any size: one picture, without a batch."""
    places_of: ClassVar[str | None] = None
    """Kind of device whose places it has, as in `Target.places`; None for its own."""
    takes_runners: ClassVar[bool] = False
    """True if programs are pushed to its devices."""
    announce: Callable[[str], None] = staticmethod(lambda _: None)
    """Gets a line that a user should see before a run, such as what it may cost."""
    team: str | None = None
    """Apple developer team that signs an app for the device; None if no app is signed."""
    runners: Path | None = None
    """Archive or folder of the programs that are pushed to the device and measure there; None for the default."""
    runtime_versions: Mapping[str, str] = MappingProxyType({})
    """Versions of runtimes that the user chose, for runtimes that the programs do not contain."""

    def __init__(self, selector: str | None = None) -> None:
        if self.only is not None and selector is not None:
            only = f"there is only one {self.only}; write `device='{self.kind}'`"
            raise UsageError(f"`device='{self.kind}:{selector}'`: {only}")
        self.selector = selector

    @abstractmethod
    def discover(self) -> tuple[Listing, ...]:
        """Returns the devices of this kind within reach; those that are not ready have a remedy."""

    def places(self, target: str, options: dict[str, str]) -> tuple[RuntimePlace, ...]:
        """Returns the places on this device where a bundle's artifacts run.

        Args:
            target: the manifest's.
            options: the manifest's.

        Raises:
            NotRun: there is no place, or the target is unknown here; the message has the reason.
        """
        with reraising(REASON, UsageError, DependencyMissing, into=NotRun):
            usable = get_target(target).places(self.places_of or self.kind, options)
        if not usable:
            kind = self.places_of or self.kind
            others = [name for name, other in targets().items() if kind != "host" and found_places(other, kind, {})]
            raise NotRun(f"{target} does not run on {self.devices}: export {' or '.join(others) or 'another target'}")
        return usable

    def _named_places(
        self, target: str, options: dict[str, str], variable: str, named: Collection[str]
    ) -> tuple[RuntimePlace, ...]:
        """Returns the first place of a target, and those of the others that an environment variable names.

        Raises:
            UsageError: a name belongs to no target.
            NotRun: see `places`.
        """
        kind = self.places_of or self.kind
        valid = {place.label for each in targets().values() for place in found_places(each, kind, {})}
        for label in named:
            if label not in valid:
                raise UsageError(
                    f"{variable}={label} is not available on {self.devices}; known: {', '.join(sorted(valid))}"
                )
        first, *others = Driver.places(self, target, options)
        return (first, *(place for place in others if place.label in named))

    def each(self) -> tuple[Driver, ...]:
        """Returns a driver for each device that the selector names.

        Raises:
            UsageError: a device is unknown.
            RuntimeFailed: the devices are out of reach.
        """
        return (self,)

    def start(self, plan: Plan, progress: Progress) -> None:
        """Starts a run on a device that works by itself, so that others can start before `run` waits for it."""
        return

    def write_job(self, plan: Plan, into: Path, progress: Progress) -> Path:
        """Writes `into`/<run_id>, a job with real files, to be started on the device by hand.

        Raises:
            UsageError: devices of this kind take no such jobs.
        """
        raise UsageError(
            f"{self.kind} devices are measured by `benchmark` itself; `job` is for device='ios' and 'android'"
        )

    @abstractmethod
    def run(self, plan: Plan, progress: Progress) -> Run:
        """Runs the turns of a plan that are not in its stream yet.

        Returns:
            Every finished round, with device and environment.

        Raises:
            RuntimeFailed: the device was lost or cannot be used; finished rounds are in the stream.
        """


def get_driver(
    device: str,
    team: str | None = None,
    runners: Path | None = None,
    engine: str | None = None,
    runtime_versions: Mapping[str, str] | None = None,
) -> Driver:
    """Returns the driver of `host`, `android`, `android:SERIAL`, ..., with its `team`, `runners` and
    `runtime_versions`.

    Args:
        engine: a vendor's program (`ENGINES`) that runs the models instead of this project's programs.

    Raises:
        UsageError: the kind is unknown (the message lists the known ones), or `runners`, `runtime_versions` or `engine`
            do not apply to the device.
    """
    kind, colon, selector = device.partition(":")
    kind = kind.lower()
    if kind not in DRIVERS:
        raise UsageError(f"unknown device {device!r}{suggestion(kind, DRIVERS)}; known: {', '.join(DRIVERS)}")
    if colon and not selector:
        raise UsageError(f"`device='{device}'`: name the device after the colon, as `devices` lists it")
    if engine is not None and (engine, kind) not in ENGINES:
        engines = ", ".join(f"{name} for `device='{owner}'`" for name, owner in ENGINES)
        raise UsageError(f"`engine='{engine}'` does not run on {kind} devices; known: {engines}")
    driver = _load(ENGINES[engine, kind] if engine is not None else DRIVERS[kind])(selector or None)
    if runners is not None and not driver.takes_runners:
        raise UsageError(f"`runners` are for Android phones, but `device` is {device}; leave `runners` out")
    if runtime_versions and (not driver.takes_runners or engine is not None):
        raise UsageError("`runtime_versions` are for the ready runners of Android phones; leave them out")
    driver.team, driver.runners, driver.runtime_versions = team, runners, dict(runtime_versions or {})
    return driver


def devices() -> tuple[Listing, ...]:
    """Returns every device within reach, and an entry for each kind without one. Those that are not ready have a
    remedy.

    Returns:
        Values of `device` for `benchmark`, with a name and a state.

    Raises:
        UsageError: an environment variable of the Android driver is not valid.
    """
    return tuple(listing for kind in DRIVERS for listing in _load(DRIVERS[kind])().discover())


def _load(place: str) -> type[Driver]:
    module, _, name = place.partition(":")
    driver: type[Driver] = getattr(importlib.import_module(module), name)
    return driver
