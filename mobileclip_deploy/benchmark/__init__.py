"""Reproducible latencies: job, protocol, statistics, one driver per device kind, result, report."""
