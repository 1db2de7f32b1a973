"""Reports of benchmark results: measurements, devices, conditions and warnings."""

from mobileclip_deploy.benchmark.report.writing import report

__all__ = ["report"]
