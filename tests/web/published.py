"""Bundles that `publish` uploaded to a hub on loopback, for the tests of `publish` and of the clients."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from hub_server import TOKEN, HubServer
from huggingface_hub import constants


@dataclass(frozen=True)
class Published:
    """A bundle as Python downloads it from a hub, and the lock of its upload."""

    bundle: Path
    lock: Path


@contextmanager
def local_hub(folder: Path) -> Iterator[HubServer]:
    """Runs a hub that this process publishes to and downloads from; `folder` is its cache and the working folder."""
    server = HubServer()
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.url)
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the older of its two protocols
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        patch.chdir(folder)
        try:
            yield server
        finally:
            server.close()


def add_task_check(bundle: Path) -> None:
    """Adds the figures of a data set, which the bundle of a checkpoint without one lacks."""
    measurements = json.loads((bundle / "parity.json").read_text(encoding="utf-8"))
    lost = {"points": 0.05, "error": 0.3, "lost": 3, "won": 2, "examples": 72, "looks": 1}
    task = {"step": "task", "tower": "both", "status": "passed", "engine": "an engine", "figures": {"top1": 68.184}}
    measurements["checks"].append(task | {"losses": {"top1": lost}})
    (bundle / "parity.json").write_text(json.dumps(measurements), encoding="utf-8")


def publish(*arguments: object) -> Any:
    outcome = run("publish", *map(str, arguments), "--json")
    assert outcome.code == 0, outcome.stderr
    return outcome.json
