"""The interface of a driver: one device kind that a job can be run on. A new kind is one file or folder."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import UsageError, suggestion

__all__ = ["DRIVERS", "ComputeUnits", "Driver", "Listing", "Place", "Plan", "Progress", "drivers", "get_driver"]

Runtime = Literal["onnxruntime", "executorch", "coreml", "torch"]
ComputeUnits = Literal["cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all"]

DRIVERS: dict[str, str] = {
    "host": "mobileclip_deploy.benchmark.host.driver:HostDriver",
    "android": "mobileclip_deploy.benchmark.android.driver:AndroidDriver",
    "ios": "mobileclip_deploy.benchmark.ios.driver:IosDriver",
    "mac": "mobileclip_deploy.benchmark.ios.mac:MacDriver",
}
"""Device kind -> `module:class`, imported when it is asked for."""

Progress = Callable[[int, int, str], None]
"""Told the finished turns, all turns, and what comes next."""


@dataclass(frozen=True)
class Listing:
    """A device that was found. `remedy`: what to do before it can be used; None when it is ready."""

    device: str
    name: str
    state: str
    remedy: str | None = None


@dataclass(frozen=True)
class Place:
    """A runtime, and where in it a file runs. `options` go to the runtime."""

    runtime: Runtime
    backend: str | None = None
    compute_units: ComputeUnits | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """`onnxruntime-cpu`"""
        return "-".join(part for part in (self.runtime, self.backend, self.compute_units) if part)


@dataclass(frozen=True)
class Plan:
    """A folder with everything that the job names, some of it as links; `profile` asks for operator times as well.

    The folder keeps the stream of finished rounds too, so that an interrupted run goes on from it.
    """

    folder: Path
    job: Job
    profile: bool = False

    @property
    def stream(self) -> Path:
        """Where finished rounds go, one a line."""
        return self.folder / f"{self.job.run_id}.rounds.jsonl"


class Driver(ABC):
    """One device kind. `selector` is what stands behind the colon of `--device KIND:SELECTOR`, if anything does."""

    kind: ClassVar[str]
    team: str | None = None
    """The Apple developer team that signs an app for the device, where one is needed."""

    def __init__(self, selector: str | None = None) -> None:
        self.selector = selector

    @abstractmethod
    def discover(self) -> tuple[Listing, ...]:
        """The devices of this kind within reach; those that are not ready say what to do."""

    @abstractmethod
    def places(self, target: str, options: dict[str, str]) -> tuple[Place, ...]:
        """Where a bundle's artifacts run on this device.

        Args:
            target: the manifest's.
            options: the manifest's.

        Raises:
            NotRun: nowhere; the text says why.
        """

    @abstractmethod
    def run(self, plan: Plan, progress: Progress) -> Result:
        """Run the turns of a plan that its stream does not hold yet, and put the result together.

        Raises:
            RuntimeFailed: the device was lost or cannot be used; what was finished is in the stream.
        """


def get_driver(device: str) -> Driver:
    """`host`, `android`, `android:SERIAL`, ... -> its driver.

    Raises:
        UsageError: unknown kind; the text lists the known ones.
    """
    kind, colon, selector = device.partition(":")
    if kind not in DRIVERS:
        raise UsageError(f"unknown device {device!r}{suggestion(kind, DRIVERS)}; known: {', '.join(DRIVERS)}")
    if colon and not selector:
        raise UsageError(f"--device {device}: name the device behind the colon, as `devices` lists it")
    return _class(kind)(selector or None)


def drivers() -> tuple[Driver, ...]:
    """A driver for every kind."""
    return tuple(_class(kind)() for kind in DRIVERS)


def _class(kind: str) -> type[Driver]:
    module, _, name = DRIVERS[kind].partition(":")
    found: type[Driver] = getattr(importlib.import_module(module), name)
    return found
