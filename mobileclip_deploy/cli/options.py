"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mobileclip_deploy.cli import completion

if TYPE_CHECKING:
    from mobileclip_deploy.network.checkpoints.source import Source

FILE = click.Path(path_type=Path)
"""Type of a file or folder, which need not exist."""
F = TypeVar("F", bound=Callable[..., Any])
Result = TypeVar("Result")


class ShareType(click.ParamType[float]):
    """A share: 5% or 0.05."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the share as a number from 0 to 1."""
        text = str(value).strip()
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text!r} is not a share, such as 5% or 0.05", param, ctx)


class BundlePath(click.Path):
    """A bundle, or with `others` any other path. A damaged bundle is refused before torch is imported."""

    def __init__(self, *, others: bool = False) -> None:
        super().__init__(path_type=Path)
        self.others = others

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle
        from mobileclip_deploy.base.files.names import LOCK_SUFFIX
        from mobileclip_deploy.network.checkpoints.weights_files import HUB

        if str(value).startswith(HUB) or str(value).endswith(LOCK_SUFFIX):
            from mobileclip_deploy.artifacts.bundle.published import fetch_bundle
            from mobileclip_deploy.cli.output import note

            return fetch_bundle(str(value), note)
        path = Path(value)
        if not self.others or (path / MANIFEST).exists():
            Bundle.open_unchecked(path)
        return path


def model_options(function: F) -> F:
    """Adds --variant, --checkpoint, --download, --image-size and --preprocess to a command, passed as one `ModelChoice`
    called `choice`."""
    return gathered(
        function,
        "choice",
        ModelChoice,
        variant_option,
        click.option(
            "--checkpoint",
            metavar="FILE",
            help="Trained weights, .pt or .safetensors, or hf:OWNER/NAME[@REVISION][:FILE] on the hub.",
        ),
        click.option(
            "--download", is_flag=True, help="Download the variant's published weights from the Hugging Face hub."
        ),
        click.option(
            "--image-size",
            type=int,
            metavar="PIXELS",
            help="Side of the input image, if the checkpoint was fine-tuned at another one. [default: the variant's]",
        ),
        preprocess_option,
    )


variant_option = click.option(
    "--variant",
    metavar="NAME",
    shell_complete=completion.variants,
    help="Network architecture, as listed by `variants`. [default: detected from the checkpoint]",
)
preprocess_option = click.option(
    "--preprocess",
    metavar="openai|card|FILE",
    help="Mean, std and interpolation that the checkpoint was trained with: OpenAI's, its variant card's, or a file "
    "open_clip_config.json. [default: detected from the checkpoint]",
)


def dataset_options(function: F) -> F:
    """Adds --dataset and the options for reading it to a command, passed as one `DatasetChoice` called `data`."""
    return gathered(
        function,
        "data",
        DatasetChoice,
        click.option(
            "--dataset",
            type=FILE,
            metavar="PATH|builtin",
            help="Dataset to measure accuracy on: a path of your own (docs/evaluation.md), or the built-in emoji. "
            "[default: the built-in checkpoint's own; none for other checkpoints]",
        ),
        click.option(
            "--class-names", type=FILE, metavar="FILE", help="Class names: one per line, or lines FOLDER NAME, or JSON."
        ),
        click.option(
            "--template",
            "templates",
            multiple=True,
            metavar="TEXT|FILE",
            help="Prompt for a class, with {} for its name, or a file of such prompts. May be repeated; embeddings "
            "are averaged.",
        ),
        click.option(
            "--images", type=FILE, metavar="DIR", help="Folder of the images that a table or JSON file names."
        ),
        click.option(
            "--split", default="test", show_default=True, help="Split to read from Karpathy's JSON or from shards."
        ),
        click.option("--skip-bad", is_flag=True, help="Leave out unusable rows, and report their count."),
        click.option(
            "--cache",
            type=FILE,
            metavar="DIR",
            help="Folder to keep embeddings in; an interrupted run resumes from it.",
        ),
    )


def gathered(function: F, name: str, kind: type[Any], *options: Callable[[F], F]) -> F:
    """Returns the command with these options, one for each field of `kind`; the command takes one value of that
    name."""

    @functools.wraps(function)
    def collected(**given: Any) -> Any:
        gathered_fields = {field.name: given.pop(field.name) for field in fields(kind)}
        return function(**{name: kind(**gathered_fields)}, **given)

    decorated: Any = collected
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def add_quiet(command: click.Command) -> click.Command:
    """Returns the command with --quiet as its last option."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        from mobileclip_deploy.cli.output import QUIET

        context.meta[QUIET] = value or context.meta.get(QUIET, False)

    text = "Print no progress on stderr; warnings and errors stay."
    command.params.append(click.Option(["--quiet"], is_flag=True, expose_value=False, callback=remember, help=text))
    return command


gate_option = click.option(
    "--gate",
    "gate_texts",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Replace an acceptance bound: semantic, relative, cosine, snr or task. May be repeated.",
)


@dataclass(frozen=True)
class DatasetChoice:
    """Values of the dataset options."""

    dataset: Path | None
    class_names: Path | None
    templates: tuple[str, ...]
    images: Path | None
    split: str
    skip_bad: bool
    cache: Path | None

    def lone(self) -> str | None:
        """Returns the name of a given option that needs the user's own dataset. None if there is none."""
        options = {"--class-names": self.class_names, "--images": self.images}
        return next((name for name, value in options.items() if value is not None), None)

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of the API's functions.

        Raises:
            UsageError: an option for the user's own dataset, without that dataset.
        """
        from mobileclip_deploy.errors import UsageError

        lone = self.lone()
        if self.dataset is None and lone is not None:
            raise UsageError(f"{lone} needs a dataset of your own; name it with --dataset")
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class ModelChoice:
    """Values of the shared options for a model."""

    variant: str | None
    checkpoint: str | None
    download: bool
    image_size: int | None
    preprocess: str | None


def load(choice: ModelChoice, decide: Callable[[Source], Result]) -> Result:
    """Returns the result of `decide` on the checkpoint that the shared options name, by default the built-in one. Notes
    the checkpoint on stderr.

    `decide` refuses unusable checkpoints before the note, so that the error is the only line.

    Raises:
        UsageError: a variant without its checkpoint, or options that contradict each other.
    """
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    weights_file(choice.variant, choice.checkpoint, choice.download)  # refuses before torch is imported

    from mobileclip_deploy.cli.output import note, note_provenance, progress
    from mobileclip_deploy.network.checkpoints.door import load_model
    from mobileclip_deploy.network.checkpoints.source import Source

    with progress() as update:
        model = load_model(
            choice.variant,
            choice.checkpoint,
            download=choice.download,
            image_size=choice.image_size,
            preprocess=choice.preprocess,
            announce=note,
            progress=update,
        )
    source = Source.of(model)
    decided = decide(source)
    note_provenance(source.provenance)
    return decided


class TargetCommand(click.Command):
    """A command that also takes the options of every installed target, by the flags that their fields name.

    The options are looked up when the command is parsed, not when the command line starts: another package's target may
    be slow to import.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from mobileclip_deploy.targets import targets

        core_params = super().get_params(ctx)
        target_params: dict[str, click.Parameter] = {}
        for target in targets().values():
            for field in fields(target.Options):
                target_params.setdefault(field.name, _option(field))
        return [*core_params[:-1], *target_params.values(), *core_params[-1:]]  # the last one is --help

    def invoke(self, ctx: click.Context) -> Any:
        """Calls the command with the targets' options as one argument, `target_options`."""
        known = {param.name for param in self.params}
        ctx.params["target_options"] = {name: ctx.params.pop(name) for name in [*ctx.params] if name not in known}
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command's own options, then those of each target under its title. Options of several targets are
        under their joint title."""
        from mobileclip_deploy.targets import targets

        titles: dict[str, str] = {}  # joined for several targets that share an option
        for target in targets().values():
            for field in fields(target.Options):
                before = titles.get(field.name)
                titles[field.name] = f"{before} and {target.title}" if before else target.title
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                title = titles.get(parameter.name or "")
                groups.setdefault("Options" if title is None else f"Options of {title}", []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _option(field: Field[Any]) -> click.Option:
    """Returns the option of a field. Its default is None, so that a missing option differs from a given default
    value."""
    metadata, text = field.metadata, field.metadata["text"]
    flag, _, bare = metadata["flag"].partition("=")
    if isinstance(field.default, bool):
        return click.Option([flag, field.name], is_flag=True, flag_value=not field.default, default=None, help=text)
    offered = completion.lists(metadata["names"])
    given = {"is_flag": False, "flag_value": bare} if bare else {}
    return click.Option([flag, field.name], metavar=metadata["metavar"], help=text, shell_complete=offered, **given)
