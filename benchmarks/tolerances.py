"""Every tolerance of `verify` and `parity` in one table: value, what it bounds, worst seen, source.

benchmarks/margins.py measures MULTIPLE, LEAST and UNKNOWN, and prints the table. Its `--thirds` verifies true exports
with a third of each constant that has a `module`: their margins are at least 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from measuring import markdown

from mobileclip_deploy.parity import Bound, gates, metrics, reference
from mobileclip_deploy.verify.checks import activations, fit, graph, joint, padding, ranges, relevance, tags
from mobileclip_deploy.verify.instruments import learned_rounding, matching, quantized
from mobileclip_deploy.verify.instruments import tower_settings as settings
from mobileclip_deploy.verify.reports import explanation

MEASURED, CHOICE, UNMEASURED = "benchmarks/margins.py", "a choice of what is good enough", "not measured"
THIRDS = "true exports pass at a third of it"
EXACT = "derived: cannot be exceeded"
BETWEEN = "between true outputs and exchanged ones, which begin at 6.2 (nano, w4)"


@dataclass(frozen=True)
class Tolerance:
    """One constant. `worst`: in the constant's unit; None where benchmarks/margins.py measures it, where it is a choice
    of what is good enough, or where nobody has measured it. `module`: where the constant is, if `--thirds` changes it.
    """

    value: float
    bounds: str
    source: str
    worst: float | None = None
    module: ModuleType | None = None

    @property
    def margin(self) -> float | None:
        """How many times the worst fits into it."""
        return None if self.worst is None else self.value / self.worst

    def third(self, name: str) -> float | Bound:
        """Returns what replaces the constant of this name in its module."""
        now = getattr(self.module, name.partition(" of ")[0])
        if not isinstance(now, Bound):
            return float(self.value / 3)
        return Bound(now.metric, 1 - self.value / 3 if now.metric == "cosine" else self.value / 3)


TOLERANCES: Mapping[str, Tolerance] = {
    "MULTIPLE": Tolerance(gates.MULTIPLE, "noise floors from exact answers to float32 answers", MEASURED),
    "LEAST": Tolerance(gates.LEAST, "the same, relative, of a network with a small floor", MEASURED),
    "UNKNOWN": Tolerance(gates.UNKNOWN, "the same without the checkpoint", MEASURED),
    "SNR": Tolerance(gates.SNR, "dB of differences between inputs over rounding", CHOICE),
    "SCALE": Tolerance(gates.SCALE, "ratio of lengths where only the direction has a gate", CHOICE),
    "PROBABILITIES": Tolerance(gates.PROBABILITIES[16], "a probability at 16 bits", CHOICE),
    "COARSE": Tolerance(gates.COARSE, "a probability below 8 bits", CHOICE),
    "ALIKE": Tolerance(metrics.ALIKE, "spread of equal embeddings, rounded to float32", "derived: 2^-24", 2.0**-24),
    "PEAK": Tolerance(
        metrics.PEAK, "largest of some hundred errors over their root mean square", THIRDS, module=metrics
    ),
    "COLLAPSED": Tolerance(reference.COLLAPSED, "spread of a network that tells nothing apart", CHOICE),
    "PRODUCT": Tolerance(
        graph.PRODUCT, "rounding of a logit, as a share of its factors' lengths", THIRDS, module=graph
    ),
    "CALIBRATED": Tolerance(1 - graph.CALIBRATED.value, "1 - cosine where activations cannot be followed", CHOICE),
    "ROUNDING": Tolerance(
        matching.ROUNDING, "a product of two float32 numbers, on two sides", "derived: 2 x 2^-24", 2.0**-23
    ),
    "TIE": Tolerance(matching.TIE, "a number between two steps, as a share of half a step", THIRDS, module=matching),
    "HALF": Tolerance(matching.HALF, "three roundings to float16, the last two doubled", EXACT),
    "ROUNDED": Tolerance(settings.ROUNDED, "an epsilon of 1e-5 in float16", "derived: 1.00136e-5", 1.36e-3),
    "HALF_STEP": Tolerance(settings.HALF_STEP, "an epsilon in float16 below 6e-5", EXACT),
    "INVERSE": Tolerance(settings.INVERSE, "a float32 factor times its inverse", "derived: 2 x 2^-24", 2.0**-23),
    "COSINE": Tolerance(
        1 - activations.COSINE.value, "1 - cosine with quantized activations followed", THIRDS, module=activations
    ),
    "OFF": Tolerance(activations.OFF, "share of an activation's integers that differ", THIRDS, module=activations),
    "SAME of padding": Tolerance(
        padding.SAME.value, "answers to the same ids with other padding, relative", THIRDS, module=padding
    ),
    "WIDTH": Tolerance(ranges.WIDTH, "width of a range of activations, relative", "its comment", 2e-3),
    "ZERO": Tolerance(ranges.ZERO, "a zero point, in steps", "derived: half a step", 0.5),
    "VALUE_BOUND": Tolerance(
        explanation.VALUE_BOUND, "a result of one operation, relative", "derived: equal to the bit"
    ),
    "DRIFT_BOUND": Tolerance(explanation.DRIFT_BOUND, "the same at reduced precision", CHOICE),
    "NEAR": Tolerance(fit.NEAR, "axes that are fitted again", "its comment", 1e-6),
    "LENGTH": Tolerance(relevance.LENGTH, "length of a background embedding in int8", THIRDS, module=relevance),
    "LENGTH of joint": Tolerance(joint.LENGTH, "length of an embedding in a joint file, from 1", UNMEASURED),
    "LOGITS": Tolerance(joint.LOGITS.value, "logits of a joint file, relative", "nano, fp32", 3.4e-7),
    "DIRECTION": Tolerance(tags.DIRECTION, "a label's row from its text's direction", UNMEASURED),
    "LAST_DIGIT": Tolerance(
        relevance.LAST_DIGIT, "figures of relevance that are computed again", "derived: one of the sixth digit", 1e-6
    ),
    "FITTED": Tolerance(relevance.FITTED, "a threshold that is learned again", THIRDS, module=relevance),
    "SHARE": Tolerance(relevance.SHARE, "its share of false alarms", THIRDS, module=relevance),
    "SAME": Tolerance(quantized.SAME, "a value of torch and of the file, relative", THIRDS, module=quantized),
    "SUMS": Tolerance(quantized.SUMS, "sums over such values, relative", THIRDS, module=quantized),
    "TIE of activations": Tolerance(quantized.TIE, "an integer between two steps, in steps", THIRDS, module=quantized),
    "REACH": Tolerance(learned_rounding.REACH["integers"], "error of an output over the nearest's", BETWEEN, 5.0),
    "REACH of tables": Tolerance(learned_rounding.REACH["table"], "the same of a table's output", "its comment", 6.3),
    "CLEAR": Tolerance(learned_rounding.CLEAR, "cosine of an output whose sign must stay", "its comment", 0.25),
}


def table(worst: Mapping[str, Mapping[str, Any]], thirds: bool) -> list[str]:
    """All of them as Markdown. `worst`: by name, the row of benchmarks/margins.py that comes nearest to its bound.
    `thirds`: its `--thirds` has passed.
    """
    rows = []
    for name, own in TOLERANCES.items():
        row, seen, margin, source = worst.get(name), own.worst, own.margin, own.source
        if row is not None:
            seen, margin = own.value / row["margin"], row["margin"]
            source = f"{row['network']}, seed {row['seed']}, {row['case']}, {row['kernels']}, threads {row['threads']}"
        shown = ["" if value is None else f"{value:.2g}" for value in (seen, margin)]
        if own.module is not None:
            shown[1], source = ("3 or more", source) if thirds else ("", UNMEASURED)
        rows.append([f"`{name}`", f"{own.value:.3g}", own.bounds, *shown, source])
    return markdown(("constant", ">value", "what it bounds", ">worst seen", ">margin", "source"), rows)
