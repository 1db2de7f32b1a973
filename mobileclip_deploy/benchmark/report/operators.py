"""Table of a profiled cell: time of each operator in one inference."""

from collections.abc import Sequence

from mobileclip_deploy.benchmark.result import OperatorTime

OPERATOR_COLUMNS = ("operator", "calls", "ms", "time, %")
SHOWN = 12
"""Maximum number of operators in the table; more rows say little."""


def operator_rows(profile: Sequence[OperatorTime]) -> tuple[tuple[str, ...], ...]:
    """Returns one row per operator, with the columns `OPERATOR_COLUMNS`. The most expensive comes first, the rest last.

    A convolution has its window and its channels' grouping in its name (`Conv 7x7 depthwise`), if the runtime reports
    them.
    """
    whole = sum(item.total_ns for item in profile) or 1
    rows = [_row(_name(item), item.calls, item.total_ns, whole) for item in profile[:SHOWN]]
    if rest := profile[SHOWN:]:
        calls, total = sum(item.calls for item in rest), sum(item.total_ns for item in rest)
        rows.append(_row(f"{len(rest)} others", calls, total, whole))
    return tuple(rows)


def _name(item: OperatorTime) -> str:
    return f"{item.operator} {item.work.kind}" if item.work and item.work.kind else item.operator


def _row(name: str, calls: int, total_ns: int, whole: int) -> tuple[str, ...]:
    return (name, str(calls), f"{total_ns / 1e6:.3f}", f"{100 * total_ns / whole:.1f}")
