"""Size limits of users' texts, templates of prompts and labels, checked before a network is loaded."""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator

from mobileclip_deploy.base.escaping import shown

TEMPLATE_CHARACTERS = 1_000
LABEL_CHARACTERS = 1_000
PLACES = 10
"""Most placeholders for the label in a template."""
LABELS, LABELS_BYTES = 100_000, 3 << 20
"""Limits of all labels together: they are written to a manifest, and manifests are read up to 4 MB."""

T = TypeVar("T")


def template_fault(template: str) -> str | None:
    """Returns a message if a template is too large, or not Unicode text. None if it is valid."""
    if not _is_unicode(template):
        return f"the template {template[:100]!r} is not valid Unicode"
    if len(template) > TEMPLATE_CHARACTERS:
        return f"a template has at most {TEMPLATE_CHARACTERS:,} characters, this one {len(template):,}"
    if (count := template.count("{}")) > PLACES:
        return f"a template can contain {{}} at most {PLACES} times, this one {count} times"
    return None


def labels_fault(labels: Sequence[str]) -> str | None:
    """Returns a message if labels, or names of classes, are too many, too long or not printable on one line. None if
    they are valid."""
    if len(labels) > LABELS:
        return f"there can be at most {LABELS:,} labels, not {len(labels):,}"
    long = next((label for label in labels if len(label) > LABEL_CHARACTERS), None)
    if long is not None:
        return f"a label has at most {LABEL_CHARACTERS:,} characters; {long[:20]!r}... has {len(long):,}"
    odd = next((label for label in labels if not _is_unicode(label)), None)
    if odd is not None:
        return f"the label {odd!r} is not valid Unicode"
    hidden = next((label for label in labels if shown(label) != label), None)
    if hidden is not None:
        return f"the label {hidden[:60]!r} contains an unprintable character"
    if sum(len(label.encode()) + len('    "",\n') for label in labels) > LABELS_BYTES:
        return f"labels have at most {LABELS_BYTES:,} bytes together"
    return None


def _is_unicode(text: str) -> bool:
    """Returns whether a text can be written: the command line or JSON may contain half a surrogate pair."""
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
