"""The interface of a driver: one device kind that a job can be run on. A new kind is one file or folder."""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import WHY, DependencyMissing, NotRun, UsageError, refusing, suggestion
from mobileclip_deploy.targets import found_places, get_target, targets
from mobileclip_deploy.targets.values import RuntimePlace

DRIVERS: dict[str, str] = {
    "host": "mobileclip_deploy.benchmark.host.driver:HostDriver",
    "android": "mobileclip_deploy.benchmark.android.driver:AndroidDriver",
    "ios": "mobileclip_deploy.benchmark.ios.driver:IosDriver",
    "mac": "mobileclip_deploy.benchmark.ios.mac:MacDriver",
    "browser": "mobileclip_deploy.benchmark.browser.driver:BrowserDriver",
}
"""Device kind -> `module:class`, imported when it is asked for."""
ENGINES = {("qnn-net-run", "android"): "mobileclip_deploy.benchmark.android.netrun:NetRunDriver"}
"""A vendor's program that runs models in the place of ours, and the device kind that has it -> `module:class`."""


@dataclass(frozen=True)
class Listing:
    """A device that was found. `remedy`: what to do before it can be used; None when it is ready."""

    device: str
    name: str
    state: str
    remedy: str | None = None


class RoundCounter:
    """Tells how many rounds are done, and how long the others take by what those of this process took so far."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self._progress = total, progress
        self._started, self._first = time.monotonic(), -1

    def tell(self, done: int, what: str) -> None:
        """Say what comes next.

        Args:
            done: finished rounds, those of an interrupted run included.
        """
        self._first = done if self._first < 0 else self._first
        left = ""
        if done > self._first:
            seconds = (time.monotonic() - self._started) / (done - self._first) * (self.total - done)
            left = f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} minutes left"
        self._progress(f"{done} of {self.total} rounds{left}: {what}")


class Driver(ABC):
    """One device kind. `selector` is what stands behind the colon of `device`, KIND:SELECTOR`, if anything does."""

    kind: ClassVar[str]
    devices: ClassVar[str]
    """What a sentence calls its devices, as in `coreml does not run on Android phones`."""
    only: ClassVar[str | None] = None
    """What there is one of, where there is but one of its devices."""
    runs_checkpoints: ClassVar[bool] = False
    """Whether it can time the checkpoint itself, in torch."""
    takes_pictures: ClassVar[bool] = False
    """Whether it feeds image towers that take pictures of any size: one without a batch."""
    team: str | None = None
    """The Apple developer team that signs an app for the device, where one is needed."""
    runners: Path | None = None
    """The archive or the folder of the programs that measure on the device, where they are pushed there."""
    runtime_versions: Mapping[str, str] = MappingProxyType({})
    """Versions of runtimes that the user chose, where the programs do not bring them."""

    def __init__(self, selector: str | None = None) -> None:
        if self.only is not None and selector is not None:
            only = f"there is one {self.only}; write `device='{self.kind}'`"
            raise UsageError(f"`device='{self.kind}:{selector}'`: {only}")
        self.selector = selector

    @abstractmethod
    def discover(self) -> tuple[Listing, ...]:
        """The devices of this kind within reach; those that are not ready say what to do."""

    def places(self, target: str, options: dict[str, str]) -> tuple[RuntimePlace, ...]:
        """Where a bundle's artifacts run on this device.

        Args:
            target: the manifest's.
            options: the manifest's.

        Raises:
            NotRun: nowhere, or the target is not known here; the text says why.
        """
        with refusing(WHY, UsageError, DependencyMissing, into=NotRun):
            found = get_target(target).places(self.kind, options)
        if not found:
            others = [
                name for name, one in targets().items() if self.kind != "host" and found_places(one, self.kind, {})
            ]
            raise NotRun(f"{target} does not run on {self.devices}: export {' or '.join(others) or 'another target'}")
        return found

    def _named_places(
        self, target: str, options: dict[str, str], variable: str, named: Collection[str]
    ) -> tuple[RuntimePlace, ...]:
        """The first of a target's places, and of the others those that an environment variable names.

        Raises:
            UsageError: one that it names is nobody's.
            NotRun: see `places`.
        """
        known = {place.label for one in targets().values() for place in found_places(one, self.kind, {})}
        for label in named:
            if label not in known:
                raise UsageError(f"{variable}={label} is no place on {self.devices}; known: {', '.join(sorted(known))}")
        first, *others = Driver.places(self, target, options)
        return (first, *(place for place in others if place.label in named))

    def write_job(self, plan: Plan, into: Path, progress: Progress) -> Path:
        """Write `into`/<run_id>, a job with real files, for who starts it on the device by hand.

        Raises:
            UsageError: devices of this kind take none.
        """
        raise UsageError(
            f"{self.kind} devices are measured by `benchmark` itself; `job` is for device='ios' and 'android'"
        )

    @abstractmethod
    def run(self, plan: Plan, progress: Progress) -> Run:
        """Run the turns of a plan that its stream does not hold yet.

        Returns:
            Every finished round, and what they were measured on.

        Raises:
            RuntimeFailed: the device was lost or cannot be used; what was finished is in the stream.
        """


def get_driver(
    device: str,
    team: str | None = None,
    runners: Path | None = None,
    engine: str | None = None,
    runtime_versions: Mapping[str, str] | None = None,
) -> Driver:
    """`host`, `android`, `android:SERIAL`, ... -> its driver, with its `team`, `runners` and `runtime_versions`.

    Args:
        engine: of `ENGINES`, what runs the models in the place of our own programs.

    Raises:
        UsageError: unknown kind; the text lists the known ones. Or `runners`, `runtime_versions` or `engine` for a
            device that takes none.
    """
    kind, colon, selector = device.partition(":")
    kind = kind.lower()
    if kind not in DRIVERS:
        raise UsageError(f"unknown device {device!r}{suggestion(kind, DRIVERS)}; known: {', '.join(DRIVERS)}")
    if colon and not selector:
        raise UsageError(f"`device='{device}'`: name the device behind the colon, as `devices` lists it")
    if engine is not None and (engine, kind) not in ENGINES:
        known = ", ".join(f"{name} for `device='{one}'`" for name, one in ENGINES)
        raise UsageError(f"`engine='{engine}'` is none of {kind} devices; known: {known}")
    driver = _load(ENGINES[engine, kind] if engine is not None else DRIVERS[kind])(selector or None)
    if runners is not None and kind != "android":
        raise UsageError(f"`runners` are for Android phones, and `device` is {device}; leave `runners` out")
    if runtime_versions and (kind != "android" or engine is not None):
        raise UsageError("`runtime_versions` are of the ready runners for Android phones; leave them out")
    driver.team, driver.runners, driver.runtime_versions = team, runners, dict(runtime_versions or {})
    return driver


def devices() -> tuple[Listing, ...]:
    """Every device within reach, and every kind of which there is none; those that are not ready say what to do.

    Returns:
        What `benchmark` takes as `device`, with a name and a state.

    Raises:
        UsageError: an environment variable of the Android driver makes no sense.
    """
    return tuple(listing for kind in DRIVERS for listing in _load(DRIVERS[kind])().discover())


def _load(place: str) -> type[Driver]:
    module, _, name = place.partition(":")
    found: type[Driver] = getattr(importlib.import_module(module), name)
    return found
