"""Latency that someone else can reproduce: job, protocol, statistics, one driver a device kind, result, report."""
