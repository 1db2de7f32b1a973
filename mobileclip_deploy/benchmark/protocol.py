"""The protocols: how often a cell is measured, and which figure is reported."""

from __future__ import annotations

from mobileclip_deploy.benchmark.job import Protocol
from mobileclip_deploy.errors import UsageError, suggestion

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="standard",
            warm_up_iterations=10,
            rounds=5,
            iterations_per_round=20,
            seconds_per_round=2.0,
            reload_each_round=False,
            trim_fraction=0.1,
            statistic="median",
        ),
        # Apple's ModelBench (apple/ml-mobileone): the 10 slowest and the 10 fastest of a round's 50 are dropped.
        Protocol(
            name="paper",
            warm_up_iterations=10,
            rounds=20,
            iterations_per_round=50,
            seconds_per_round=0.0,
            reload_each_round=True,
            trim_fraction=0.2,
            statistic="trimmed_mean",
        ),
        # MLPerf Mobile, single stream.
        Protocol(
            name="mlperf",
            warm_up_iterations=10,
            rounds=1,
            iterations_per_round=1024,
            seconds_per_round=60.0,
            reload_each_round=False,
            trim_fraction=0.1,
            statistic="p90",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        UsageError: unknown; the text lists the known ones.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}{suggestion(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def quick(protocol: Protocol) -> Protocol:
    """The protocol's shape in seconds: a smoke test, whose figures are not to be quoted."""
    return protocol.model_copy(
        update={
            "name": f"{protocol.name}-quick",
            "warm_up_iterations": 1,
            "rounds": min(protocol.rounds, 2),
            "iterations_per_round": 3,
            "seconds_per_round": 0.0,
            "golden_inputs": 8,
            "short_probe": True,
        }
    )
