"""How long texts may be that others name: templates of prompts and labels, told before a network is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator

TEMPLATE_CHARACTERS = 1_000
LABEL_CHARACTERS = 1_000
PLACES = 10
"""Most places for the label in a template."""
LABELS, LABELS_BYTES = 100_000, 3 << 20
"""Together they stand in a manifest, of which 4 MB are read."""

T = TypeVar("T")


def template_fault(template: str) -> str | None:
    """What makes a template too large, or no text, for a reader; None where nothing does."""
    if not _is_unicode(template):
        return f"the template {template[:100]!r} is no Unicode text"
    if len(template) > TEMPLATE_CHARACTERS:
        return f"a template has at most {TEMPLATE_CHARACTERS:,} characters, this one {len(template):,}"
    if (places := template.count("{}")) > PLACES:
        return f"a template holds {{}} at most {PLACES} times, this one {places} times"
    return None


def labels_fault(labels: Sequence[str]) -> str | None:
    """What makes labels, or names of classes, too many, too long or no text, for a reader; None where nothing does."""
    if len(labels) > LABELS:
        return f"there can be at most {LABELS:,} labels, and these are {len(labels):,}"
    long = next((label for label in labels if len(label) > LABEL_CHARACTERS), None)
    if long is not None:
        return f"a label has at most {LABEL_CHARACTERS:,} characters; {long[:20]!r}... has {len(long):,}"
    odd = next((label for label in labels if not _is_unicode(label)), None)
    if odd is not None:
        return f"the label {odd!r} is no Unicode text"
    if sum(len(label.encode()) + len('    "",\n') for label in labels) > LABELS_BYTES:
        return f"labels have at most {LABELS_BYTES:,} bytes together, and these have more"
    return None


def _is_unicode(text: str) -> bool:
    """Whether it can be written: what comes from the command line or JSON may hold half a character."""
    return not re.search("[\ud800-\udfff]", text)


def _refused(fault: Callable[[T], str | None]) -> AfterValidator:
    def check(value: T) -> T:
        if (text := fault(value)) is not None:
            raise ValueError(text)
        return value

    return AfterValidator(check)


Template = Annotated[str, _refused(template_fault)]
"""A template in a document."""
Labels = Annotated[tuple[str, ...], _refused(labels_fault)]
"""Labels in a document."""
