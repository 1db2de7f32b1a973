"""Outputs of a file that promise something by their names: embeddings of a tower, and logits."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.verify.audit.opening import Stopped
from mobileclip_deploy.verify.audit.tower_search import TowerSearch
from mobileclip_deploy.verify.audit.trials import Trial, distances

EMBEDDING = re.compile(r"(image|text)_?embed(s|ding|dings)?", re.IGNORECASE)
LOGITS = re.compile(r"logits(_per_(image|text))?", re.IGNORECASE)
EXACT: dict[str, float] = {"fp32": 1e-3, "fp16": 5e-3}
"""Share of the logit scale by which logits may differ from the cosines of the file's own embeddings; else COARSE."""
COARSE = 0.02
Judged = Mapping[TowerName, tuple[TowerSearch, Trial]]


class OutputMistake(NamedTuple):
    """A mistake of an output: identifier, and words."""

    name: str
    text: str


def promises(name: str) -> bool:
    """Returns whether the name of an output says what it holds."""
    return bool(EMBEDDING.fullmatch(name) or LOGITS.fullmatch(name))


def name_mistake(search: TowerSearch, match: Trial, bound: float) -> OutputMistake | None:
    """Returns the mistake of an output with the name of an embedding that it does not hold."""
    for port, rows in zip(search.file.outputs, search.ran[match.form[0]], strict=True):
        named = EMBEDDING.fullmatch(port.name)
        if named and (named[1].lower() == search.tower) != (distances(rows, search.clean).max() <= bound):
            return OutputMistake("output-name", f"the output {port.name} is not the embedding of its name")
    return None


def logit_mistakes(judged: Judged, precision: str) -> dict[TowerName, OutputMistake]:
    """Returns the mistakes of a file's logits by tower. Empty if it has one tower, or its logits are right."""
    mistakes: dict[TowerName, OutputMistake] = {}
    if len(judged) < 2:
        return mistakes
    (image, image_match), (text, text_match) = judged["image"], judged["text"]
    texts, file, model = text.batch or 3, image.file, image.model
    named = [(index, port.name) for index, port in enumerate(file.outputs) if LOGITS.fullmatch(port.name)]
    for pictures in (image.batch or 2, texts) if named else ():  # both may share a batch
        try:
            rows, others = (
                np.resize(range(len(each.rows)), size) for each, size in ((image_match, pictures), (text_match, texts))
            )
            results = image.together(image_match.form[0], rows.tolist(), others.tolist())
        except Stopped:
            raise
        except RuntimeFailed:
            continue
        units = [
            at_length_one(results[each.form[1]].reshape(size, -1))
            for each, size in ((image_match, pictures), (text_match, texts))
        ]
        cosines, (scale, bias) = units[0] @ units[1].T, (model.logit_factor, model.scores.bias or 0.0)
        for index, name in named:
            tower: TowerName = "text" if name.lower().endswith("text") else "image"
            forms = [cosines, cosines.T] if name.lower() == "logits" else [cosines.T if tower == "text" else cosines]
            mistake = _mistake(name, results[index], forms, scale, bias, EXACT.get(precision, COARSE))
            mistakes |= {} if mistake is None else {tower: mistake}
        return mistakes
    return mistakes


def _mistake(
    name: str, logits: Array, forms: list[Array], scale: float, bias: float, share: float
) -> OutputMistake | None:
    def fits(cosines: Array, factor: float) -> bool:
        return logits.shape == cosines.shape and bool(
            np.abs(logits - bias - factor * cosines).max() <= share * abs(factor)
        )

    if any(fits(cosines, scale) for cosines in forms):
        return None
    if fits(forms[0].T, scale):
        return OutputMistake("logits-transposed", f"rows and columns of the output {name} are exchanged")
    (cosines, *_), factor = forms, 0.0
    if logits.shape == cosines.shape:
        factor = float((logits - bias).ravel() @ cosines.ravel() / (cosines**2).sum())
    if factor and fits(cosines, factor):
        return OutputMistake("logit-scale", f"the output {name} has the factor {factor:.4g} instead of {scale:.4g}")
    return OutputMistake("logits", f"the output {name} is not {scale:.4g} times the cosines of the embeddings")
