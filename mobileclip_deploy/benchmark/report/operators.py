"""The rows of a table of operators: what each takes, computes and moves, as words."""

from __future__ import annotations

from collections.abc import Sequence

from mobileclip_deploy.benchmark.roofline import Share

__all__ = ["OPERATOR_COLUMNS", "TIMES_ALONE", "operator_rows"]

TIMES_ALONE = ("operator", "calls", "ms", "time, %")
OPERATOR_COLUMNS = (*TIMES_ALONE, "arithmetic", "GOP/s", "of its limit, %", "GB/s", "operations a byte")
SHOWN = 12
"""More rows of a profile than this say little."""


def operator_rows(shares: Sequence[Share]) -> tuple[tuple[str, ...], ...]:
    """A row a column of `OPERATOR_COLUMNS`, the most expensive first, and the others in one row; without what operators
    compute, where that is known of none, those of `TIMES_ALONE`."""
    known = any(share.bytes_per_second is not None for share in shares)
    rows = [_row(share) if known else _row(share)[: len(TIMES_ALONE)] for share in shares[:SHOWN]]
    if rest := shares[SHOWN:]:
        calls, spent = sum(one.calls for one in rest), sum(one.total_ns for one in rest)
        rows.append(
            _row(Share(f"{len(rest)} others", calls, spent, sum(one.time_percent for one in rest)))[: len(rows[0])]
        )
    return tuple(rows)


def _row(share: Share) -> tuple[str, ...]:
    return (
        share.name,
        str(share.calls),
        f"{share.total_ns / 1e6:.3f}",
        f"{share.time_percent:.1f}",
        share.arithmetic or "",
        _number(share.per_second, 1e9),
        _number(share.limit_percent, 1),
        _number(share.bytes_per_second, 1e9),
        _number(share.per_byte, 1),
    )


def _number(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}" if value / unit < 100 else f"{value / unit:.0f}"
