"""Request of an export, and the decisions that need no checkpoint.

`ExportRequest` is a user's request, made by `parse_request` for the command line and for Python. `choose` makes all
decisions that need no checkpoint, so that impossible requests are refused before torch is imported and a file is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

from mobileclip_deploy.artifacts.layouts import Layout, read_layout
from mobileclip_deploy.artifacts.towers.calibration import PROMPT_FILES, check_calibration
from mobileclip_deploy.artifacts.towers.head import EMBEDDING, Head, read_head
from mobileclip_deploy.base.files import StrPath, check_output_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import DependencyMissing, UsageError
from mobileclip_deploy.evaluation.dataset_files import check_dataset
from mobileclip_deploy.evaluation.minimum_samples import (
    LEAST_BACKGROUND,
    ROUNDING,
    Needed,
    axes_pictures,
    check_background,
)
from mobileclip_deploy.network.model.image_files import walk_images
from mobileclip_deploy.network.model.precision import parse_precisions, precision_label
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, load_variant, variant_names
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.rounding.methods import METHODS, check_folder, check_rounding
from mobileclip_deploy.spaces.tags.examples import TagsRequest, folder_labels
from mobileclip_deploy.targets import Form, Target, chosen_targets, names_all, targets


class ExportChoices(TypedDict, total=False):
    """Keywords of `export` and `export_all`, and options of the command. None is the same as left out: the default."""

    tower: str
    options: Mapping[str, Any] | None
    calibration: StrPath | None
    rounding: str
    background: StrPath | None
    queries: StrPath | None
    gates: Gates | None
    verify: bool
    force: bool
    allow_failing: bool
    labels: str | Sequence[str] | None
    examples: StrPath | None
    false_tags: float | None
    template: str | None
    layout: StrPath | None
    normalise: bool
    input: str
    contexts: Sequence[int]
    max_drop: float | None
    max_size: float | None
    budget: float | None
    dataset: StrPath | None
    embedding_size: int | None
    fit: StrPath | None
    captions: StrPath | None
    for_product: bool
    licence_text: StrPath | None
    progress: Progress


SMALLEST = "smallest"
"""The precision that requests a search for the smallest bundle that passes."""


BYTES = "bytes"
INPUTS = ("pixels", BYTES)
LARGEST_TEXT = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of a search: points of top-1 and recall@1 that may be lost; minutes, None for no limit; and MB (10^6
    bytes) of all artifacts, None for no limit.

    Raises:
        UsageError: `budget` or `max_size` is not above 0, or `max_drop` is below 0; or one is not a number.
    """

    max_drop: float = 0.5
    budget: float | None = None
    max_size: float | None = None

    def __post_init__(self) -> None:
        above = {"budget": self.budget, "max_size": self.max_size}
        wrong = next((name for name, value in above.items() if value is not None and not value > 0), None)
        if wrong is not None:
            raise UsageError(f"`{wrong}` {above[wrong]:g} must be above 0")
        if not self.max_drop >= 0:
            raise UsageError(f"`max_drop` {self.max_drop:g} must be at least 0")


@dataclass(frozen=True)
class Writing:
    """Options of writing a bundle. `verify`: only after every check has passed. `force`: replace an existing one.
    `allow_failing`: even if a check failed, marked as such."""

    verify: bool = True
    force: bool = False
    allow_failing: bool = False


@dataclass(frozen=True)
class CompactRequest:
    """Request for embeddings of `size` dimensions, on axes fitted to the `pictures` of a folder and to `captions` (see
    `spaces.compacting.read_fitting_set`).

    Raises:
        UsageError: the size is below 1, or the folder or the file is missing.
    """

    size: int
    pictures: Path
    captions: Path | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"`embedding_size` {self.size} must be at least 1")
        if not self.pictures.is_dir():
            raise UsageError(f"`fit` {self.pictures}: no such folder; give one with pictures like the app's")
        if self.captions is not None and not self.captions.is_file():
            raise UsageError(
                f"`captions` {self.captions}: no such file; give one with a text per line, or leave it out"
            )


def asked_compact(size: int | None, fit: StrPath | None, captions: StrPath | None) -> CompactRequest | None:
    """Makes a request for smaller embeddings from three options. None if all three are left out.

    Raises:
        UsageError: one is given without another that it needs.
    """
    if size is None and fit is None and captions is None:
        return None
    if size is None or fit is None:
        raise UsageError("`embedding_size` needs `fit`, a folder of pictures like the app's, and `captions` needs both")
    return CompactRequest(size, Path(fit), None if captions is None else Path(captions))


USUAL_GATES, USUALLY = Gates(), Writing()


@dataclass(frozen=True)
class ExportRequest:
    """Request of a user, from the command line or `export.door.export`, whose arguments are the fields.

    `targets` and `precisions` are texts, as on the command line ("onnx,coreml", "image=fp16,text=w8"); without
    precisions each target has its default one, or the layout's. `options`: those that are None were not given.
    `compact`: smaller embeddings. `tags`: pictures to learn the head's labels from. `limits`: of a search, for
    "smallest".
    """

    targets: tuple[str, ...]
    precisions: tuple[str, ...] = ()
    output: Path = Path()
    tower: str = "both"
    head: Head = EMBEDDING
    options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Path | None = None
    rounding: str = METHODS[0]
    background: Path | None = None
    queries: Path | None = None
    gates: Gates = USUAL_GATES
    limits: Limits | None = None
    writing: Writing = USUALLY
    dataset: Path | None = None
    layout: Layout | None = None
    input: str = "pixels"
    contexts: tuple[int, ...] = ()
    compact: CompactRequest | None = None
    tags: TagsRequest | None = None
    for_product: bool = False
    licence_text: Path | None = None

    @property
    def learns(self) -> bool:
        """True if rounding is to be learned."""
        return self.rounding != METHODS[0]

    @property
    def searched(self) -> bool:
        """True if the smallest bundle is requested instead of a precision."""
        return any(text.strip().lower() == SMALLEST for text in self.precisions)


@dataclass(frozen=True)
class Choices:
    """A request with the decisions that need no checkpoint: targets and precisions, one bundle per pair.

    `precisions` has both towers; a checkpoint of one tower takes its own. None requests a search. `notes`: sentences
    for the user about the decisions.
    """

    request: ExportRequest
    pairs: tuple[tuple[Target, dict[TowerName, str] | None], ...]
    notes: tuple[str, ...]


def parse_request(
    targets: Sequence[str], precisions: Sequence[str], output: StrPath, choices: ExportChoices
) -> ExportRequest:
    """Makes the request from a user's arguments; an argument that is left out has the default of `ExportRequest`.

    Raises:
        UsageError, InvalidInput: labels, a layout or a limit that is not valid.
    """
    given_choices: dict[str, Any] = {
        name: value for name, value in choices.items() if value is not None and name != "progress"
    }
    labels = given_choices.pop("labels", None)
    tags = given_choices["tags"] = _requested_tags(given_choices, labels is not None)
    if tags is not None and labels is None:
        labels = folder_labels(tags.examples).names
    head = read_head(labels, given_choices.pop("template", None), given_choices.pop("normalise", False))
    writing = {
        option.name: given_choices.pop(option.name) for option in fields(Writing) if option.name in given_choices
    }
    limits = {option.name: given_choices.pop(option.name) for option in fields(Limits) if option.name in given_choices}
    readers: dict[str, Callable[[Any], Any]] = {"layout": read_layout, "contexts": tuple}
    readers |= dict.fromkeys(("calibration", "dataset", "background", "queries", "licence_text"), Path)
    given_choices |= {name: reader(given_choices[name]) for name, reader in readers.items() if name in given_choices}
    given_choices |= {"limits": Limits(**limits)} if limits else {}
    given_choices["compact"] = asked_compact(
        *(given_choices.pop(name, None) for name in ("embedding_size", "fit", "captions"))
    )
    return ExportRequest(
        tuple(targets), tuple(precisions), Path(output), head=head, writing=Writing(**writing), **given_choices
    )


def _requested_tags(choices: dict[str, Any], with_texts: bool) -> TagsRequest | None:
    """Takes the options of learned labels out of a user's arguments. None without `examples`.

    Raises:
        UsageError: an option needs another, or is not valid.
    """
    examples, false_tags = choices.pop("examples", None), choices.pop("false_tags", None)
    if examples is None:
        of_labels = with_texts and choices.get("background") is not None
        if of_labels or false_tags is not None:
            name = "`background` with `labels`" if of_labels else "`false_tags`"
            raise UsageError(f"{name} needs `examples`, a folder with a folder of pictures per label")
        return None
    background = choices.pop("background", None)
    aim = {} if false_tags is None else {"false_tags": false_tags}
    return TagsRequest(Path(examples), None if background is None else Path(background), with_texts=with_texts, **aim)


def choose(request: ExportRequest) -> Choices:
    """Decides everything that needs no checkpoint.

    Raises:
        UsageError: a name is unknown, an option belongs to no named target, or a precision is not available.
        InvalidInput: a folder to learn from has no or too few images, or there is no dataset at the path given.
        DependencyMissing: a target's packages are not installed.
    """
    request = _apply_layout(request)
    towers = wanted_towers(request)
    check_learning(request)
    check_output_folder(request.output)
    if request.dataset is not None:
        check_dataset(request.dataset)
    if request.licence_text is not None:
        _check_text(request.licence_text)
    _check_relevance(request, towers)
    every = names_all(request.targets)
    chosen, notes = [*chosen_targets(request.targets, request.options)], list[str]()
    if every:
        chosen, notes = _installed(chosen)
    if request.input not in INPUTS:
        raise UsageError(f"unknown `input` {request.input!r}; known: {', '.join(INPUTS)}")
    if request.input == BYTES and "image" not in towers:
        raise UsageError("`input='bytes'` is for the image tower; leave it out")
    form = Form(pictures=request.input == BYTES, layout=request.layout, contexts=tuple(request.contexts))
    if request.contexts and "text" not in towers:
        raise UsageError("`contexts` are for the text tower; leave them out")
    if request.contexts and request.searched:
        raise UsageError("`precision='smallest'` searches towers of one length; leave `contexts` out")
    for target in chosen:
        target.require_form(form)
    _check_pictures(request, towers)
    if request.searched:
        _check_search(request, chosen)
        return Choices(request, tuple((target, None) for target in chosen), tuple(notes))
    if request.limits is not None:
        raise UsageError("`max_drop`, `max_size` and `budget` need `precision='smallest'`")
    named = [parse_precisions(text, towers, (SMALLEST,)) for text in request.precisions]
    pairs: list[tuple[Target, dict[TowerName, str] | None]] = []
    for target in chosen:
        for precisions in named or [parse_precisions(target.capabilities.storing.default_precision, towers)]:
            if every and not target.has(precisions):
                notes.append(f"{target.label} has no {precision_label(precisions)}: left out.")
                continue
            target.require(precisions)
            if request.learns:
                check_rounding(target, precisions)
            elif request.calibration is not None:
                check_calibration(precisions, request.calibration)
            pairs.append((target, precisions))
            if (advice := target.advice(precisions)) is not None:
                notes.append(advice)
    return Choices(request, tuple(pairs), tuple(notes))


def _check_text(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"`licence_text` {path}: no such file; give the text that came with your copy of the weights")
    if not 0 < path.stat().st_size <= LARGEST_TEXT:
        raise UsageError(f"`licence_text` {path} is empty, or too large for a licence ({LARGEST_TEXT:,} bytes)")


def _apply_layout(request: ExportRequest) -> ExportRequest:
    """Returns the request with its layout's settings for everything that the user left out.

    Raises:
        UsageError: neither a target nor a layout is named.
    """
    layout = request.layout
    if layout is None:
        if not request.targets:
            raise UsageError(f"no target is given; known: {', '.join(targets())}, all; or name an app's `layout`")
        return request
    head = request.head
    if layout.normalised and not head.names:
        head = replace(head, normalised=True)
    return replace(
        request,
        targets=request.targets or (layout.target,),
        precisions=request.precisions or ((layout.precision,) if layout.precision is not None else ()),
        options={**layout.options, **{name: value for name, value in request.options.items() if value is not None}},
        head=head,
        input=BYTES if layout.pictures else request.input,
        # The target's default layout is not recorded as an app's layout.
        layout=None if layout.default else layout,
    )


def _installed(chosen: Sequence[Target]) -> tuple[list[Target], list[str]]:
    """Returns the targets whose packages are installed, and one line per target that is left out.

    Not every format has packages everywhere.

    Raises:
        DependencyMissing: none is installed.
    """
    installed, missing = [], []
    for target in chosen:
        try:
            target.require_installed(converters=True)
            installed.append(target)
        except DependencyMissing as error:
            missing.append(error)
    if not installed:
        raise missing[0]
    return installed, [f"Left out: {error}" for error in missing]


def wanted_towers(request: ExportRequest) -> tuple[TowerName, ...]:
    """Returns the requested towers, even if the checkpoint lacks one; for a classifier the image tower."""
    if request.tower not in (*TOWERS, "both"):
        raise UsageError(f"unknown tower {request.tower!r}; known: {', '.join(TOWERS)}, both")
    if request.head.names and request.tower == "text":
        raise UsageError("`labels` make a classifier of the image tower; leave `tower='text'` out")
    requested_tower = "image" if request.head.names else request.tower
    towers = tuple(tower for tower in TOWERS if requested_tower in (tower, "both"))
    if request.layout is None or request.head.names:
        return towers
    in_layout = tuple(tower for tower in towers if tower in request.layout.towers)
    if not in_layout:
        raise UsageError(f"the layout {request.layout.name} has no {request.tower} tower; leave `tower` out")
    return in_layout


def check_learning(request: ExportRequest) -> None:
    """Refuses learned rounding that is not possible, or that lacks its calibration folder."""
    if request.rounding not in METHODS:
        raise UsageError(f"unknown rounding {request.rounding!r}; known: {', '.join(METHODS)}")
    if not request.learns:
        return
    if request.calibration is None:
        raise UsageError(
            f"`rounding='{request.rounding}'` is learned on pictures and captions like the app's; name their folder "
            "with `calibration`"
        )
    check_folder(request.calibration)
    if request.searched:
        raise UsageError("`precision='smallest'` searches with rounding to the nearest; leave `rounding` out")
    if request.head.names:
        raise UsageError("rounding is learned for towers, not for classifiers; leave `rounding` out")


def _check_relevance(request: ExportRequest, towers: Sequence[TowerName]) -> None:
    """Refuses background pictures if no text search is possible."""
    if request.queries is not None and request.background is None:
        raise UsageError("`queries` need `background`, a folder of at least 256 pictures of all kinds")
    if request.background is None:
        return
    if towers != TOWERS:
        raise UsageError("`background` learns when a text search finds nothing; export both towers, or leave it out")
    if request.searched:
        raise UsageError(
            "`precision='smallest'` writes no `background`; export the resulting precision with `background`"
        )


def _check_pictures(request: ExportRequest, towers: Sequence[TowerName]) -> None:
    """Refuses folders to learn from with too few pictures, without reading them.

    A checkpoint with only a text tower learns rounding from captions alone.
    """
    compact = request.compact
    if compact is not None and compact.size <= min(load_variant(name).embed_dim for name in variant_names()):
        _check_enough(axes_pictures(compact.size), compact.pictures)  # a larger size is checked with the checkpoint
    if request.background is not None:
        check_background(request.background, _pictures_in(request.background, LEAST_BACKGROUND))
    folder = request.calibration
    if folder is not None and request.learns and "image" in towers:
        captioned = any((folder / name).is_file() for name in (*PROMPT_FILES, "dataset.json", "pairs.jsonl"))
        if not captioned or _pictures_in(folder, 1):
            _check_enough(ROUNDING, folder)


def _check_enough(needed: Needed, folder: Path) -> None:
    needed.check(folder, _pictures_in(folder, needed.pictures))


def _pictures_in(folder: Path, most: int) -> list[Path]:
    return list(islice(walk_images(folder), most)) if folder.is_dir() else []


def _check_search(request: ExportRequest, chosen: Sequence[Target]) -> None:
    if len(request.precisions) > 1 or not request.writing.verify:
        raise UsageError("`precision='smallest'` must be the only precision, and needs verification")
    if request.head.names:
        raise UsageError("`precision='smallest'` searches towers, not classifiers; leave `labels` out")
    for target in chosen:
        target.require_installed(converters=True)
        for option, reason in target.capabilities.formats.not_searched.items():
            if getattr(target.options, option):
                raise UsageError(reason)
