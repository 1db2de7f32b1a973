"""Suites: lists of datasets with the metric of each, such as DataComp's 38, and what was published of them."""

from mobileclip_deploy.evaluation.suite.measuring import Row, SuiteResult, measure_suite, require_some
from mobileclip_deploy.evaluation.suite.page import check_page, write_page
from mobileclip_deploy.evaluation.suite.tasks import SUITES, Suite, Task, load_suite, published

__all__ = [
    "SUITES",
    "Row",
    "Suite",
    "SuiteResult",
    "Task",
    "check_page",
    "load_suite",
    "measure_suite",
    "published",
    "require_some",
    "write_page",
]
