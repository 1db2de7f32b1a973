"""Result of a verification: checks that passed, failed or could not run, with their figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel

from mobileclip_deploy.base.escaping import in_markdown, markdown_row, shown
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.errors import readable_reason
from mobileclip_deploy.parity.gates import SCALE, Bound, passes
from mobileclip_deploy.parity.metrics import Deviation, compare

Status = Literal["passed", "failed", "undecided", "not run"]


class Lost(BaseModel, frozen=True):
    """Loss of an artifact in one figure, in points, with half of its 95% interval (`error`).

    `lost` and `won` count the hits that changed, in `looks` views of each of `examples`.
    """

    points: float
    error: float
    lost: int
    won: int
    examples: int
    looks: int


class Check(BaseModel, frozen=True):
    """One check of one tower.

    `step` is one of:

    - `structure`: names, types, shapes, bytes
    - `settings`: the clients' description of inputs
    - `folded`, `tower`, `twin`: stages of the semantic step
    - `authored`, `embedding`, `prepared`, `converted`, `lowered`: ExecuTorch's stages, each against the one before it
    - `files`: those that a library reads, against the manifest's
    - `companions`: files next to the artifacts
    - `golden`: the stored inputs and reference
    - `joint`: the file of both towers, against theirs and the checkpoint
    - `relevance`: background pictures and threshold of "nothing found"
    - `shipped`: the artifact as written; one check for each engine here
    - `contexts`: the same for prompts at a shorter length of ids; one check for each length
    - `weights`: those in the file, against the checkpoint's
    - `graph`: the artifact against torch with those weights
    - `activations`: the same with activations rounded by the steps in the file
    - `ranges`: these steps against the ranges of the checkpoint's values
    - `fit`: axes of smaller embeddings against a new fit
    - `cut`: the loss of a search by these axes
    - `reproduced`: the artifact against a new conversion
    - `gpu`, `gpu range`, `gpu answers`: operators that the GPU compiler leaves on the CPU, whether the rest fits into
      float16, and the results
    - `task`: accuracy in percent, and its drop in points (`figures`)
    - `sampled`: the same on some of the images
    - `baseline`: today's figures against those last accepted

    For `task`, `losses` has the loss of each figure, over all views, and `divergence` that of retrieval, in nats.
    `left_out`: not run because the user did not request it. `seconds`: duration. None if not measured.
    """

    step: Name
    tower: Name
    status: Status
    engine: Name | None = None
    gate: Name | None = None
    deviation: Deviation | None = None
    figures: dict[Name, float] | None = None
    losses: dict[Name, Lost] | None = None
    divergence: float | None = None
    detail: Prose | None = None
    left_out: bool = False
    seconds: float | None = None

    @property
    def views(self) -> dict[str, tuple[int, int]]:
        """Number of examples of each loss, and of the views of each."""
        return {name: (lost.examples, lost.looks) for name, lost in (self.losses or {}).items()}

    @classmethod
    def measured(cls, step: str, tower: str, deviation: Deviation, bound: Bound, engine: str) -> Check:
        """Makes a check that compares a deviation with its bound."""
        return cls(
            step=step,
            tower=tower,
            status="passed" if passes(deviation, bound) else "failed",
            engine=engine,
            gate=str(bound),
            deviation=deviation,
        )

    @classmethod
    def of_answers(cls, step: str, tower: str, wanted: Floats, found: Floats, bound: Bound, engine: str) -> Check:
        """Makes a check that compares outputs [N, D] with the expected ones; outputs of another shape fail."""
        if bound.metric == "probabilities" and found.shape == wanted.shape:
            difference = float(np.abs(found - wanted).max())
            agreement = 100 * float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
            return cls(
                step=step,
                tower=tower,
                status="passed" if difference <= bound.value else "failed",  # anything that is not a number is not
                engine=engine,
                gate=f"probabilities within {bound.value:g}",
                # JSON has no word for infinity, and no probability is off by more than 1.
                figures={
                    "largest_difference": min(np.nan_to_num(difference, nan=1.0), 1.0),
                    "top1_agreement": agreement,
                },
            )
        try:
            deviation = compare(wanted, found)
        except ValueError as error:
            return cls(step=step, tower=tower, status="failed", engine=engine, detail=readable_reason(error))
        return cls.measured(step, tower, deviation, bound, engine)

    @classmethod
    def failed(cls, step: str, tower: str, detail: str, engine: str | None = None) -> Check:
        """Makes a check that failed for a reason."""
        return cls(step=step, tower=tower, status="failed", engine=engine, detail=detail)

    @classmethod
    def of_fault(cls, step: str, tower: str, fault: str | None, sound: str) -> Check:
        """Makes a check that failed with a fault, or passed with the text `sound` if there is none."""
        return cls(step=step, tower=tower, status="failed" if fault else "passed", detail=fault or sound)

    @classmethod
    def of_faults(cls, step: str, tower: str, faults: Sequence[str], sound: str, shown: int = 6) -> Check:
        """Makes a check that failed with the first faults, or passed with the text `sound` if there are none."""
        more = f"; and {len(faults) - shown} more" if len(faults) > shown else ""
        return cls.of_fault(step, tower, "; ".join(faults[:shown]) + more, sound)

    def describe(self) -> str:
        """Describes the gate, the figures and the detail in one line."""
        parts = [self.gate, self.detail]
        if self.deviation is not None:
            deviation = self.deviation
            figures = [f"relative {deviation.relative:.1e}, cosine {deviation.cosine:.6f}"]
            if not 1 / SCALE <= deviation.scale <= SCALE:
                figures.append(f"lengths times {deviation.scale:.3g}")
            if "SNR" in (self.gate or "") and self.status == "failed":
                figures.append(f"SNR {deviation.decibels} dB")
            parts.insert(1, ", ".join(figures))
        if self.figures is not None:
            parts.insert(1, ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items()))
        return "; ".join(part for part in parts if part)

    @classmethod
    def not_run(cls, step: str, tower: str, reason: str) -> Check:
        """Makes a check that could not run here."""
        return cls(step=step, tower=tower, status="not run", detail=reason)

    @classmethod
    def not_wanted(cls, step: str, tower: str, reason: str = "left out of the quick checks") -> Check:
        """Makes a check that the user left out."""
        return cls(step=step, tower=tower, status="not run", detail=reason, left_out=True)


def outcome(checks: Iterable[Check]) -> Status | Literal["not verified"]:
    """Returns the worst status of the checks."""
    statuses = {check.status for check in checks}
    worst: tuple[Status, ...] = ("failed", "not run", "undecided", "passed")
    return next((status for status in worst if status in statuses), "not verified")


class StoredWeights(BaseModel, frozen=True):
    """Storage of some weights of a tower in the artifact: the grid in words, the number of layers and weights, and
    their bytes."""

    tower: str
    grid: str
    layers: int
    weights: int
    bytes: int


class StoredLayer(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """One weight of an artifact compared with the checkpoint's: its grid in words, and the relative error of rounding.

    `wrong` says how it is not the checkpoint's weight on that grid. None if it is.
    """

    tower: str
    layer: str
    grid: str
    relative: float
    wrong: str | None = None


class Unproven(BaseModel, frozen=True):
    """Checks that proved nothing, each as "image twin" or, for all towers, "twin"; and the reason."""

    checks: tuple[str, ...]
    reason: str

    def describe(self) -> str:
        """Describes the checks and the reason in a few words."""
        return f"{', '.join(self.checks)} ({self.reason})"


class ParityReport(BaseModel, frozen=True):
    """All checks of one bundle, and the storage of its weights (empty without the checkpoint).

    `floor`: the noise floor of each tower, the relative deviation of the checkpoint's own float32 embeddings from its
    exact ones, worst over the inputs. `gates`: those that are not the defaults, in words. `notes`: sentences for the
    reader about the checkpoint and unlisted files. `on_word`: claims of the bundle that no check can compute; the
    report relies on the exporter for them.
    """

    schema_version: Literal[1] = 1
    bundle: str
    variant: str
    target: str
    checks: tuple[Check, ...]
    floor: dict[str, float] = {}
    storage: tuple[StoredWeights, ...] = ()
    weights: tuple[StoredLayer, ...] = ()
    notes: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    on_word: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def undecided(self) -> tuple[Check, ...]:
        """Checks whose gate lies within the range of chance."""
        return tuple(check for check in self.checks if check.status == "undecided")

    @property
    def not_run(self) -> tuple[Check, ...]:
        """Checks that could not run; those that were left out on purpose are not counted."""
        return tuple(check for check in self.checks if check.status == "not run" and not check.left_out)

    @property
    def left_out(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.left_out)

    @property
    def passed(self) -> bool:
        """True if every requested check ran and passed."""
        return bool(self.checks) and not self.failed and not self.undecided and not self.not_run

    @property
    def unproven(self) -> tuple[Unproven, ...]:
        """Checks that were not run or not decided, by reason."""
        towers: dict[str, dict[str, list[str]]] = {}
        for check in (*self.left_out, *self.not_run, *self.undecided):
            reason = "undecided: too few pictures" if check.status == "undecided" else check.detail or "not run"
            towers.setdefault(reason, {}).setdefault(check.step, []).append(check.tower)
        every = {check.tower for check in self.checks} & {"image", "text"}
        return tuple(
            Unproven(checks=tuple(_name(step, those, every) for step, those in steps.items()), reason=reason)
            for reason, steps in towers.items()
        )

    @property
    def by(self) -> str:
        """End of a verdict's sentence that lists the gates that are not the defaults; empty if all are defaults."""
        return f", by gates of its own: {', '.join(self.gates)}" if self.gates else ""

    @property
    def open_points(self) -> str:
        """Sentence that lists the checks that proved nothing, and the claims for which the report relies on the
        exporter; empty if there are none."""
        points = [item.describe() for item in self.unproven]
        if self.on_word:
            points.append(f"not computable here, taken from the export's own report: {', '.join(self.on_word)}")
        return f"Not proven: {'; '.join(points)}." if points else ""

    def markdown(self) -> str:
        """Returns the report in Markdown, for a job summary: first the checks that did not pass, then every check."""
        unmet = (*self.failed, *self.undecided, *self.not_run)
        state = unmet[0].status if unmet else "passed" if self.passed else "not run"
        lines = [f"### {in_markdown(self.bundle)}: parity {state}{in_markdown(self.by)}", ""]
        if unmet:
            which = [(f"{check.tower} {check.step} {check.status}", check.describe()) for check in unmet]
            lines += [f"- **{in_markdown(name)}**: {in_markdown(text)}" for name, text in which] + [""]
        lines += ["| tower | check | outcome | gate | relative | cosine | dB | figures |"]
        lines += ["|---|---|---|---|---:|---:|---:|---|"]
        rows = [_markdown_row(check) for check in self.checks]
        closing = (*self.notes, *filter(None, [self.open_points]))
        return "\n".join([*lines, *rows, *(f"\n{in_markdown(note)}" for note in closing)]) + "\n"

    def suite(self) -> ElementTree.Element:
        """Returns the report as a JUnit suite: a failed check is a failure, one not run or not decided an error."""
        suite = ElementTree.Element(
            "testsuite",
            name=shown(f"parity of {self.bundle}"),
            tests=str(len(self.checks)),
            failures=str(len(self.failed)),
            errors=str(len(self.not_run) + len(self.undecided)),
            skipped=str(len(self.left_out)),
        )
        if self.gates:
            properties = ElementTree.SubElement(suite, "properties")
            ElementTree.SubElement(properties, "property", name="gates", value=shown(", ".join(self.gates)))
        names = Counter((check.tower, check.step) for check in self.checks)
        for check in self.checks:
            name = f"{check.tower} {check.step}"
            if names[check.tower, check.step] > 1:
                name += f" on {check.engine}"
            case = ElementTree.SubElement(suite, "testcase", classname=shown(self.bundle), name=shown(name))
            if check.seconds is not None:
                case.set("time", f"{check.seconds:.3f}")
            text = shown(check.describe())
            if check.status != "passed":
                kind = "failure" if check.status == "failed" else "skipped" if check.left_out else "error"
                ElementTree.SubElement(case, kind, message=text)
            ElementTree.SubElement(case, "system-out").text = text
        return suite


def _name(step: str, towers: list[str], every: set[str]) -> str:
    distinct = dict.fromkeys(towers)
    return step if distinct.keys() & {"both"} or distinct.keys() >= every else f"{' and '.join(distinct)} {step}"


def _markdown_row(check: Check) -> str:
    deviation = check.deviation
    cells = [check.tower, check.step, check.status, check.gate or ""]
    if deviation is None:
        cells += ["", "", ""]
    else:
        cells += [f"{deviation.relative:.1e}", f"{deviation.cosine:.6f}", deviation.decibels]
    figures = ", ".join(f"{name} {value:.2f}" for name, value in (check.figures or {}).items())
    return markdown_row([*cells, figures])
