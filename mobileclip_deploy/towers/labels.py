"""Labels as a user names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mobileclip_deploy.errors import UsageError

__all__ = ["parse_labels"]


def parse_labels(given: Iterable[str]) -> list[str]:
    """Labels without blanks around them; empty ones are left out.

    Raises:
        UsageError: none, or one twice.
    """
    labels = [label.strip() for label in given if label.strip()]
    if not labels:
        raise UsageError("--labels holds no label; write them as --labels cat,dog,car")
    double = next((label for label, times in Counter(labels).items() if times > 1), None)
    if double is not None:
        raise UsageError(f"--labels holds {double!r} twice")
    return labels
