"""What of an ML program is ready for the Neural Engine, what is at risk, and what will leave it, by public sources.

    from mobileclip_deploy.mil import load
    from mobileclip_deploy.mil.lint import lint

    report = lint(load("image.mlpackage", evaluate=False), device="a15")
    print(report.share("leaves").operations, report.findings)

No one can promise residency without the device: Apple publishes no list, and Core ML decides on the device by a cost
model of its own. A rule here is a statement of a named public source about one op; "ready" means that no source that is
known here speaks against it.
"""

from mobileclip_deploy.mil.lint.devices import find_device
from mobileclip_deploy.mil.lint.linting import lint
from mobileclip_deploy.mil.lint.report import (
    Comparison,
    Finding,
    LintedOperation,
    LintReport,
    RuleText,
    Share,
    compare,
    findings_of,
)
from mobileclip_deploy.mil.lint.rule import Rule, Rules, Source
from mobileclip_deploy.mil.lint.rules import RULES

__all__ = [
    "RULES",
    "Comparison",
    "Finding",
    "LintReport",
    "LintedOperation",
    "Rule",
    "RuleText",
    "Rules",
    "Share",
    "Source",
    "compare",
    "find_device",
    "findings_of",
    "lint",
]
