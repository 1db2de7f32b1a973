"""A bundle that knows what a match needs: background pictures and a threshold, made up."""

import shutil
from pathlib import Path

import numpy as np
from indices import units

from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.spaces.int8 import integers_of
from mobileclip_deploy.spaces.relevance import Relevance
from mobileclip_deploy.spaces.relevance_fit import MatchThreshold
from mobileclip_deploy.spaces.relevance_learning import LearnedRelevance
from mobileclip_deploy.spaces.relevance_set import RelevanceSet

NONE = RelevanceSet("photos", "0" * 64, (), (), (), (), None, ())


def relevant_bundle(given: Bundle, path: Path) -> Bundle:
    """A copy of a bundle of nano, with a threshold between what "rocket" and what nonsense finds."""
    shutil.copytree(given.path, path)
    dimension = given.manifest.embed_dim
    background = integers_of(units(256, 8, dimension), 0.004)[0]
    fitted = MatchThreshold(0.05 * units(1, 9, dimension)[0].round(4).astype(np.float64), 0.1, 0.2, 0.02)
    golden = Reference.read(given.golden).of("text")
    entry = LearnedRelevance(Relevance(background, 0.004, fitted), NONE, ()).write(path, golden)
    options = given.manifest.options | {"background": NONE.name}
    manifest = given.manifest.model_copy(update={"relevance": entry, "options": options})
    (path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.open(path)
