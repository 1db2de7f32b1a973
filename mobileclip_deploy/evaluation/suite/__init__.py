"""Suites: lists of datasets with the metric of each, such as DataComp's 38, and what was published of them."""

from mobileclip_deploy.evaluation.suite.measuring import SuiteResult, html_page, measure_suite, require_some
from mobileclip_deploy.evaluation.suite.tasks import load_suite, published

__all__ = [
    "SuiteResult",
    "html_page",
    "load_suite",
    "measure_suite",
    "published",
    "require_some",
]
