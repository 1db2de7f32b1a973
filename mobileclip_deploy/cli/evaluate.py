"""`evaluate`: task accuracy of a bundle or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli.commands import of_wing
from mobileclip_deploy.cli.options import FILE, BundlePath, DatasetChoice, dataset_options, json_option

if TYPE_CHECKING:
    from mobileclip_deploy.evaluation.dataset import Dataset
    from mobileclip_deploy.network.model.loaded import MobileCLIP
    from mobileclip_deploy.network.model.preprocessing import Pixels


@click.command()
@click.argument("subject", type=BundlePath(others=True), required=False, metavar="[BUNDLE|CHECKPOINT]")
@dataset_options
@click.option(
    "--task",
    type=click.Choice(["classification", "retrieval"]),
    help="Task to measure. [default: all that the dataset allows]",
)
@click.option("--language", metavar="CODE", help="Language of classes and captions, where dataset.json has several.")
@click.option(
    "--suite",
    type=click.Choice(["datacomp"]),
    help="Measure all datasets of a benchmark suite, each by its own metric.",
)
@click.option("--data", "suite_data", type=FILE, metavar="DIR", help="With --suite: folder of the suite's datasets.")
@click.option(
    "--pixels",
    type=click.Choice(["app", "reference"]),
    help="Pixels as an app shows pictures, or as open_clip computes them. [default: app; with --suite: reference]",
)
@click.option(
    "--html", type=FILE, metavar="FILE", help="Also write a page of wrongly labelled pictures, or of the suite."
)
@click.option("--force", is_flag=True, help="With --html: replace an existing page.")
@json_option
def evaluate(
    subject: Path | None,
    data: DatasetChoice,
    task: str | None,
    language: str | None,
    suite: str | None,
    suite_data: Path | None,
    pixels: Pixels | None,
    html: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure zero-shot classification and retrieval.

    A dataset is a folder of class folders (as ImageNet's validation set), a folder with a dataset.json, a table of
    images with labels or texts (.csv, .tsv, .jsonl), Flickr30k's or COCO's Karpathy JSON, or a folder of shards as
    CLIP_benchmark writes them: see docs/evaluation.md.

    \b
    Examples:
      mobileclip-deploy evaluate                          # the built-in checkpoint on its held-out set
      mobileclip-deploy evaluate out/nano-onnx-fp16
      mobileclip-deploy evaluate models/nano/languages/weights.safetensors --dataset builtin --language de
      mobileclip-deploy evaluate out/mobileclip_s0-onnx-fp16 --dataset imagenet/val --class-names LOC_synset_mapping.txt
      mobileclip-deploy evaluate out/mobileclip_s0-onnx-fp16 --dataset dataset_flickr30k.json --images flickr30k-images
      mobileclip-deploy evaluate out/mobileclip_s0-onnx-fp16 --suite datacomp --data evalsets/ --cache kept/
    """
    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.evaluation.templates import parse_templates

    if (suite is None) != (suite_data is None) or (force and html is None) or (html and task == "retrieval"):
        raise UsageError("--suite needs --data, --force needs --html, and --html goes without --task retrieval")
    single = data.dataset is not None or task is not None or language is not None
    if suite is not None and (single or data.lone() or data.templates):
        raise UsageError("--suite has its own datasets, tasks and templates; leave options for one dataset out")
    options = data.arguments()
    if suite is not None and suite_data is not None:
        evaluate_suite = of_wing("evaluate.suite")
        click.get_current_context().exit(
            evaluate_suite(subject, (suite, suite_data, html, force, pixels or "reference"), data, as_json)
        )
    write_page = None if html is None else of_wing("evaluate.html")(html, force)
    dataset = _read(data, "classification" if html else task)
    templates = parse_templates(data.templates)
    check_subject(subject)

    from mobileclip_deploy import evaluate as run
    from mobileclip_deploy.base.progress import rate
    from mobileclip_deploy.cli.output import note, print_json, progress, quiet
    from mobileclip_deploy.cli.tables import note_skipped, print_evaluation
    from mobileclip_deploy.evaluation.door import evaluate_on
    from mobileclip_deploy.evaluation.evaluate import Measuring
    from mobileclip_deploy.network.model.loaded import MobileCLIP

    model = open_subject(subject)
    with progress() as update:
        if dataset is None or language is not None:
            result = run(model, task=task, language=language, pixels=pixels or "app", progress=update, **options)
        else:
            whole = model if isinstance(model, MobileCLIP) else Bundle.of(model)
            how = Measuring(templates, data.skip_bad, data.cache, pixels=pixels or "app")
            result = evaluate_on(whole, dataset, task, how, update)
    if write_page is not None:
        write_page(result)
    note_skipped(result.skipped)
    if result.images_per_second is not None and not quiet():
        note(f"{rate(result.images_per_second)} images a second.")
    if as_json:
        print_json(result)
    else:
        print_evaluation(result)


def is_bundle(subject: Path | None) -> bool:
    """Returns whether a path is a bundle's folder rather than a checkpoint."""
    from mobileclip_deploy.network.checkpoints.weights_files import checkpoint_file

    return subject is not None and subject.is_dir() and checkpoint_file(subject) == subject


def check_subject(subject: Path | None) -> None:
    """Refuses a bundle or a checkpoint that cannot be opened, before torch is imported."""
    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    if subject is not None and is_bundle(subject):
        Bundle.open_unchecked(subject)
    else:
        weights_file(None, subject)


def open_subject(subject: Path | None) -> Path | MobileCLIP:
    """Returns a bundle's folder unchanged, or the model of a checkpoint, whose provenance is printed on stderr."""
    if subject is not None and is_bundle(subject):
        return subject
    from mobileclip_deploy import load_model
    from mobileclip_deploy.cli.output import note_provenance

    model = load_model(None, subject)
    note_provenance(model.origin)
    return model


def _read(data: DatasetChoice, task: str | None) -> Dataset | None:
    """Returns the named dataset, read before torch is imported, so that its errors come at once."""
    from mobileclip_deploy.cli.output import reading
    from mobileclip_deploy.evaluation.dataset import check_tasks
    from mobileclip_deploy.evaluation.dataset_files import read_dataset, require_discriminating

    if data.dataset is None:
        return None
    with reading(data.dataset):
        dataset = read_dataset(
            data.dataset, class_names=data.class_names, images=data.images, split=data.split, skip_bad=data.skip_bad
        )
    check_tasks(require_discriminating(dataset), (task,) if task else None)
    return dataset
