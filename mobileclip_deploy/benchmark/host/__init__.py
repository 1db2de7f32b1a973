"""Benchmark of this machine. Each turn is a process, so that candidates share no threads, caches or memory."""
