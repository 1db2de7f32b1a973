"""From results to a page: what was measured, on what, and what speaks against it."""

from mobileclip_deploy.benchmark.report.writing import report

__all__ = ["report"]
