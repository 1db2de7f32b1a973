"""The public functions, in the order in which a script calls them; `import mobileclip_deploy` offers them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from mobileclip_deploy import hub
from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.checkpoints import BUILTIN, builtin_checkpoint, load
from mobileclip_deploy.classifier import LabelSet
from mobileclip_deploy.comparison import Comparison, compare_bundles
from mobileclip_deploy.embedding_files import EmbeddingFile, embed_to_file
from mobileclip_deploy.errors import CheckpointError, GateFailed, InvalidInput, MobileClipDeployError, UsageError
from mobileclip_deploy.evaluation import (
    Dataset,
    EvaluationResult,
    Measurement,
    builtin_dataset,
    bundle_embedder,
    check_tasks,
    measure,
    model_embedder,
    parse_templates,
    read_dataset,
    tower_runner,
)
from mobileclip_deploy.explanation import Explanation, explain_bundle
from mobileclip_deploy.exporting import chosen_towers, export_many
from mobileclip_deploy.folding import FoldReport, fold, is_folded
from mobileclip_deploy.parity import Gates, ParityLock, ParityReport, check_drift, locked_figures, read_lock
from mobileclip_deploy.parity.baseline import LockedBundle
from mobileclip_deploy.precision import parse_precisions
from mobileclip_deploy.preprocess import normalize
from mobileclip_deploy.provenance import Provenance, file_sha256
from mobileclip_deploy.recovery import Recovery, Settings
from mobileclip_deploy.recovery import recover as _recover
from mobileclip_deploy.reference import Reference, sample_inputs
from mobileclip_deploy.reinforcement import AugmentationPolicy, Reinforced, Teacher, read_pairs
from mobileclip_deploy.reinforcement import reinforce as _reinforce
from mobileclip_deploy.samples import read_prompts
from mobileclip_deploy.smallest import Limits, Smallest, find_smallest
from mobileclip_deploy.targets import ExportOptions, Runner, get_target
from mobileclip_deploy.towers import TOWERS, TowerName
from mobileclip_deploy.training import Trained, read_recipe
from mobileclip_deploy.training import train as _train
from mobileclip_deploy.variants import load_variant
from mobileclip_deploy.verification import Progress, TaskReference, check_golden, check_settings, silent, verify_bundle

__all__ = [
    "Bundle",
    "FoldReport",
    "MobileCLIP",
    "MobileClipDeployError",
    "ParityReport",
    "Runner",
    "accept_baseline",
    "accuracy_dataset",
    "check_baseline",
    "compare",
    "embed",
    "evaluate",
    "explain",
    "export",
    "export_smallest",
    "find_checkpoint",
    "load_model",
    "load_runner",
    "recover",
    "reinforce",
    "reparameterize",
    "train",
    "verify",
]

StrPath = str | PathLike[str]


def load_model(
    variant: str | None = None,
    checkpoint: StrPath | None = None,
    *,
    download: bool = False,
    image_size: int | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> MobileCLIP:
    """Load a checkpoint: training form (or folded, if the file is), eval mode, float32.

    Args:
        variant: its name; told from the file when None.
        checkpoint: .pt or .safetensors, or a place on the hub, "hf:owner/name[@revision][:file]"; the built-in nano
            checkpoint when None.
        download: fetch the variant's published checkpoint, from where its card says.
        image_size: in pixels, when it was fine-tuned at another than the variant's.
        announce: called with the licence of the weights before anything is downloaded.
        progress: told how far a download is.

    Raises:
        CheckpointError: the file cannot be had, cannot be read or does not fit the variant.
        UsageError: unknown variant, or one without its checkpoint.
    """
    if download and (variant is None or checkpoint is not None):
        raise UsageError("a download needs the name of a variant, and no checkpoint (--download, --variant NAME)")
    reference = str(checkpoint) if checkpoint is not None else ""
    if download or hub.is_reference(reference):
        source = hub.usual_source(variant) if download and variant else hub.parse(reference)
        fetched = hub.fetch(source, announce=announce, progress=lambda done, total: progress(_downloaded(done, total)))
        return load(fetched.path, variant, image_size, fetched.repository, fetched.revision)
    if checkpoint is not None:
        return load(Path(checkpoint), variant, image_size)
    if variant is not None and load_variant(variant).name != BUILTIN:
        raise UsageError(f"{variant} needs its weights: give --checkpoint FILE, or --download")
    return load(builtin_checkpoint(), BUILTIN, image_size)


def reparameterize(model: MobileCLIP) -> FoldReport:
    """Fold every branch and BatchNorm of a model, in place, and measure on the sample images and prompts what changed.

    Raises:
        FoldingError: training mode, half-folded, or an output that moved by more than rounding explains.
    """
    if is_folded(model):
        return fold(model)
    inputs = sample_inputs(model)
    from torch import from_numpy

    pixels = normalize(from_numpy(inputs.pixels), model.variant.preprocess) if "image" in model.towers else None
    return fold(model, pixels, from_numpy(inputs.ids) if "text" in model.towers else None)


def export(
    model: MobileCLIP,
    target: str,
    precision: str = "fp16",
    output: StrPath = ".",
    *,
    tower: str = "both",
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    verify: bool = True,
    force: bool = False,
    allow_failing: bool = False,
    labels: Sequence[str] = (),
    template: str | None = None,
) -> Bundle:
    """Write a verified bundle to `<output>/<variant>-<target>-<precision>`; whole or not at all.

    Args:
        model: from `load_model`; a training form is folded in place first.
        target: "onnx" or "coreml".
        precision: one for both towers, or "image=fp16,text=fp32".
        tower: "image", "text" or "both".
        labels: two or more: a classifier of them is written instead, the image tower with probabilities out.
        template: the prompt that stands for a label, with `{}` where it goes; the variant's own when None.

    Raises:
        UsageError: a name is unknown, or the destination cannot be used.
        GateFailed: the artifact is too far from the checkpoint; nothing was written, unless `allow_failing`.
        DependencyMissing: the target's packages are not installed.
        ExportError: the converter failed.
    """
    (exported,) = export_many(
        model,
        [get_target(target)],
        [parse_precisions(precision)],
        Path(output),
        tower="image" if labels else tower,
        options=options,
        gates=gates,
        verify=verify,
        force=force,
        labels=LabelSet(tuple(labels), template) if labels else None,
        allow_failing=allow_failing,
        dataset=accuracy_dataset(model),
    )
    return exported.bundle


def export_smallest(
    model: MobileCLIP,
    target: str,
    output: StrPath = ".",
    *,
    tower: str = "both",
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    max_drop: float = 0.5,
    budget: float | None = None,
    dataset: StrPath | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Smallest:
    """Write the smallest bundle that passes to `<output>/<variant>-<target>-smallest`, searched from the smallest up.

    Args:
        model: from `load_model`; a training form is folded in place first.
        target: one, as `export` takes it.
        max_drop: points of top-1 and recall@1 that may be lost on the dataset.
        budget: minutes; a search that ends with them goes on where it was when it is called again.
        dataset: what accuracy is compared on; the built-in checkpoint has its own, others have none.

    Raises:
        GateFailed: nothing passes, or nothing did within the budget; nothing was written.
        UsageError, DependencyMissing, ExportError: as `export`.
    """
    if not max_drop >= 0 or (budget is not None and not budget > 0):
        raise UsageError(f"max_drop {max_drop:g} and budget {budget} must not be below 0")
    return find_smallest(
        model,
        get_target(target),
        Path(output),
        towers=chosen_towers(model, tower),
        options=options,
        gates=gates,
        limits=Limits(max_drop, budget),
        force=force,
        dataset=accuracy_dataset(model, dataset),
        progress=progress,
    )


def verify(
    bundle: Bundle | StrPath,
    *,
    checkpoint: StrPath | None = None,
    images: StrPath | None = None,
    prompts: StrPath | None = None,
    dataset: StrPath | None = None,
    calibration: StrPath | None = None,
    gates: Gates | None = None,
    progress: Progress = silent,
) -> ParityReport:
    """Check a bundle against the checkpoint it was exported from, by both steps, on real images and prompts.

    Args:
        bundle: as returned by `export`, or its folder.
        checkpoint: the source; when None the built-in one, or a file of the recorded name and hash beside the bundle
            or in the working directory. Without it the semantic step is reported as not run.
        images: a folder of images instead of the stored ones; needs the checkpoint.
        prompts: a file of prompts instead of the stored ones; needs the checkpoint.
        calibration: the folder of images that the bundle was calibrated on, if on one of yours: it is converted again.
        dataset: a dataset folder on which to compare accuracy; for the built-in checkpoint its own held-out set.

    Raises:
        InvalidInput: the bundle is damaged, or another checkpoint was given.
        RuntimeFailed: the runtime refused an artifact.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(Path(bundle))
    gates = gates or Gates()
    source = Path(checkpoint) if checkpoint is not None else find_checkpoint(bundle)
    if source is None:
        if images or prompts or dataset:
            raise InvalidInput("images, prompts and datasets of your own need the source checkpoint (--checkpoint)")
        return verify_bundle(bundle, Reference.read(bundle.golden), None, gates, progress=progress)
    model = load_source(bundle.manifest.checkpoint, source)
    progress(f"{bundle.path.name}: reference embeddings")
    stored = Reference.read(bundle.golden)
    vocabulary = bundle.manifest.tokenizer.vocab_size
    if stored.inputs.ids.min(initial=0) < 0 or stored.inputs.ids.max(initial=0) >= vocabulary:
        raise InvalidInput(f"{bundle.golden} is damaged: it holds ids outside of the {vocabulary} of the vocabulary")
    reference = Reference.compute(model, stored.inputs)
    golden = [check_settings(bundle, model), *check_golden(bundle, reference, gates)]
    if images or prompts:
        paths = image_files(Path(images)) if images else []
        inputs = sample_inputs(model, paths, read_prompts(prompts) if prompts else ())
        reference = Reference.compute(model, inputs)
    data = accuracy_dataset(model, dataset) if set(bundle.manifest.towers) == set(TOWERS) else None
    task = TaskReference.compute(model, data, lambda text: progress(f"checkpoint: {text}")) if data else None
    if not is_folded(model):
        fold(model)
    own = Path(calibration) if calibration is not None else None
    report = verify_bundle(bundle, reference, model, gates, task=task, calibration=own, progress=progress)
    return report.model_copy(update={"checks": (*golden, *report.checks)})


def check_baseline(bundle: Bundle | StrPath, report: ParityReport, lock: StrPath) -> ParityReport:
    """The report of `verify` with a check more a tower: whether its figures are those last accepted, within noise.

    Raises:
        InvalidInput: no such lock file, or it does not know this bundle or its checkpoint.
    """
    today = _locked(bundle, report)
    drift = check_drift(report.bundle, today, read_lock(Path(lock)))
    return report.model_copy(update={"checks": (*report.checks, *drift)})


def accept_baseline(bundle: Bundle | StrPath, report: ParityReport, lock: StrPath) -> None:
    """Write the figures of a report of `verify` into a lock file, beside those of other bundles in it.

    Raises:
        GateFailed: a check failed or was not run: what did not pass is not to be accepted.
        InvalidInput: the lock file is damaged.
    """
    if not report.passed:
        raise GateFailed(f"{report.bundle} did not pass every check, so its figures were not accepted")
    path = Path(lock)
    before = read_lock(path) if path.exists() else ParityLock()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(before.accept(report.bundle, _locked(bundle, report)).to_json(), encoding="utf-8")
    temporary.replace(path)


def _locked(bundle: Bundle | StrPath, report: ParityReport) -> LockedBundle:
    manifest = (bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))).manifest
    sizes: dict[str, int] = {tower: entry.bytes for tower, entry in manifest.towers.items()}
    return locked_figures(report, manifest.checkpoint.sha256, sizes)


def explain(
    bundle: Bundle | StrPath,
    *,
    checkpoint: StrPath | None = None,
    calibration: StrPath | None = None,
    progress: Progress = silent,
) -> tuple[Explanation, ...]:
    """Say for each tower of a Core ML bundle at which operation it first parts from its checkpoint, if it does.

    Args:
        bundle: as returned by `export`, or its folder.
        checkpoint, calibration: as for `verify`.

    Raises:
        UsageError: the bundle is of another target, or its checkpoint is not at hand.
        InvalidInput: the bundle is damaged, or another checkpoint was given.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(Path(bundle))
    source = Path(checkpoint) if checkpoint is not None else find_checkpoint(bundle)
    if source is None:
        raise UsageError(
            f"explaining needs the checkpoint {bundle.manifest.checkpoint.file}; give it with --checkpoint"
        )
    model = load_source(bundle.manifest.checkpoint, source)
    if not is_folded(model):
        fold(model)
    images = Path(calibration) if calibration is not None else None
    return explain_bundle(bundle, model, Reference.read(bundle.golden).inputs, progress, calibration=images)


def load_runner(bundle: Bundle | StrPath, tower: TowerName) -> Runner:
    """Load one tower of a bundle to run it here: a callable on numpy arrays (see `targets.Runner`).

    Raises:
        InvalidInput: the bundle is damaged.
        UsageError: it does not hold the tower.
        RuntimeFailed: nothing here can run it.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(Path(bundle))
    return tower_runner(bundle, tower)


def evaluate(
    subject: Bundle | MobileCLIP | StrPath,
    *,
    dataset: StrPath | None = None,
    task: str | None = None,
    templates: Sequence[str] = (),
    class_names: StrPath | None = None,
    images: StrPath | None = None,
    split: str = "test",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> EvaluationResult:
    """Zero-shot classification and retrieval of a bundle, or of a loaded model.

    Args:
        subject: a bundle, its folder, or a model from `load_model`.
        dataset: a dataset's folder or file (docs/datasets.md); the built-in held-out set when None.
        task: "classification" or "retrieval"; all the dataset allows when None.
        templates: prompts with `{}` for the class, or files of them; several are averaged. The dataset's own, or else
            the model's, when there are none.
        class_names: a file of class names, instead of the dataset's own.
        images: the folder of a table's or of Karpathy's images; their own when None.
        split: of Karpathy's files and of CLIP_benchmark's shards.
        skip_bad: leave out rows that cannot be used (`EvaluationResult.skipped`) instead of refusing the first.
        cache: a folder that keeps embeddings, so that an interrupted run goes on where it was; none when None.

    Raises:
        InvalidInput: the dataset or the bundle cannot be used.
        UsageError: the dataset cannot be used for the task, or a template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    prompts = parse_templates(templates)
    data = _dataset(dataset, class_names, images, split, skip_bad)
    tasks = check_tasks(data, (task,) if task else None)
    if isinstance(subject, MobileCLIP):
        embedder = model_embedder(subject)
    else:
        embedder = bundle_embedder(subject if isinstance(subject, Bundle) else Bundle.open(Path(subject)))
    return measure(
        embedder,
        data,
        tasks,
        templates=prompts,
        skip_bad=skip_bad,
        cache=None if cache is None else Path(cache),
        progress=progress,
    ).result


def reinforce(
    pairs: StrPath,
    teachers: Sequence[MobileCLIP],
    output: StrPath,
    *,
    augmentations: int = 4,
    policy: AugmentationPolicy | None = None,
    seed: int = 0,
    shard_rows: int = 256,
    progress: Progress = silent,
) -> Reinforced:
    """Store teachers' embeddings of augmented images and of captions (docs/reinforcement.md); resumes what was stopped.

    Args:
        pairs: a folder with a dataset.json, a .jsonl manifest, or a folder of images.
        teachers: from `load_model`, with both towers; training forms are folded in place.
        output: the dataset's folder.
        augmentations: of each image; `policy` says how far they go.
        seed: of the augmentations.
        shard_rows: pairs in a file.

    Raises:
        UsageError: the folder holds something else.
        InvalidInput: pairs or images cannot be used; what was stored before stays.
    """
    return _reinforce(
        read_pairs(Path(pairs)),
        [Teacher.of(model) for model in teachers],
        Path(output),
        augmentations=augmentations,
        policy=policy,
        seed=seed,
        shard_rows=shard_rows,
        progress=progress,
    )


def train(recipe: StrPath, output: StrPath, *, progress: Progress = silent) -> Trained:
    """Train a model on a reinforced dataset (docs/reinforcement.md), or go on where the same training was stopped.

    Args:
        recipe: a YAML file, see `training.Recipe`.
        output: folder for the checkpoint, the log and the trained weights.

    Raises:
        InvalidInput: the recipe or its data cannot be used.
        UsageError: the folder holds another training.
    """
    return _train(read_recipe(Path(recipe)), Path(output), progress)


def recover(
    model: MobileCLIP,
    precision: str,
    data: StrPath,
    output: StrPath,
    *,
    tower: str = "both",
    work: StrPath | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Recovery:
    """Train towers on the grid of a precision to answer as they did in float (docs/reinforcement.md).

    Args:
        model: from `load_model`; a training form is folded in place.
        precision: one for both towers, or "image=w4,text=w4p".
        data: images and captions like those of the app, as for `reinforce`, or what this checkpoint reinforced.
        output: .safetensors, a folded checkpoint to export at that precision.
        tower: "image", "text" or "both".
        work: where the original's embeddings are kept; beside the output when None.
        settings: how long to train.

    Raises:
        UsageError: the precision cannot be recovered, or the checkpoint lacks a tower.
        InvalidInput: the data or the output cannot be used.
    """
    if tower not in (*TOWERS, "both"):
        raise UsageError(f"unknown tower {tower!r}; known: {', '.join(TOWERS)}, both")
    towers: tuple[TowerName, ...] = tuple(name for name in TOWERS if tower in (name, "both"))
    precisions, output = parse_precisions(precision, towers), Path(output)
    folder = Path(work) if work is not None else output.with_suffix(".embeddings")
    return _recover(model, precisions, Path(data), output, work=folder, settings=settings, progress=progress)


def compare(
    bundles: Sequence[Bundle | StrPath],
    *,
    dataset: StrPath | None = None,
    checkpoint: StrPath | None = None,
    gates: Gates | None = None,
    templates: Sequence[str] = (),
    class_names: StrPath | None = None,
    images: StrPath | None = None,
    split: str = "test",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Bundles side by side: bytes, deviation on their golden inputs, accuracy, and whether the gates are held.

    Accuracy is compared with the checkpoint's, or with that of the first bundle of the same embedding space.

    Args:
        bundles: as returned by `export`, or their folders.
        dataset, templates, class_names, images, split, skip_bad, cache: as for `evaluate`.
        checkpoint: the source of the bundles; found as for `verify` when None.

    Raises:
        InvalidInput: the dataset or a bundle cannot be used, or the checkpoint given is no bundle's.
        UsageError: no bundle, or one twice.
        RuntimeFailed: a runtime refused an artifact.
    """
    opened = [bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle)) for bundle in bundles]
    prompts = parse_templates(templates)
    data = _dataset(dataset, class_names, images, split, skip_bad)
    folder = None if cache is None else Path(cache)
    given = None if checkpoint is None else file_sha256(Path(checkpoint))
    if given is not None and all(bundle.manifest.checkpoint.sha256 != given for bundle in opened):
        raise InvalidInput(f"{checkpoint} is not the checkpoint of any of these bundles")

    def source(bundle: Bundle) -> Measurement | None:
        own = given is not None and bundle.manifest.checkpoint.sha256 == given
        path = Path(checkpoint) if own and checkpoint is not None else find_checkpoint(bundle)
        if path is None:
            return None
        return measure(
            model_embedder(load_source(bundle.manifest.checkpoint, path)),
            data,
            templates=prompts,
            skip_bad=skip_bad,
            cache=folder,
            progress=lambda text: progress(f"checkpoint: {text}"),
        )

    return compare_bundles(
        opened,
        data,
        source,
        gates or Gates(),
        templates=prompts,
        skip_bad=skip_bad,
        cache=folder,
        progress=progress,
    )


def embed(
    bundle: Bundle | StrPath,
    sources: Sequence[StrPath],
    output: StrPath,
    *,
    normalise: bool = False,
    skip_bad: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> EmbeddingFile:
    """Write a bundle's embeddings of image files and folders, or of one file of texts; see
    `embedding_files.embed_to_file`.

    Raises:
        UsageError: the output cannot be used, or the bundle lacks the tower.
        InvalidInput: a source cannot be read, or holds nothing.
        RuntimeFailed: nothing here can run the bundle.
    """
    return embed_to_file(
        bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle)),
        [Path(source) for source in sources],
        Path(output),
        normalise=normalise,
        skip_bad=skip_bad,
        force=force,
        progress=progress,
    )


def _dataset(
    dataset: StrPath | None, class_names: StrPath | None, images: StrPath | None, split: str, skip_bad: bool
) -> Dataset:
    if dataset is None:
        return builtin_dataset()
    return read_dataset(
        Path(dataset),
        class_names=None if class_names is None else Path(class_names),
        images=None if images is None else Path(images),
        split=split,
        skip_bad=skip_bad,
    )


def accuracy_dataset(model: MobileCLIP, dataset: StrPath | None = None) -> Dataset | None:
    """What a checkpoint's accuracy is compared on: the built-in one has a dataset of its own, others have none."""
    if dataset is not None:
        return read_dataset(Path(dataset))
    return builtin_dataset() if model.provenance is not None and model.provenance.builtin else None


def find_checkpoint(bundle: Bundle) -> Path | None:
    """The source checkpoint of a bundle, if it is the built-in one or lies beside the bundle or in the working
    directory; None otherwise."""
    wanted = bundle.manifest.checkpoint
    folders = (*bundle.path.absolute().parents[:2], Path.cwd())  # a bundle may lie in the root folder
    places = [builtin_checkpoint()] if wanted.builtin else [folder / wanted.file for folder in folders]
    return next((path for path in places if path.is_file() and file_sha256(path) == wanted.sha256), None)


def load_source(wanted: Provenance, path: Path) -> MobileCLIP:
    """Load the checkpoint that a bundle names.

    Raises:
        CheckpointError: it is another one.
    """
    model = load(path, wanted.variant, wanted.image_size)
    assert model.provenance is not None
    if model.provenance.sha256 != wanted.sha256:
        raise CheckpointError(f"{path} is not the checkpoint this bundle was exported from (sha256 {wanted.sha256})")
    return model


def _downloaded(done: int, total: int | None) -> str:
    return f"downloading {done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")


def image_files(folder: Path) -> list[Path]:
    """All files of a folder, by name; hidden ones are left out.

    Raises:
        InvalidInput: not a folder, or empty.
    """
    if not folder.is_dir():
        raise InvalidInput(f"no folder of images at {folder}")
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise InvalidInput(f"{folder} holds no images")
    return files
