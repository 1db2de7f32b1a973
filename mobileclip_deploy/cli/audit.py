"""`audit`: check of a model or of embeddings that other code made, against a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from mobileclip_deploy.cli.options import FILE, json_option

if TYPE_CHECKING:
    from mobileclip_deploy.verify.audit.embeddings import EmbeddingsReport
    from mobileclip_deploy.verify.audit.report import ForeignReport, ForeignTower


class AuditChoices(TypedDict):
    """Options that are keywords of `mcd.audit`."""

    checkpoint: str | None
    download: bool
    images: Path | None
    texts: Path | None
    names: Path | None
    seconds: float | None


@click.command()
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="Checkpoint that the files are compared with; with --download the name of a variant. [default: the built-in "
    "nano]",
)
@click.option("--download", is_flag=True, help="Download the published weights of the variant that --checkpoint names.")
@click.option(
    "--images",
    type=FILE,
    metavar="DIR",
    help="Folder of images: those that an app embedded, in the order of their names, or those to compare a model on. "
    "[default for a model: the stored ones]",
)
@click.option(
    "--texts",
    type=FILE,
    metavar="FILE",
    help="The same for texts: a .txt with one per line or a .jsonl as `embed` reads it.",
)
@click.option(
    "--names",
    type=FILE,
    metavar="FILE",
    help="For embeddings: the name of each row's image or text, one per line. [default: the file's, if it has names]",
)
@click.option(
    "--budget",
    "seconds",
    type=click.FloatRange(1, 86400),
    metavar="SECONDS",
    help="Time limit of each file. [default: 600]",
)
@json_option
def audit(files: tuple[Path, ...], as_json: bool, **choices: Unpack[AuditChoices]) -> None:
    """Check a model, or embeddings, that other code made: say if they are a checkpoint's, or what is wrong with them.

    A FILE of another tool, such as a .onnx, .tflite or .mlpackage, is run: the command finds how it takes pictures and
    texts, and names usual mistakes of conversion (docs/foreign.md). The image tower and the text tower may be two
    files.

    A FILE of embeddings that an app computed (.npy, .npz, .jsonl, .safetensors) has one row for each image or text, in
    the order of the sorted files or of the lines; usual mistakes of apps are tried and named (docs/app_embeddings.md).

    \b
    Example:
      mobileclip-deploy audit vision.onnx text.onnx --checkpoint mobileclip_s0.pt
      mobileclip-deploy audit vision.onnx --checkpoint mobileclip_s0 --download
      mobileclip-deploy audit theirs.npy --images photos/ --checkpoint mobileclip_s0.pt
    """
    from mobileclip_deploy.cli.output import conclude, note, print_json, progress
    from mobileclip_deploy.errors import GateFailed
    from mobileclip_deploy.verify.audit import door

    with progress() as update:
        report = door.audit(files, announce=note, progress=update, **choices)
    if isinstance(report, door.EmbeddingsReport):
        document, failure, show = report.model_dump(mode="json"), report.sentence, partial(_print_tried, report)
    else:
        document = report.model_dump(mode="json") | {"passed": report.passed}
        failure, show = f"{', '.join(report.files)}: {report.verdict}", partial(_print_towers, report)
    if as_json:
        print_json(document)
    else:
        show()
    if report.verdict != "same":
        conclude(GateFailed(failure))


def _print_towers(report: ForeignReport) -> None:
    from mobileclip_deploy.cli.output import print_table, print_terms
    from mobileclip_deploy.cli.terminal import say

    say(report.sentence)
    print_table(None, ["tower", "", "name", "", ""], [row for tower in report.towers for row in _rows(tower)])
    print_terms([("unknown", text) for text in report.unknown])


def _rows(tower: ForeignTower) -> Iterator[list[str]]:
    source, result, weights = tower.input, tower.output, tower.weights
    length = result.length if result.factor == 1 else f"{result.length}, times {result.factor:.4g}"
    yield [tower.tower, "input", source.name, f"{list(source.shape)}", source.form]
    yield from (["", "", "", "", f"or {form}"] for form in source.also)
    yield ["", "output", result.name, f"{list(result.shape)}", f"length {length}"]
    yield ["", "weights", "", tower.precision, f"{weights.found} of {weights.total} tensors found, {weights.form}"]
    yield from (["", "", name, "", "is not the checkpoint's"] for name in weights.different)
    yield ["", "distance", "", f"{tower.distance:.2e}", f"bound {tower.bound:.2e}, {tower.inputs} inputs"]
    if tower.cause is not None:
        explained = "" if tower.explained is None else f"{tower.explained:.2e}"
        yield ["", "cause", tower.cause, explained, tower.cause_text or ""]


def _print_tried(report: EmbeddingsReport) -> None:
    from mobileclip_deploy.cli.output import print_table
    from mobileclip_deploy.cli.terminal import say

    rows = [
        [cause.stage, cause.cause, f"{cause.cosine:.6f}", "" if cause.snr_db is None else f"{cause.snr_db:.1f}"]
        for cause in sorted(report.tried, key=lambda cause: -cause.cosine)
        if cause.visible
    ]
    say(report.sentence)
    if rows:
        print_table("causes tried, each alone", ["stage", "cause", ">worst cosine", ">SNR dB"], rows)
    if hidden := [cause.cause for cause in report.tried if not cause.visible]:
        say(f"not visible in these inputs: {', '.join(hidden)}")
