"""From results to a page: what was measured, on what, and what speaks against it."""

from mobileclip_deploy.benchmark.report.writing import write_report

__all__ = ["write_report"]
