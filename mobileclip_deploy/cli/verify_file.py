"""`verify FILE`: verdict on a file that other tools wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.cli.options import is_foreign
from mobileclip_deploy.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from mobileclip_deploy.verify.foreign.report import ForeignReport


@dataclass(frozen=True)
class FileChoice:
    """Values of the options for files of other tools."""

    text: Path | None
    checkpoint: Path | None
    download: bool
    budget: float | None


def verify_files(paths: Sequence[Path], choice: FileChoice, unused: Sequence[str], as_json: bool) -> None:
    """Prints the verdict on one file, or on an image tower and a text tower.

    Args:
        unused: given options that only bundles have.

    Raises:
        UsageError: several files, a bundle, or such an option.
        GateFailed: a file is not the checkpoint's model.
    """
    if len(paths) != 1 or not is_foreign(paths[0]):
        raise UsageError("--text, --download and --budget are for one FILE of other tools; verify bundles without them")
    if unused:
        raise UsageError(f"{unused[0]} is for bundles; leave it out for a file of other tools")

    from mobileclip_deploy.cli.output import conclude, note, print_json, progress
    from mobileclip_deploy.verify.foreign.door import verify_file

    named = None if choice.checkpoint is None else str(choice.checkpoint)
    with progress() as update:
        report = verify_file(
            paths[0],
            text=choice.text,
            checkpoint=named,
            download=choice.download,
            seconds=choice.budget,
            announce=note,
            progress=update,
        )
    if as_json:
        print_json(report.model_dump(mode="json") | {"passed": report.passed})
    else:
        print_report(report)
    if not report.passed:
        conclude(GateFailed(f"{', '.join(report.files)}: {report.verdict}"))


def print_report(report: ForeignReport) -> None:
    """Prints the sentence, then a table of conventions and figures."""
    from mobileclip_deploy.cli.output import print_table, print_terms
    from mobileclip_deploy.cli.terminal import say

    say(report.sentence)
    rows = []
    for tower in report.towers:
        source, result, weights = tower.input, tower.output, tower.weights
        length = result.length if result.factor == 1 else f"{result.length}, times {result.factor:.4g}"
        rows += [
            [tower.tower, "input", source.name, f"{list(source.shape)}", source.form],
            *[["", "", "", "", f"or {form}"] for form in source.also],
            ["", "output", result.name, f"{list(result.shape)}", f"length {length}"],
            ["", "weights", "", tower.precision, f"{weights.found} of {weights.total} tensors found, {weights.form}"],
            *[["", "", name, "", "is not the checkpoint's"] for name in weights.different],
            ["", "distance", "", f"{tower.distance:.2e}", f"bound {tower.bound:.2e}, {tower.inputs} inputs"],
        ]
        if tower.cause is not None:
            explained = "" if tower.explained is None else f"{tower.explained:.2e}"
            rows.append(["", "cause", tower.cause, explained, tower.cause_text or ""])
    print_table(None, ["tower", "", "name", "", ""], rows)
    print_terms([("unknown", text) for text in report.unknown])
