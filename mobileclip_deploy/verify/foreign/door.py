"""Public function `verify_file`: the verdict on a file that other tools wrote."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobileclip_deploy.artifacts.layouts import Layout
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, MobileClipDeployError, UsageError, listed, reraising
from mobileclip_deploy.network.checkpoints.door import load_model
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.weights_files import BUILTIN
from mobileclip_deploy.network.inputs import Inputs, sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, load_variant
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.verify.foreign.conventions import TextConvention, conventions_of, roles_of
from mobileclip_deploy.verify.foreign.feeding import Feeder
from mobileclip_deploy.verify.foreign.judging import OTHERWISE, judged
from mobileclip_deploy.verify.foreign.likeness import layout_like
from mobileclip_deploy.verify.foreign.opening import SECONDS, OpenedFile, foreign_target, readable_kinds
from mobileclip_deploy.verify.foreign.report import WORST, ForeignReport, ForeignTower
from mobileclip_deploy.verify.foreign.searching import TowerSearch
from mobileclip_deploy.verify.foreign.weights import weight_evidence

__all__ = ["ForeignReport", "layout_of", "verify_file"]

PICTURES, TEXTS = 5, 6
"""Number of pictures and of texts on which a verdict is confirmed."""
LONG = 60
"""Words of a text whose ids still fit into the context."""
UNSEEN = "the file does not show if an app crops or squashes pictures to the input's size, or by which interpolation"


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
        checkpoint: its weights; with `download` the name of a variant. The built-in nano when None or "nano".
        download: download the variant's published weights.
        seconds: time limit of each file; 600 when None.
        announce: called with the licence of the weights before anything is downloaded.

    Raises:
        UsageError: no target runs files of this kind.
        CheckpointError: the checkpoint cannot be used.
        InvalidInput: a file is damaged, dangerous, or not a tower's.
        RuntimeFailed: a file cannot be run here, or exceeded a limit.
    """
    paths = [Path(path) for path in (file, text) if path is not None]
    for path in paths:
        if foreign_target(path) is None:
            raise UsageError(f"{path}: no target runs other tools' files of this kind; give one of {readable_kinds()}")
        if not path.exists():
            raise InvalidInput(f"{path}: no such file")
    builtin = checkpoint is None or (str(checkpoint) == BUILTIN and not Path(BUILTIN).exists() and not download)
    named = (str(checkpoint), None) if download else (None, None if builtin else str(checkpoint))
    model = load_model(*named, download=download, announce=announce, progress=progress)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of float32 depend on their number, and one picture keeps no more busy
    try:
        return _report(paths, Source.of(model), SECONDS if seconds is None else seconds, progress)
    finally:
        torch.set_num_threads(threads)


def layout_of(report: ForeignReport, file: Path) -> Layout:
    """Returns the layout under which an export replaces the files of a report; `file` is the first of them.

    Raises:
        UsageError: our files cannot have their convention; the text says what differs.
    """
    target = foreign_target(file)
    assert target is not None
    return layout_like(report, target, load_variant(report.variant).tokenizer)


def _report(paths: Sequence[Path], source: Source, seconds: float, progress: Progress) -> ForeignReport:
    began = time.monotonic()
    towers: list[ForeignTower] = []
    engines: dict[str, None] = {}
    texts = [prompt for prompt in prompts() if 2 < len(prompt.split()) < 12]
    if texts:  # first a long one, which needs late positions
        texts = [max((text for text in prompts() if len(text.split()) < LONG), key=len), *texts[: TEXTS - 1]]
    inputs = sample_inputs(source.model, image_paths()[:PICTURES], texts)
    for path in paths:
        with contextlib.closing(OpenedFile(path, seconds)) as file:
            engines[file.engine] = None
            towers += _towers(file, source.model, inputs, progress)
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
        unknown=(UNSEEN,) if any(tower.tower == "image" for tower in towers) else (),
        seconds=time.monotonic() - began,
    )


def _towers(file: OpenedFile, model: MobileCLIP, inputs: Inputs, progress: Progress) -> list[ForeignTower]:
    with reraising(str(file.path), MobileClipDeployError):
        roles = roles_of(file.inputs)
    has: dict[TowerName, bool] = {"image": roles.image is not None, "text": roles.ids is not None}
    for tower in (tower for tower in TOWERS if has[tower] and tower not in model.towers):
        raise InvalidInput(f"{file.path} has the {tower} tower, which the checkpoint lacks; give a whole checkpoint")
    conventions = conventions_of(roles, file.inputs, model.variant)
    usual: dict[str, Any] = {tower: each[0] for tower, each in conventions.items()}
    feeder = Feeder(file, roles, usual.get("image"), usual.get("text"), model.variant.tokenizer)
    constants = list(file.constants())
    found = weight_evidence(model, constants)
    lengths = {each.length for each in conventions.get("text", ()) if isinstance(each, TextConvention)}
    if lengths and max(lengths) < inputs.ids.shape[1]:  # the long text is for all positions
        inputs = inputs.some("text", np.arange(1, TEXTS))
    searches = (TowerSearch(feeder, model, tower, inputs, conventions[tower], progress) for tower in conventions)
    return [judged(search, search.search(), constants, found) for search in searches]


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
