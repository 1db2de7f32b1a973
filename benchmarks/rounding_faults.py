"""The table of docs/proof.md of faults in learned rounding: in what share of outputs each is told.

    python benchmarks/rounding_faults.py learned/ [--write]

nano in ONNX at `w8` and `w4`, by GPTQ and tuned on its calibration set. Bundles that are in the folder are taken, the
others are learned there. A fault is planted in every output of every layer whose rounding was learned, the recorded
hash is taken as repaired, and each output is judged for itself: that a whole layer has drifted to one side, which one
output cannot tell, is not counted. `--write`: into benchmarks/results/rounding_faults.json and the page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from measuring import ROOT, Figures, markdown

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.rounding.layer_answers import layer_answers, steps
from mobileclip_deploy.rounding.verified import DRIFTED, Choice, tower_to_round, unlike_outputs
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.storage import stored_in_half
from mobileclip_deploy.verify.matching import Matched, matched_weights
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject

KEPT = Figures("rounding_faults", "proof.md")
CALIBRATION = ROOT / "models" / "nano" / "calibration"
LEARNED = {
    f"{title}, {bits} bits": (method, f"w{bits}")
    for method, title in (("gptq", "GPTQ"), ("tuned", "tuned"))
    for bits in (8, 4)
}
# What no input reaches counts apart: a table of words, whose scales are tuned alone.
WORDS = "words"
NONE = "no blocks"

Plant = Callable[[Matched, Grid], "Matched | None"]
"""A learned weight with a fault in every output; None where it has no place for it."""
Shares = dict[str, dict[str, list[int]]]
"""By fault, of the outputs of each tower and of its table of words: in how many it is told, of how many."""


def main() -> None:
    """Measure every share, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Shares] = {}
    for title, (method, precision) in LEARNED.items():
        began = time.process_time()
        bundle = learned(given.folder, method, precision)
        between = time.process_time()
        result[title] = shares(bundle)
        done = time.process_time()
        print(f"{title}: {between - began:.0f} s to learn, {done - between:.0f} s to judge, of CPU time", flush=True)
    print(table(result))
    if given.write:
        KEPT.write(result)
        KEPT.show(table(result))


def learned(folder: Path, method: str, precision: str) -> Bundle:
    """nano's bundle, learned where it is not there yet."""
    place = folder / method / f"nano-onnx-{precision}"
    if place.exists():
        return Bundle.open(place)
    asked: dict[str, Any] = {"rounding": method, "calibration": CALIBRATION, "verify": False}
    return mcd.export(mcd.load_model(), "onnx", precision, place.parent, **asked)


def shares(bundle: Bundle) -> Shares:
    """What is told of each fault in a bundle.

    Raises:
        AssertionError: an output without a fault is refused.
    """
    source = Source.of(mcd.load_model()).folded()
    reference = Reference.read(bundle.golden)
    found: Shares = {name: {part: [0, 0] for part in (*TOWERS, WORDS)} for name in FAULTS}
    with TemporaryDirectory() as folder:
        subject = OpenedSubject(bundle, Evidence(reference), Gates(), Path(folder), source=source)
        for tower in bundle.manifest.towers:
            for name, plant in FAULTS.items():
                for part, told in judged(subject, tower, plant):
                    found[name][part][0] += int(told.sum())
                    found[name][part][1] += len(told)
    assert not any(told for told, _ in found[NOTHING].values()), found[NOTHING]
    return found


def judged(subject: OpenedSubject, tower: TowerName, plant: Plant) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Whether each output of each layer tells of a fault, and in which part of the table it counts."""
    rounding = subject.bundle.manifest.rounding
    assert subject.source is not None
    assert rounding is not None
    grids, method = subject.grids(tower), rounding.towers[tower].method
    stored = subject.artifact(tower).weights
    assert stored is not None
    matches, _ = matched_weights(subject.module(tower), stored)
    own = [match for match in matches if match.layer in subject.chosen(tower)]
    planted = [one for match in own if (one := plant(match, grids[match.layer])) is not None]
    module = tower_to_round(subject.source, tower, subject.target)
    answers = layer_answers(module, planted, grids, torch.from_numpy(subject.evidence.reference.inputs.of(tower)))
    for match in planted:
        told = np.zeros(len(match.wanted), bool)
        choice = Choice(grids[match.layer], "", method, stored_in_half(grids))
        for words, outputs in unlike_outputs(match, choice, answers.get(match.layer)):
            if words != DRIFTED:
                told[outputs] = True
        yield tower if match.layer in answers else WORDS, told


def with_values(match: Matched, values: npt.NDArray[np.float32]) -> Matched:
    return replace(match, stored=replace(match.stored, values=values))


def nothing(match: Matched, _: Grid) -> Matched:
    return match


def stepped(choose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Plant:
    """Numbers moved by the step above or below, or by one of them each."""

    def plant(match: Matched, grid: Grid) -> Matched:
        stored = torch.from_numpy(match.stored.values.copy())
        return with_values(match, (stored + choose(*steps(stored, grid))).numpy())

    return plant


def by_chance(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.rand(above.shape, generator=torch.Generator().manual_seed(0)) < 0.5, above, below)


def scaled(share: float, block: bool = False) -> Plant:
    """Another scale, of every block or of the second one: the grid is scaled with it."""

    def plant(match: Matched, grid: Grid) -> Matched | None:
        shares = np.ones((1, match.wanted.shape[1], *[1] * (match.wanted.ndim - 2)), np.float32)
        if not block:
            shares[:] = share
        elif grid.block and match.wanted.shape[1] > grid.block:
            shares[:, grid.block : 2 * grid.block] = share
        else:
            return None
        stored = match.stored
        moved = replace(
            stored,
            values=stored.values * shares,
            nearest=lambda wanted: stored.nearest((wanted / shares).astype(np.float32)) * shares,
        )
        return replace(match, stored=moved)

    return plant


NOTHING = "nothing"
FAULTS: dict[str, Plant] = {
    NOTHING: nothing,
    "all integers one step up": stepped(lambda above, _: above),
    "all integers one step down": stepped(lambda _, below: below),
    "each integer a step up or down, by chance": stepped(by_chance),
    "the scale 30% larger": scaled(1.3),
    "the scale 30% smaller": scaled(0.7),
    "the scale 10% larger": scaled(1.1),
    "the scale 10% smaller": scaled(0.9),
    "the scale 3% larger": scaled(1.03),
    "the scale 3% smaller": scaled(0.97),
    "a block's scale 30% larger": scaled(1.3, block=True),
    "a block's scale 30% smaller": scaled(0.7, block=True),
    "a block's scale 10% larger": scaled(1.1, block=True),
    "a block's scale 10% smaller": scaled(0.9, block=True),
    "numbers of the next output": lambda match, _: with_values(match, np.roll(match.stored.values, 1, axis=0)),
    "signs flipped": lambda match, _: with_values(match, -match.stored.values),
}


def table(told: Mapping[str, Shares]) -> str:
    """One row per fault: image and text of each method and precision; words of the tuned ones."""
    cells: dict[str, list[tuple[str, str]]] = {title: [(title, part) for part in TOWERS] for title in told}
    cells |= {f"words, {title}": [(title, WORDS)] for title in told if told[title][NOTHING][WORDS][1]}
    lines = []
    rows = {"outputs, image; text": [[f"{told[one][NOTHING][part][1]:,}" for one, part in c] for c in cells.values()]}
    rows |= {name: [[shown(*told[one][name][part]) for one, part in c] for c in cells.values()] for name in FAULTS}
    for name, row in rows.items():
        texts = (dict.fromkeys(cell) if NONE in cell else cell for cell in row)
        lines.append([name, *("; ".join(text) for text in texts)])
    return "\n".join(markdown(("planted", *(f">{title}" for title in cells)), lines))


def shown(told: int, outputs: int) -> str:
    """A share of outputs in percent, in which all and none are all and none."""
    if told in (0, outputs):
        return ("100%" if told else "0%") if outputs else NONE
    share = 100 * told / outputs
    if not 0.1 <= share <= 99.9:
        return "< 0.1%" if share < 1 else "> 99.9%"
    return f"{share:.1f}%" if share < 1 or share > 99 else f"{share:.0f}%"


if __name__ == "__main__":
    main()
