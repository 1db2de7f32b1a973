"""The gates: what an artifact must hold to pass, in one table, each overridable, all failing closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, NamedTuple

from mobileclip_deploy.base.arguments import Bounds, checked_fields
from mobileclip_deploy.errors import UsageError, refusing
from mobileclip_deploy.network.model.own_gates import own_gates
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity.metrics import Deviation

# How far a probability may be from the checkpoint's: in float32 arithmetic (a logit is a cosine times up to 100), and
# by the bits of a weight. A probability near one half moves by a quarter of what its logit moves, and at a logit scale
# of 100 a cosine that is off by 0.01 moves a logit by 1. Where one label leads by more than twice that, it stays.
PROBABILITIES = {32: 1e-3, 16: 0.02, 8: 0.1}
COARSE = 0.2

# In float32 a stage may be so many times as far from the exact embeddings as the checkpoint's own float32 arithmetic
# is (its noise floor), and never has to be nearer than LEAST. Over nano, S0, S2 and v2's S2, of which one amplifies
# rounding forty times as much as the others, the folded model, the tower and three runtimes came to 0.4 to 2.1 floors
# (docs/proof.md): a weight that is wrong by a few parts in a million shows.
MULTIPLE = 5.0
LEAST = 2e-6
# Without the checkpoint nobody knows the floor.
UNKNOWN = 1e-5
# Rounding is judged against what an embedding is for, telling inputs apart: the differences between inputs must be ten
# times (in power) what rounding adds. On nano every file that holds the bound on its cosine has 17.8 dB and more, and
# the one of 8.0 dB loses 2.8 points of top-1 (docs/precisions.md); a cosine alone flatters a network whose embeddings
# all point the same way.
SNR = 10.0
# By how much lengths may differ where only the direction has a gate. Rounding to 4 bits moves them by some percent.
SCALE = 1.25

Deviating = Annotated[float, Bounds(0)]


class Bound(NamedTuple):
    """What is held against what: `relative`, `cosine` (of embeddings) or `probabilities` (their largest difference).

    `snr_db`: the centred signal-to-noise ratio that has to be held as well, where inputs differ.
    """

    metric: str
    value: float
    snr_db: float | None = None

    def __str__(self) -> str:
        sign = ">=" if self.metric == "cosine" else "<="
        text = f"{self.metric} {sign} {self.value:.3g}" if self.metric == "relative" else f"cosine >= {self.value!r}"
        return text if self.snr_db is None else f"{text}, SNR >= {self.snr_db:g} dB"


@dataclass(frozen=True)
class OwnBound:
    """The bound of a check that another package brings, by the check's name."""

    name: str
    value: float


@checked_fields
@dataclass(frozen=True)
class Gates:
    """Bounds of the two steps and of the task.

    `semantic`: relative deviation of folded model, tower and float32 twin; None: by the network's own noise floor.
    `relative` and `cosine` replace the bound that the artifact's precision has; None leaves it. `snr`: by how many
    decibels the differences between inputs must be above what rounding adds. `task`: points of top-1 or recall@1 an
    artifact may lose. `own`: bounds of checks that other packages bring, by name.

    Raises:
        UsageError: a bound is no finite number, or one that nothing could be held against.
    """

    semantic: Deviating | None = None
    relative: Deviating | None = None
    cosine: Annotated[float, Bounds(0, 1)] | None = None
    snr: float = SNR
    task: Deviating = 0.5
    own: tuple[OwnBound, ...] = ()

    def own_bound(self, name: str, usual: float) -> float:
        """Bound of another package's check."""
        return next((own.value for own in self.own if own.name == name), usual)

    def exact(self, floor: float | None, probabilities: bool = False) -> Bound:
        """For float32 arithmetic: folded model, tower, twin.

        Args:
            floor: the network's noise floor, relative; None where it is not known.
        """
        if probabilities:
            return Bound("probabilities", PROBABILITIES[32])
        if self.semantic is not None:
            return Bound("relative", self.semantic)
        return Bound("relative", UNKNOWN if floor is None else max(MULTIPLE * floor, LEAST))

    def shipped(self, precision: str, floor: float | None = None, probabilities: bool = False) -> Bound:
        """For an artifact as written; at float32 with a known noise floor as strict as `exact`."""
        stored = precision_of(precision)
        if probabilities:
            return Bound("probabilities", COARSE if stored.calibrated else PROBABILITIES.get(stored.bits, COARSE))
        if stored.metric == "cosine":
            return Bound("cosine", stored.gate if self.cosine is None else self.cosine, self.snr)
        if self.relative is not None:
            return Bound("relative", self.relative)
        return Bound("relative", stored.gate) if floor is None else self.exact(floor)

    def allow_drop(self, points: float) -> bool:
        """Whether so many points of accuracy may be lost; what is not a number may not."""
        return points <= self.task

    def replaced(self, precisions: Iterable[tuple[str, float | None]]) -> tuple[str, ...]:
        """Each bound that is not the default, in words: which, and whether something passes by it that would not have.

        Args:
            precisions: of each tower its precision and, where it is known, its noise floor.
        """
        usual, towers = Gates(), tuple(precisions)
        floats = [usual.shipped(name, floor) for name, floor in towers if precision_of(name).metric != "cosine"]
        cosines = [usual.shipped(name).value for name, _ in towers if precision_of(name).metric == "cosine"]
        looser = {
            "semantic": any((self.semantic or 0) > usual.exact(floor).value for _, floor in towers),
            "relative": any((self.relative or 0) > bound.value for bound in floats),
            "cosine": self.cosine is not None and any(self.cosine < value for value in cosines),
            "snr": self.snr < usual.snr,
            "task": self.task > usual.task,
        }
        return tuple(
            f"{name}={value:.12g} ({'loosened' if looser.get(name) else 'not the default'})"
            for name, value in self._changed()
        )

    def recorded(self) -> str | None:
        """The bounds that were replaced, as the command line takes them; None where none was."""
        return ",".join(f"{name}={value!r}" for name, value in self._changed()) or None

    def _changed(self) -> list[tuple[str, float]]:
        """The bounds that are not the defaults, those of other packages' checks last."""
        pairs = [(name, getattr(self, name)) for name in _names() if getattr(self, name) != getattr(Gates, name)]
        return pairs + [(one.name, one.value) for one in self.own]


def _names() -> list[str]:
    """The gates of our own checks."""
    return [one.name for one in fields(Gates) if one.name != "own"]


def passes(deviation: Deviation, bound: Bound) -> bool:
    """Whether a deviation is within a bound; anything that is not a number is not. A cosine is held together with the
    lengths (SCALE), which it does not see."""
    if bound.snr_db is not None and deviation.snr_db is not None and not deviation.snr_db >= bound.snr_db:
        return False
    value = deviation.value(bound.metric)
    if bound.metric == "cosine":
        return value >= bound.value and 1 / SCALE <= deviation.scale <= SCALE
    return value <= bound.value


def exported_gates(recorded: Mapping[str, str]) -> Gates:
    """The gates that a bundle was exported with, from the options in its manifest.

    Raises:
        InvalidInput: they are none.
    """
    with refusing("the manifest's option gates cannot be used", UsageError):
        return parse_gates(recorded["gates"].split(",")) if "gates" in recorded else Gates()


def parse_gates(texts: Iterable[str]) -> Gates:
    """`semantic=3e-4`, `cosine=0.99`, ... -> gates.

    Raises:
        UsageError: unknown name or not a finite number.
    """
    gates = Gates()
    known = _names()
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        another = name not in known and name in own_gates()
        if not (name in known or another) or not abs(number) < float("inf"):
            every = ", ".join((*known, *own_gates()))
            raise UsageError(f"gate {text!r}: write NAME=NUMBER, with NAME one of {every}")
        if another:
            gates = replace(gates, own=(*(one for one in gates.own if one.name != name), OwnBound(name, number)))
            continue
        try:
            changed: Any = {name: number}
            gates = replace(gates, **changed)
        except UsageError as error:
            raise UsageError(f"gate {text!r}: {error}") from None
    return gates
