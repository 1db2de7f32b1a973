"""Labels as a user names them: what a classifier tells apart, from a list or a file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput, UsageError, worded
from mobileclip_deploy.files import read_regular
from mobileclip_deploy.model.prompts import labels_fault, template_fault
from mobileclip_deploy.model.variants import Variant

__all__ = ["LabelSet", "given_labels", "read_labels"]

# What a list of labels does not look like: where such a file does not exist, its name was mistyped.
PATH_STARTS = ("/", "./", "../", "~")
PATH_ENDS = (".txt", ".csv", ".tsv", ".json", ".lst")


@dataclass(frozen=True)
class LabelSet:
    """What is told apart: labels, and the prompt that stands for one, with `{}` where it goes; the variant's own where
    it is None.

    Raises:
        UsageError: fewer than two labels, one twice, too many or too long ones, or a template without `{}` or too long.
    """

    names: tuple[str, ...]
    template: str | None = None

    def __post_init__(self) -> None:
        if self.template is not None and "{}" not in self.template:
            raise UsageError(f"the template {self.template[:100]!r} has no {{}} for the label")
        fault = labels_fault(self.names) or template_fault(self.template or "")
        if fault is not None:
            raise UsageError(f"{fault}; shorten what was given")
        if len(self.names) < 2:
            # With one label every image has it at 100 percent.
            given = f"one label, {self.names[0]!r}" if self.names else "no label"
            raise UsageError(f"{given}; give two labels or more, as in cat,dog,car, or a file with one a line")
        double = next((label for label, times in Counter(self.names).items() if times > 1), None)
        if double is not None:
            raise UsageError(f"the labels hold {double!r} twice; leave one out")

    def template_for(self, variant: Variant) -> str:
        """The template, settled."""
        return variant.template if self.template is None else self.template


def given_labels(labels: str | Sequence[str], template: str | None = None) -> LabelSet:
    """Labels one by one, or as a text for `read_labels`.

    Raises:
        UsageError, InvalidInput: as `LabelSet` and `read_labels`.
    """
    if isinstance(labels, str):
        return read_labels(labels, template)
    return LabelSet(tuple(labels), template)


def read_labels(text: str, template: str | None = None) -> LabelSet:
    """`a,b,c`, or the path of a text file with one label per line; blanks around labels and empty ones are left out.

    Args:
        template: with `{}` where the label goes; the variant's own when None.

    Raises:
        UsageError: fewer than two labels, one twice, a template without `{}`, or the path of a file that is not there.
        InvalidInput: the file cannot be read as UTF-8.
    """
    path = Path(text)
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines() if os.path.exists(path) else None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"`labels` {text}: cannot be read as UTF-8 text: {worded(error)}") from error
    meant = text.strip().lower()
    if lines is None and (meant.startswith(PATH_STARTS) or meant.endswith(PATH_ENDS)):
        raise UsageError(f"`labels` {text}: no such file; give one with one label a line, or a list like cat,dog,car")
    found = (label.strip() for label in (text.split(",") if lines is None else lines))
    return LabelSet(tuple(label for label in found if label), template)
