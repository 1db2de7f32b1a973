"""`verify --embeddings`: embeddings of an app against the checkpoint's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mobileclip_deploy.cli.options import FILE, gathered

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class AppChoice:
    """Values of the options for an app's embeddings."""

    embeddings: Path | None
    texts: Path | None
    names: Path | None

    @property
    def requested(self) -> bool:
        """True if one of the options was given."""
        return any((self.embeddings, self.texts, self.names))


def embeddings_options(function: F) -> F:
    """Adds --embeddings, --texts and --names to a command, passed as one `AppChoice` called `app`."""
    return gathered(
        function,
        "app",
        AppChoice,
        click.option(
            "--embeddings",
            type=FILE,
            metavar="FILE",
            help="Compare embeddings that an app computed of --images or --texts: .npy, .npz, .jsonl or .safetensors, "
            "one row for each, in the order of the sorted files or of the lines.",
        ),
        click.option(
            "--texts",
            type=FILE,
            metavar="FILE",
            help="With --embeddings: the texts, a .txt with one per line or a .jsonl as `embed` reads it.",
        ),
        click.option(
            "--names",
            type=FILE,
            metavar="FILE",
            help="With --embeddings: the name of each row's image or text, one per line. [default: the file's, if it "
            "has names]",
        ),
    )


def verify_app(app: AppChoice, others: Mapping[str, Any], as_json: bool) -> None:
    """Prints the verdict on an app's embeddings; ends with exit code 1 if they differ."""
    from mobileclip_deploy.errors import GateFailed, UsageError
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    if app.embeddings is None:
        raise UsageError("--texts and --names are for an app's embeddings; name their file with --embeddings")
    refused = [name for name, value in others.items() if value and name not in ("checkpoint", "images")]
    if refused:
        raise UsageError(f"--embeddings takes --images, --texts, --names and --checkpoint; leave {refused[0]} out")
    weights_file(None, others["checkpoint"])

    from mobileclip_deploy.cli.output import conclude, note_provenance, print_json, print_table, progress
    from mobileclip_deploy.cli.terminal import say
    from mobileclip_deploy.network.checkpoints.door import load_model
    from mobileclip_deploy.network.checkpoints.source import Source
    from mobileclip_deploy.verify.embeddings.judging import verify_embeddings

    source = Source.of(load_model(None, others["checkpoint"]))
    note_provenance(source.provenance)
    files = {"images": others["images"], "texts": app.texts, "names": app.names}
    with progress() as update:
        report = verify_embeddings(app.embeddings, checkpoint=source.model, progress=update, **files)
    if as_json:
        print_json(report)
    else:
        rows = [
            [cause.stage, cause.cause, f"{cause.cosine:.6f}", "" if cause.snr_db is None else f"{cause.snr_db:.1f}"]
            for cause in sorted(report.tried, key=lambda cause: -cause.cosine)
            if cause.visible
        ]
        say(report.sentence)
        if rows:
            print_table("causes tried, each alone", ["stage", "cause", ">worst cosine", ">SNR dB"], rows)
        hidden = [cause.cause for cause in report.tried if not cause.visible]
        if hidden:
            say(f"not visible in these inputs: {', '.join(hidden)}")
    if report.verdict == "differs":
        conclude(GateFailed(report.sentence))
