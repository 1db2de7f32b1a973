"""The gates: bounds that an artifact must hold to pass, in one table. Each can be overridden, and a NaN always
fails."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, NamedTuple, get_type_hints

from mobileclip_deploy.base.arguments import Bounds, checked_fields, described
from mobileclip_deploy.errors import UsageError, reraising
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity.metrics import Deviation

# Largest difference of a probability from the checkpoint's, by the bits of a weight; 32: in float32 arithmetic, where a
# logit is a cosine times up to 100. A probability near one half moves by a quarter of its logit's change. At a logit
# scale of 100, an error of 0.01 in a cosine moves a logit by 1. A label that leads by more than twice that stays first.
PROBABILITIES = {32: 1e-3, 16: 0.02, 8: 0.1}
COARSE = 0.2

# The noise floor is the distance of the checkpoint's own float32 arithmetic from the exact embeddings. In float32 a
# stage may be MULTIPLE floors away from them, and never has to be nearer than LEAST. Over nano, S0, S2 and v2's S2 (one
# amplifies rounding forty times as much as the others), the folded model, the tower and three runtimes came to 0.4 to
# 2.1 floors (docs/proof.md). So an error of a few parts in a million in a weight shows.
MULTIPLE = 5.0
LEAST = 2e-6
# Bound without the checkpoint, when the floor is unknown.
UNKNOWN = 1e-5
# Embeddings are for distinguishing inputs, so rounding is judged against the differences between inputs: they must have
# ten times the power of the rounding error. On nano every file that holds the bound on its cosine has at least 17.8 dB,
# and a file of 8.0 dB loses 2.8 points of top-1 (docs/figures/precisions.md). A cosine alone flatters a network whose
# embeddings all point the same way.
SNR = 10.0
# Largest ratio of lengths if only the direction has a gate. Rounding to 4 bits moves lengths by some percent.
SCALE = 1.25

Deviating = Annotated[float, Bounds(0)]


class Bound(NamedTuple):
    """Bound of one metric: `relative`, `cosine` (of embeddings) or `probabilities` (their largest difference).

    `snr_db`: the centred signal-to-noise ratio that must be held as well, if inputs differ.
    """

    metric: str
    value: float
    snr_db: float | None = None

    def __str__(self) -> str:
        sign = ">=" if self.metric == "cosine" else "<="
        text = f"{self.metric} {sign} {self.value:.3g}" if self.metric == "relative" else f"cosine >= {self.value!r}"
        return text if self.snr_db is None else f"{text}, SNR >= {self.snr_db:g} dB"


@checked_fields
@dataclass(frozen=True)
class Gates:
    """Bounds of the semantic step, of the artifacts and of the task.

    Attributes:
        semantic: relative deviation of folded model, tower and float32 twin; None: from the network's own noise floor.
        relative, cosine: replace the bound of the artifact's precision; None leaves it.
        snr: decibels by which the differences between inputs must exceed the rounding error.
        task: points of top-1 or recall@1 that an artifact may lose.

    Raises:
        UsageError: a bound is not a finite number, or outside its range.
    """

    semantic: Deviating | None = None
    relative: Deviating | None = None
    cosine: Annotated[float, Bounds(0, 1)] | None = None
    snr: float = SNR
    task: Deviating = 0.5

    def exact(self, floor: float | None, probabilities: bool = False) -> Bound:
        """Returns the bound for float32 arithmetic: folded model, tower, twin.

        Args:
            floor: the network's noise floor, relative; None if unknown.
        """
        if probabilities:
            return Bound("probabilities", PROBABILITIES[32])
        if self.semantic is not None:
            return Bound("relative", self.semantic)
        return Bound("relative", UNKNOWN if floor is None else max(MULTIPLE * floor, LEAST))

    def shipped(self, precision: str, floor: float | None = None, probabilities: bool = False) -> Bound:
        """Returns the bound for an artifact as written; at float32 with a known noise floor as strict as `exact`."""
        stored = precision_of(precision)
        if probabilities:
            return Bound("probabilities", COARSE if stored.calibrated else PROBABILITIES.get(stored.bits, COARSE))
        if stored.metric == "cosine":
            return Bound("cosine", stored.gate if self.cosine is None else self.cosine, self.snr)
        if self.relative is not None:
            return Bound("relative", self.relative)
        return Bound("relative", stored.gate) if floor is None else self.exact(floor)

    def allow_drop(self, points: float) -> bool:
        """Returns whether a loss of this many points of accuracy is allowed; a NaN is not."""
        return points <= self.task

    def replaced(self, precisions: Iterable[tuple[str, float | None]]) -> tuple[str, ...]:
        """Lists each bound that is not the default, in words, and whether it lets pass what the default would not.

        Args:
            precisions: precision of each tower and, if known, its noise floor.
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
            f"{name}={value:.12g} ({'loosened' if looser[name] else 'not the default'})"
            for name, value in self._changed()
        )

    def recorded(self) -> str | None:
        """Returns the replaced bounds as the command line takes them. None if there are none."""
        return ",".join(f"{name}={value!r}" for name, value in self._changed()) or None

    def _changed(self) -> list[tuple[str, float]]:
        """Returns the bounds that are not the defaults."""
        return [(name, getattr(self, name)) for name in _names() if getattr(self, name) != getattr(Gates, name)]


def _names() -> list[str]:
    return [field.name for field in fields(Gates)]


def passes(deviation: Deviation, bound: Bound) -> bool:
    """Returns whether a deviation is within a bound; a NaN is not.

    A cosine is checked together with the lengths (SCALE), which it does not see.
    """
    if bound.snr_db is not None and deviation.snr_db is not None and not deviation.snr_db >= bound.snr_db:
        return False
    value = deviation.value(bound.metric)
    if bound.metric == "cosine":
        return value >= bound.value and 1 / SCALE <= deviation.scale <= SCALE
    return value <= bound.value


def exported_gates(recorded: Mapping[str, str]) -> Gates:
    """Returns the gates that a bundle was exported with, from the options in its manifest.

    Raises:
        InvalidInput: the options are not valid gates.
    """
    with reraising("the manifest's option gates cannot be used", UsageError):
        return parse_gates(recorded["gates"].split(",")) if "gates" in recorded else Gates()


def parse_gates(texts: Iterable[str]) -> Gates:
    """Parses `semantic=3e-4`, `cosine=0.99`, ... into gates.

    Raises:
        UsageError: unknown name or not a finite number.
    """
    gates = Gates()
    names = _names()
    for text in texts:
        name, _, value = text.partition("=")
        try:
            bound = float(value)
        except ValueError:
            bound = float("nan")
        if name not in names or not abs(bound) < float("inf"):
            raise UsageError(f"`gates` {text}: write NAME=NUMBER, with NAME one of {', '.join(names)}")
        try:
            changed: Any = {name: bound}
            gates = replace(gates, **changed)
        except UsageError:
            taken = described(get_type_hints(Gates, include_extras=True)[name]).removesuffix(" or None")
            raise UsageError(f"`gates` {text}: takes {taken}") from None
    return gates
