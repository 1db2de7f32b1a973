"""Plan of an export: turns a request into a plan once, and refuses what cannot be done.

`plan_export` decides everything that `export.request` left to the checkpoint. Later steps decide nothing again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import MANIFEST
from mobileclip_deploy.artifacts.bundle.licences import require_product
from mobileclip_deploy.artifacts.heads.contexts import chosen_contexts
from mobileclip_deploy.artifacts.heads.label_prompts import check_label_prompts
from mobileclip_deploy.artifacts.towers.head import EMBEDDING, Head
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import check_bundle_destination
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import accuracy_dataset
from mobileclip_deploy.export.request import BYTES, SMALLEST, Choices, ExportRequest, Limits, wanted_towers
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.folding import fold_structure
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.precision import precision_label
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, Variant
from mobileclip_deploy.rounding.calibration_set import CalibrationSet, read_calibration_set
from mobileclip_deploy.spaces.compacting import FittingSet, check_size, read_fitting_set
from mobileclip_deploy.spaces.relevance_learning import LearnedRelevance
from mobileclip_deploy.spaces.relevance_set import RelevanceSet, read_relevance_set
from mobileclip_deploy.spaces.tags.examples import ExampleSet, read_examples
from mobileclip_deploy.targets import Form, Target
from mobileclip_deploy.targets.storage import layers
from mobileclip_deploy.verify.instruments.pace import duration_notice


@dataclass(frozen=True)
class BundlePlan:
    """Plan of one bundle: path, target with resolved options, and the precision of each tower.

    `request`: with all decisions for this checkpoint. `four_bit`: the 4-bit layers of precision "mixed", see
    `TowerJob`. `learned_on`: samples to learn rounding from; None if all weights are rounded to the nearest.
    `relevance`: threshold of a match, once it is learned. `search`: limits of the search, if precisions are to be
    found.
    """

    path: Path
    target: Target
    precisions: Mapping[TowerName, str]
    request: ExportRequest
    four_bit: Mapping[TowerName, frozenset[str]] = field(default_factory=dict)
    learned_on: CalibrationSet | None = None
    relevance: LearnedRelevance | None = None
    search: Limits | None = None

    @property
    def form(self) -> Form:
        """Requested form of the artifacts."""
        request = self.request
        return Form(
            len(request.head.names),
            request.head.normalised,
            request.input == BYTES,
            request.layout,
            request.contexts,
            self.target.capabilities.ports.pads_inside,
        )

    @property
    def towers(self) -> tuple[TowerName, ...]:
        """Exported towers, in order."""
        return tuple(self.precisions)


@dataclass(frozen=True)
class ExportPlan:
    """Everything that an export does.

    `dataset`: on which accuracy is compared. `notes`: as in `Choices`. `fitted_to`: samples to fit axes of smaller
    embeddings to; None for full ones. `background`: samples to learn "nothing found" from. `examples`: pictures to
    learn the head's labels from.
    """

    source: Source
    bundles: tuple[BundlePlan, ...]
    dataset: Dataset | None
    notes: tuple[str, ...] = ()
    fitted_to: FittingSet | None = None
    background: RelevanceSet | None = None
    examples: ExampleSet | None = None


def plan_export(choices: Choices, source: Source) -> ExportPlan:
    """Decides the rest: the towers that the checkpoint has, each bundle's path, resolved options.

    Raises:
        UsageError: the checkpoint lacks a tower, or a destination cannot be used.
    """
    if choices.request.for_product:
        require_product(source.variant)
    request, model = choices.request, source.model
    _require_variant(request, source.variant)
    towers: tuple[TowerName, ...] = tuple(t for t in TOWERS if t in model.towers and t in wanted_towers(request))
    if not towers:
        raise UsageError(
            f"this checkpoint has no {request.tower} tower; export the one it has with `tower='{model.towers[0]}'`"
        )
    tags = request.tags
    if tags is not None and model.trained_head is not None:
        raise UsageError("the checkpoint has a trained head, which `examples` do not change; leave `examples` out")
    request.head.check(model, towers, tags is None or tags.with_texts)
    if "text" not in towers and request.contexts:
        raise UsageError("`contexts` are for the text tower, which this checkpoint does not have; leave them out")
    if request.contexts:
        request = replace(request, contexts=chosen_contexts(source.variant, request.contexts))
    judged_by = cache(lambda: accuracy_dataset(source, request.dataset))  # read once, and only if needed
    fitted_to, compact = None, request.compact
    if compact is not None:  # without the samples that the axes will be judged by
        check_size(compact.size, source.variant, source.model.towers)
        fitted_to = read_fitting_set(compact.size, compact.pictures, compact.captions, source.variant, judged_by())
    learned_on = _learned_on(request, source, towers, judged_by)
    layer_names = cache(lambda: _layers(source, towers, request.head))
    bundles = {}
    for target, precisions in choices.pairs:
        plan = _bundle(request, source, target, dict.fromkeys(towers, "") if precisions is None else precisions, towers)
        plan = replace(plan, learned_on=learned_on)
        plan.target.options.require_layers(layer_names)
        bundles[plan.path] = plan  # each once: a checkpoint of one tower makes the same of image=a,text=b and image=a
    for path in bundles:
        check_bundle_destination(path, MANIFEST, request.writing.force)
    dataset = judged_by() if towers == TOWERS and request.writing.verify else None
    sample_sets = (samples for samples in (fitted_to, learned_on) if samples is not None)
    notes = tuple(note for samples in sample_sets for note in samples.notes)
    if request.head.labels is not None and (tags is None or tags.with_texts):
        labels, variant = request.head.labels, source.variant
        notes += check_label_prompts(labels.names, labels.template_for(variant), variant.tokens)
    planned = [plan for plan in bundles.values() if request.writing.verify and plan.search is None]
    name, size = source.variant.name, source.variant.preprocess.size
    durations = [duration_notice(plan.target, name, size, plan.precisions) for plan in planned]
    notes += tuple(dict.fromkeys(filter(None, durations)))
    background = None
    if request.background is not None:
        if "text" not in towers or "image" not in towers:
            raise UsageError("`background` learns when a text search finds nothing, which needs both towers")
        background = read_relevance_set(request.background, request.queries)
        notes += background.notes
    examples = None
    if tags is not None and request.head.labels is not None:
        examples = read_examples(tags, request.head.labels)
        notes += examples.notes
    return ExportPlan(source, tuple(bundles.values()), dataset, notes, fitted_to, background, examples)


def _require_variant(request: ExportRequest, variant: Variant) -> None:
    """Raises UsageError for a head, an input or a layout that the variant cannot have."""
    if request.input == BYTES and variant.preprocess.resize == "squash":
        raise UsageError(f"{variant.name} squashes pictures, but `input='bytes'` crops them; leave it out")
    if request.layout is not None:
        request.layout.require_variant(variant)
    request.head.require_variant(variant)


def _layers(source: Source, towers: Sequence[TowerName], head: Head) -> dict[TowerName, tuple[str, ...]]:
    """Returns the names of each tower's weights in the module that is converted."""
    model = fold_structure(build_model(source.variant, "meta", source.model.towers))
    around = "" if head == EMBEDDING else "tower."
    return {tower: tuple(around + layer.parameter for layer in layers(make_tower(model, tower))) for tower in towers}


def _learned_on(
    request: ExportRequest, source: Source, towers: Sequence[TowerName], judged_by: Callable[[], Dataset | None]
) -> CalibrationSet | None:
    """Reads the samples to learn rounding from, without those that it will be judged by. None if rounding is not
    learned."""
    if not request.learns:
        return None
    assert request.calibration is not None
    dataset = judged_by() if request.writing.verify else None
    return read_calibration_set(request.calibration, source.variant, towers, dataset)


def _bundle(
    request: ExportRequest, source: Source, target: Target, named: Mapping[TowerName, str], towers: Sequence[TowerName]
) -> BundlePlan:
    precisions = {tower: named[tower] for tower in towers}
    label = SMALLEST if request.searched else precision_label(precisions)
    layout = request.layout
    if layout is not None and not request.searched:
        for tower, precision in precisions.items():  # refused before anything is converted
            layout.file(source.variant, "classifier" if request.head.names else tower, precision)
    kind = "-classifier" if request.head.names else ""
    if request.head.normalised and not (layout is not None and layout.normalised):
        kind = "-normalised"
    if request.input == BYTES and not (layout is not None and layout.pictures):
        kind += "-bytes"
    if request.contexts:
        kind += "-contexts"
    # A layout's name replaces its target's; the suffix for the target's backend stays.
    called = target.label if layout is None else layout.name + target.label.removeprefix(target.name)
    if request.compact is not None:
        called = f"e{request.compact.size}-{called}"
    return BundlePlan(
        path=request.output / f"{source.variant.name}-{called}-{label}{kind}",
        target=target if request.searched else target.settled(precisions),
        precisions=precisions,
        request=request,
        search=(request.limits or Limits()) if request.searched else None,
    )
