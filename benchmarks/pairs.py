"""Pairs: the image and the text tower of a network together, one picture and one prompt, against the paper's peers.

`suites.py paper` measures them, `page.py` shows them. The paper's "2.3 times as fast" and "4.8 times" are of pairs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from card_tables import OPERATIONS
from measuring import markdown
from ratios import STEADY, Ratio, cpu_by_round, ratio_of
from subjects import SIGLIP

from mobileclip_deploy.benchmark.report.operators import OPERATOR_COLUMNS, operator_rows
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.network.model.variants import TOWERS

__all__ = ["PEERS", "VARIANTS", "PairRow", "goals", "pair_rows", "tables", "unsteady_pairs"]

PEERS = {"clip_vit_b16": "OpenAI's ViT-B/16", SIGLIP: "SigLIP's ViT-B/16"}
VARIANTS = ("mobileclip_s0", "mobileclip_s1", "mobileclip_s2", "mobileclip_b", "mobileclip2_s0")
"""Networks that differ: the towers of MobileCLIP2-S2 and B are those of S2 and B."""
GOALS = (("mobileclip_s2", SIGLIP, (1.97, 2.1, 2.3), 2.1), ("mobileclip_s0", "clip_vit_b16", (4.8,), 2.8))
"""Network, peer, how many times as fast on the best runtime (the last figure is the paper's), how much smaller."""

SHOWN = 6
"""Ratios of wide intervals that are named; more are counted."""


@dataclass(frozen=True)
class PairRow:
    """A pair in one runtime, compared with the pair of a peer in the same runtime.

    `ratio`: CPU time of the peer over that of the pair. `smaller`: the same of the artifacts' bytes. `by_operations`:
    the same of the multiply-adds, which the ratio would be at equal rates.
    """

    network: str
    runtime: str
    cells: tuple[int, ...]
    cpu_ms: float
    bytes: int
    ratio: Ratio
    smaller: float
    by_operations: float

    @property
    def label(self) -> str:
        """Network and runtime."""
        return f"{self.network} ({self.runtime})"


def pair_rows(peer: str, runs: Sequence[Result]) -> Iterator[PairRow]:
    """Returns every pair of the runs next to the peer's in the same runtime, the peer's own included.

    A round of a pair is compared with the peer's round of the same index in the same run.
    """
    operations = multiply_adds()
    pairs = _pairs(runs[0])
    for (network, runtime), cells in pairs.items():
        base = pairs[peer, runtime]
        ratios, times = [], []
        for run in runs:
            own, other = (_rounds(run, indices) for indices in (cells, base))
            ratios += [theirs / ours for ours, theirs in zip(own, other, strict=True)]
            times += own
        size, base_size = (sum(runs[0].job.cells[index].bytes for index in indices) for indices in (cells, base))
        yield PairRow(
            network=network,
            runtime=runtime,
            cells=cells,
            cpu_ms=sorted(times)[len(times) // 2] / 1e6,
            bytes=size,
            ratio=ratio_of(ratios),
            smaller=base_size / size,
            by_operations=operations[peer] / operations[network],
        )


def unsteady_pairs(runs: Sequence[Result]) -> list[str]:
    """Returns the pairs whose interval against a peer is not narrower than `STEADY`."""
    rows = [(row, peer) for peer in PEERS for row in pair_rows(peer, runs)]
    return [f"{row.label} against {PEERS[peer]}" for row, peer in rows if row.ratio.width >= STEADY]


def multiply_adds() -> dict[str, int]:
    """Returns the multiply-adds of both towers by network."""
    counts = json.loads(OPERATIONS.read_text(encoding="utf-8"))
    return {name: sum(count["multiply_adds"]) for name, count in counts.items()}


def tables(runs: Sequence[Result]) -> list[str]:
    """Returns the goals, a table for each peer, what is not steady, and the operators of the row farthest below equal
    rates."""
    counts: Mapping[str, Mapping[str, Sequence[int]]] = json.loads(OPERATIONS.read_text(encoding="utf-8"))
    parts = [text for text in ("\n".join(goals(runs)),) if text]
    heads = ["pair", "runtime", "CPU ms", "faster", "95%", "at equal rates", "MB", "smaller"]
    heads += ["parameters, M", "multiply-adds, G"]
    for peer, title in PEERS.items():
        lines = [f"Against {title}, image and text together:", ""]
        body = []
        for row in pair_rows(peer, runs):
            count = counts[row.network]
            interval = "" if row.network == peer else f"{row.ratio.low:.2f} to {row.ratio.high:.2f}"
            cells = [row.network, row.runtime, f"{row.cpu_ms:.1f}", f"{row.ratio.value:.2f}", interval]
            cells += [f"{row.by_operations:.2f}", f"{row.bytes / 1e6:.0f}", f"{row.smaller:.2f}"]
            body.append([*cells, *(f"{sum(count[key]) / unit:.1f}" for key, unit in _UNITS.items())])
        parts.append("\n".join(lines + markdown(heads, body)))
    wide = unsteady_pairs(runs)
    text = f"**Not known within {STEADY:.0%}**: {'; '.join(wide)}." if wide else ""
    if len(wide) > SHOWN:  # the column shows them
        text = f"The intervals of {len(wide)} ratios are wider than {STEADY:.0%}."
    parts.append(text or f"Every ratio's interval is narrower than {STEADY:.0%}.")
    return [*parts, *_operators(runs)]


def goals(runs: Sequence[Result]) -> list[str]:
    """Returns a table of what the paper claims next to the runtime that comes nearest to it."""
    body = []
    for network, peer, aims, smaller in GOALS:
        rows = [row for row in pair_rows(peer, runs) if row.network == network]
        if not rows:
            continue
        best = max(rows, key=lambda row: row.ratio.value)
        met = [f"{aim:g} {'met' if best.ratio.value >= aim else 'missed'}" for aim in aims]
        body.append([f"{network} against {PEERS[peer]}", f"{best.ratio.value:.2f}", best.runtime, ", ".join(met)])
        # The paper's figure has two digits.
        least = min(rows, key=lambda row: row.smaller)
        verdict = "met" if round(least.smaller, 1) >= smaller else "missed"
        body[-1] += [f"{least.smaller:.2f} ({least.runtime})", f"{smaller:g} {verdict}"]
    return markdown(["pair", "faster", "best runtime", "goals", "smaller, at least", "goal"], body) if body else []


_UNITS = {"parameters": 1e6, "multiply_adds": 1e9}


def _operators(runs: Sequence[Result]) -> Iterator[str]:
    """Operators of the worst pair: its ratio is the smallest share of what equal rates would give."""
    rows = [row for peer in PEERS for row in pair_rows(peer, runs) if row.network not in PEERS]
    worst = min(rows, key=lambda row: row.ratio.value / row.by_operations)
    for index in worst.cells:
        if profile := runs[0].cells[index].profile:
            title = (
                f"Operators of the pair farthest below equal rates, {worst.label}, {runs[0].job.cells[index].tower}:"
            )
            yield "\n".join([title, "", *markdown(OPERATOR_COLUMNS, [list(row) for row in operator_rows(profile)])])


def _pairs(run: Result) -> dict[tuple[str, str], tuple[int, ...]]:
    """Indices of the cells of each pair, by network and runtime."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for index, cell in enumerate(run.job.cells):
        network = cell.variant or SIGLIP
        grouped.setdefault((network, f"{cell.runtime} {cell.backend or ''}".strip()), []).append(index)
    for (network, runtime), indices in grouped.items():
        towers = sorted(run.job.cells[index].tower for index in indices)
        assert towers == sorted(TOWERS), f"{network} in {runtime} has {towers}"
    return {key: tuple(indices) for key, indices in grouped.items()}


def _rounds(run: Result, cells: Sequence[int]) -> list[float]:
    """CPU time of both towers, round by round, in nanoseconds."""
    return [sum(times) for times in zip(*(cpu_by_round(run.cells[index]) for index in cells), strict=True)]
