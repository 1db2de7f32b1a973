"""Latency that someone else can reproduce: job, protocol, statistics, one driver per device kind, result, report."""
