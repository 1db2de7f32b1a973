"""Public functions `audit` and `verify_file`: the verdict on files that other tools or an app wrote."""

import contextlib
import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobileclip_deploy.artifacts.bundle import MANIFEST
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, MobileClipDeployError, UsageError, listed, reraising
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.weights_files import BUILTIN
from mobileclip_deploy.network.inputs import Inputs, sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.pictures.text_files import read_texts
from mobileclip_deploy.verify.audit.batches import ROWS
from mobileclip_deploy.verify.audit.conventions import TextConvention, conventions_of, roles_of
from mobileclip_deploy.verify.audit.embeddings import EmbeddingsReport, listed_images, place_of, verify_embeddings
from mobileclip_deploy.verify.audit.embeddings_file import SUFFIXES
from mobileclip_deploy.verify.audit.opening import SECONDS, OpenedFile, foreign_target, readable_kinds, stopped
from mobileclip_deploy.verify.audit.outputs import logit_mistakes, promises
from mobileclip_deploy.verify.audit.report import WORST, ForeignReport, ForeignTower
from mobileclip_deploy.verify.audit.tower_search import TowerSearch
from mobileclip_deploy.verify.audit.tower_verdict import OTHERWISE, judged
from mobileclip_deploy.verify.audit.trials import Trial
from mobileclip_deploy.verify.audit.weights import weight_evidence

__all__ = ["EmbeddingsReport", "ForeignReport", "audit", "verify_file"]

PICTURES, TEXTS = 5, 6
"""Number of pictures and of texts on which a verdict is confirmed."""
LONG = 60
"""Words of a text whose ids still fit into the context."""
UNSEEN = "the file does not show if an app crops or squashes pictures to the input's size, or by which interpolation"


def audit(
    files: StrPath | Sequence[StrPath],
    *,
    checkpoint: MobileCLIP | StrPath | None = None,
    download: bool = False,
    images: StrPath | None = None,
    texts: StrPath | None = None,
    names: StrPath | None = None,
    seconds: float | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> ForeignReport | EmbeddingsReport:
    """Says if models that other tools wrote, or embeddings that an app computed, are a checkpoint's, or what is wrong.

    Args:
        files: a model with one tower or both, or a list of an image tower and a text tower; or a file of embeddings, as
            for `verify_embeddings`.
        checkpoint: a model from `load_model`, or its weights; with `download` the name of a variant. The built-in nano
            when None or "nano".
        download: download the variant's published weights.
        images, texts: the inputs of the embeddings, as for `verify_embeddings`; or those to compare a model on instead
            of the stored ones.
        names: the name of each row of embeddings, as for `verify_embeddings`.
        seconds: time limit of each file; 600 when None.
        announce: called with the licence of the weights before a download, and with sentences on the checkpoint at the
            end.

    Raises:
        UsageError: no target runs files of this kind, or embeddings lack their images or texts.
        CheckpointError: the checkpoint cannot be used.
        InvalidInput: a file is damaged, dangerous, not a tower's, or does not fit its inputs.
        RuntimeFailed: a model cannot be run here, or a file exceeded a limit.
    """
    paths = [Path(file) for file in ((files,) if isinstance(files, str | PathLike) else files)]
    embedded = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if embedded and len(paths) > 1:
        raise UsageError(f"{embedded[0]} has embeddings, which are compared alone; give the other files in another run")
    if embedded:
        place_of(images, texts)  # refuses before the checkpoint is read
    else:
        _check_models(paths, names)
    if not isinstance(checkpoint, MobileCLIP):
        builtin = checkpoint is None or (str(checkpoint) == BUILTIN and not Path(BUILTIN).exists() and not download)
        named = (str(checkpoint), None) if download else (None, None if builtin else str(checkpoint))
        checkpoint = load_model(*named, download=download, announce=announce, progress=progress)
    report: ForeignReport | EmbeddingsReport
    if embedded:
        inputs = {"images": images, "texts": texts, "names": names}
        timed = _within(progress, embedded[0], seconds)
        report = verify_embeddings(embedded[0], checkpoint=checkpoint, progress=timed, **inputs)
    else:
        sampled = _sampled(checkpoint, optional_path(images), optional_path(texts))
        report = _report(paths, Source.of(checkpoint), sampled, seconds, progress)
    if announce is not None:
        for text in Source.of(checkpoint).provenance.sentences():
            announce(text)
    return report


def verify_file(
    file: StrPath,
    *,
    text: StrPath | None = None,
    checkpoint: StrPath | None = None,
    download: bool = False,
    seconds: float | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> ForeignReport:
    """Finds how a file that other tools wrote takes its inputs, and says if it is a checkpoint's model.

    Args:
        file: a tower, or both in one file.
        text: the text tower, if it is another file.
        checkpoint, download, seconds, announce: as for `audit`.

    Raises:
        UsageError, CheckpointError, InvalidInput, RuntimeFailed: as `audit`.
    """
    paths = [Path(path) for path in (file, text) if path is not None]
    _check_models(paths)
    options: dict[str, Any] = {"checkpoint": checkpoint, "download": download, "seconds": seconds}
    report = audit(paths, announce=announce, progress=progress, **options)
    assert isinstance(report, ForeignReport)
    return report


def _within(progress: Progress, path: Path, seconds: float | None) -> Progress:
    """Returns a progress that ends the work on a file after its time limit."""
    limit = SECONDS if seconds is None else seconds
    deadline = time.monotonic() + limit

    def shown(text: str) -> None:
        if time.monotonic() > deadline:
            raise stopped(path, limit)
        progress(text)

    return shown


def _check_models(paths: Sequence[Path], names: StrPath | None = None) -> None:
    if not paths:
        raise UsageError("no file was given")
    for path in paths:
        if (path / MANIFEST).exists():
            raise UsageError(f"{path} is a bundle; check it with `verify`")
        if foreign_target(path) is None:
            kinds = f"{readable_kinds()}, or embeddings ({', '.join(SUFFIXES)})"
            raise UsageError(f"{path}: no target runs other tools' files of this kind; give one of {kinds}")
        if not path.exists():
            raise InvalidInput(f"{path}: no such file")
    if names is not None:
        raise UsageError("`names` are those of the rows of embeddings; leave it out for a model")


def _sampled(model: MobileCLIP, images: Path | None = None, texts: Path | None = None) -> Inputs:
    """Returns the inputs to compare a model on, at least a batch. The first text is a long one, which needs late
    positions."""
    lines: list[str] = []
    if model.variant.text is not None:
        usual = [prompt for prompt in prompts() if 2 < len(prompt.split()) < 12]
        longest = max((text for text in prompts() if len(text.split()) < LONG), key=len)
        own = [] if texts is None else read_texts(texts)[: TEXTS - 1]
        lines = [longest, *own, *usual[: (TEXTS - 1 if texts is None else max(0, ROWS - len(own)))]]
    pictures = [] if images is None else [Path(file) for file in listed_images(images)][:PICTURES]
    pictures += image_paths()[: (PICTURES if images is None else max(0, ROWS - len(pictures)))]
    return sample_inputs(model, pictures, lines)


def _report(
    paths: Sequence[Path], source: Source, inputs: Inputs, seconds: float | None, progress: Progress
) -> ForeignReport:
    began = time.monotonic()
    towers: list[ForeignTower] = []
    engines: dict[str, None] = {}
    others: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of float32 depend on their number, and one picture keeps no more busy
    try:
        for path in paths:
            timed = _within(progress, path, seconds)
            with contextlib.closing(OpenedFile(path, SECONDS if seconds is None else seconds)) as file:
                engines[file.engine] = None
                towers += _towers(file, source.model, inputs, timed)
                known = {tower.output.name for tower in towers}
                others += [port.name for port in file.outputs if port.name not in known and not promises(port.name)]
    finally:
        torch.set_num_threads(threads)
    if len({tower.tower for tower in towers}) < len(towers):
        raise InvalidInput(f"{paths[-1]} has the same tower as {paths[0]}; give one file of each tower")
    verdict = min((tower.verdict for tower in towers), key=WORST.index)
    return ForeignReport(
        files=tuple(path.name for path in paths),
        variant=source.variant.name,
        checkpoint=source.provenance.file,
        engine=", ".join(engines),
        verdict=verdict,
        sentence=" ".join(map(sentence, towers)),
        towers=tuple(towers),
        unknown=(
            *((UNSEEN,) if any(tower.tower == "image" for tower in towers) else ()),
            *((f"no other output is compared: {listed(others, 3)}",) if others else ()),
        ),
        seconds=time.monotonic() - began,
    )


def _towers(file: OpenedFile, model: MobileCLIP, inputs: Inputs, progress: Progress) -> list[ForeignTower]:
    with reraising(str(file.path), MobileClipDeployError):
        roles = roles_of(file.inputs)
    has: dict[TowerName, bool] = {"image": roles.image is not None, "text": roles.ids is not None}
    for tower in (tower for tower in TOWERS if has[tower] and tower not in model.towers):
        raise InvalidInput(f"{file.path} has the {tower} tower, which the checkpoint lacks; give a whole checkpoint")
    conventions = conventions_of(roles, file.inputs, model.variant)
    usual = {tower: each[0] for tower, each in conventions.items()}
    constants = list(file.constants())
    evidences = weight_evidence(model, constants)
    lengths = {each.length for each in conventions.get("text", ()) if isinstance(each, TextConvention)}
    if lengths and max(lengths) < inputs.ids.shape[1]:  # the long text is for all positions
        inputs = inputs.some("text", np.arange(1, len(inputs.ids)))
    towers: dict[TowerName, ForeignTower] = {}
    searched: dict[TowerName, tuple[TowerSearch, Trial]] = {}
    for tower, tried in conventions.items():
        search = TowerSearch(file, roles, dict(usual), model, tower, inputs, tried, progress)
        searched[tower] = search, search.search()
        towers[tower] = judged(*searched[tower], constants, evidences)
        usual[tower] = searched[tower][1].form[0]
    if len(towers) > 1 and all(each.verdict == "same" for each in towers.values()):
        searched["image"][0].usual.update(usual)
        for tower, mistake in logit_mistakes(searched, towers["image"].precision).items():
            change = {"verdict": "defect", "cause": mistake.name, "cause_text": mistake.text}
            towers[tower] = towers[tower].model_copy(update=change)
    return list(towers.values())


def sentence(tower: ForeignTower) -> str:
    """Returns the verdict on a tower as a sentence for a maintainer."""
    kind = "pictures" if tower.tower == "image" else "texts"
    measured = f"{tower.distance:.1e} from the checkpoint on {tower.inputs} {kind}"
    if tower.verdict == "same":
        otherwise = OTHERWISE if tower.weights.form.endswith(OTHERWISE) else ""
        text = f"the checkpoint's model at {tower.precision}{otherwise}, {measured} (bound {tower.bound:.1e})"
    elif tower.cause_text is not None:
        text = f"the checkpoint's weights, but {tower.cause_text}: {measured}"
        text += "" if tower.explained is None else f", {tower.explained:.1e} with that change"
    elif tower.verdict == "other weights":
        text = f"the checkpoint's architecture with other weights: {measured}"
    elif tower.verdict == "other network":
        text = f"another network: {measured}"
    elif tower.weights.different and tower.weights.found > len(tower.weights.different):
        text = f"the checkpoint's model but for the weights {listed(tower.weights.different, 3)}: {measured}"
    else:
        text = f"not the checkpoint's model, for no cause that is known: {measured} (bound {tower.bound:.1e})"
    return f"{tower.file}, {tower.tower} tower: {text}. Input: {tower.input.form}."
