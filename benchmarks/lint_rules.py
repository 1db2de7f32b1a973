"""The table of docs/figures/lint_rules.md: the rules of `lint` for the Neural Engine, with their sources.

python benchmarks/lint_rules.py
"""

from typing import Any

from measuring import Figures, markdown

from mobileclip_deploy.targets.mil.lint.rule import Rule
from mobileclip_deploy.targets.mil.lint.rules import PACKAGE_RULES, RULES

KEPT = Figures("lint_rules", "figures/lint_rules.md")


def table() -> str:
    """Returns one line per rule, in Markdown."""
    rules: list[Rule[Any]] = [*RULES, *PACKAGE_RULES]
    lines = []
    for rule in rules:
        sources = "; ".join(f"[{source.title}]({source.url})" for source in rule.sources)
        lines.append([rule.name, rule.level, rule.text, sources])
    return "\n".join(markdown(("rule", "level", "statement", "source"), lines))


if __name__ == "__main__":
    KEPT.show(table())
