"""Labels of a classifier, and the prompt that each of them becomes."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.errors import UsageError, reraising
from mobileclip_deploy.network.model.prompts import labels_fault, template_fault
from mobileclip_deploy.network.model.variants import Variant


def labels_json(labels: Sequence[str]) -> str:
    """Returns labels.json: a list, in the order of the probabilities."""
    return json.dumps(list(labels), indent=2, ensure_ascii=False) + "\n"


# Texts that look like a path and not like a list of labels: if no such file exists, its name was mistyped.
PATH_STARTS = ("/", "./", "../", "~")
PATH_ENDS = (".txt", ".csv", ".tsv", ".json", ".lst")


@dataclass(frozen=True)
class LabelSet:
    """Labels to distinguish, and the prompt for one, with `{}` for the label; the variant's own prompt if None.

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
            raise UsageError(f"{fault}; shorten the labels or the template")
        if len(self.names) < 2:
            # With one label every image has it at 100 percent.
            problem = f"one label, {self.names[0]!r}" if self.names else "no label"
            raise UsageError(f"{problem}; give two labels or more, as in cat,dog,car, or a file with one per line")
        duplicate = next((label for label, times in Counter(self.names).items() if times > 1), None)
        if duplicate is not None:
            raise UsageError(f"the labels contain {duplicate!r} twice; leave one out")

    def template_for(self, variant: Variant) -> str:
        """Returns the template, or the variant's own if there is none."""
        return variant.template if self.template is None else self.template


def given_labels(labels: str | Sequence[str], template: str | None = None) -> LabelSet:
    """Reads labels from a sequence, or from a text: `a,b,c`, or the path of a text file with one label per line.

    Blanks around labels in a text and empty ones are left out.

    Args:
        template: with `{}` for the label; the variant's own if None.

    Raises:
        UsageError: as `LabelSet`, or the path of a file that does not exist.
        InvalidInput: the file cannot be read as UTF-8.
    """
    if not isinstance(labels, str):
        return LabelSet(tuple(labels), template)
    with reraising(f"`labels` {labels}: cannot be read as UTF-8 text", OSError, ValueError):
        lines = read_regular(Path(labels)).decode("utf-8-sig").splitlines() if os.path.exists(labels) else None
    lowered = labels.strip().lower()
    if lines is None and (lowered.startswith(PATH_STARTS) or lowered.endswith(PATH_ENDS)):
        raise UsageError(
            f"`labels` {labels}: no such file; give one with one label per line, or a list like cat,dog,car"
        )
    stripped = (label.strip() for label in (labels.split(",") if lines is None else lines))
    return LabelSet(tuple(label for label in stripped if label), template)
