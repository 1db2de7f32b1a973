"""What `verify` says of an edited file where no conversion is compared: as of a bundle that other versions wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from conversions import Store
from tiny import WORDS, known
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.verify.chain import step_of
from mobileclip_deploy.verify.checks.activations import check_activations
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.ranges import check_ranges
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.checks.structure import check_structure
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.subject import OpenedSubject

CHECKS = (check_structure, check_shipped, check_weights, check_graph, check_activations, check_ranges)
"""All that need neither a converter nor the versions that wrote a bundle, but for those of claims and companions."""


@dataclass(frozen=True)
class Unconverted:
    """A bundle of one tower that passes."""

    own: OpenedSubject
    tower: TowerName

    @property
    def target(self) -> str:
        return self.own.bundle.manifest.target

    @property
    def path(self) -> Path:
        return self.own.bundle.artifact(self.tower)

    def judged(self, write: Callable[[Path], object], folder: Path) -> str:
        """What becomes of a file that `write` writes.

        Returns:
            The first check that fails; "refused" where a writer, a reader or a runtime does not take the file; "equal"
            where its answers are so to the bit; else "other answers that pass".
        """
        planted = replace(self.own, bundle=Bundle(folder, self.own.bundle.manifest))
        try:
            write(planted.bundle.artifact(self.tower))
        except RuntimeError:  # Apple's verifier, which leaves no such file
            return "refused"
        try:
            for check in CHECKS:
                if check is check_activations and not self._calibrated:
                    continue
                if check is check_ranges and not planted.towers[self.tower].locations:
                    continue
                if any(one.status == "failed" for one in check(planted.towers[self.tower])):
                    return step_of(check)
            return "equal" if np.array_equal(self.asked(planted), self.asked(self.own)) else "other answers that pass"
        except (InvalidInput, RuntimeFailed):
            return "refused"

    def asked(self, own: OpenedSubject) -> np.ndarray[Any, Any]:
        """Answers to two inputs, one by one and together."""
        inputs = own.evidence.reference.inputs.of(self.tower)[:2]
        runner = own.artifact(self.tower).runner()
        return np.concatenate([runner(inputs[:1]), runner(inputs[1:]), runner(inputs)])

    @property
    def _calibrated(self) -> bool:
        return precision_of(self.own.bundle.manifest.towers[self.tower].precision).calibrated


@contextmanager
def unconverted(target: str, tower: TowerName, precision: str, folder: Path, store: Store) -> Iterator[Unconverted]:
    """A small network's tower, written and not verified."""
    torch.set_num_threads(1)
    with known(folder) as checkpoint, store.conversions(), asked_least(target):
        model = mcd.load_model(WORDS, checkpoint)
        bundle = mcd.export(model, target, precision, folder / "out", tower=tower, verify=False)
        reference = Reference.compute(model, Reference.read(bundle.golden).inputs)
        yield Unconverted(subject(bundle, model, reference, folder), tower)


@contextmanager
def asked_least(target: str) -> Iterator[None]:
    """Ask of every tower what the table of inputs has for the largest ones, where a runtime is slow."""
    own = get_target(target)
    kind, pace = type(own), own.capabilities.places.slow_runtime
    if pace is None:
        yield
        return
    places = replace(own.capabilities.places, slow_runtime=replace(pace, asked=pace.asked[-1:]))
    with mock.patch.object(kind, "capabilities", replace(own.capabilities, places=places)):
        yield
