"""Reference embeddings, computed by the checkpoint itself."""

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.network.embedding import embed, embed_exactly
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.gates import LEAST, MULTIPLE
from mobileclip_deploy.parity.metrics import compare, flat
from mobileclip_deploy.parity.reference import Reference

# Stored inputs per tower that are embedded in float64 again when a bundle is verified.
EXACT = 6


def compute_reference(model: MobileCLIP, inputs: Inputs) -> Reference:
    """Computes the reference by the model in its current form, for the towers it has."""
    embeddings: dict[TowerName, npt.NDArray[np.float32]] = {}
    floor: dict[TowerName, float] = {}
    for tower in (tower for tower in TOWERS if tower in model.towers):
        exact = embed_exactly(model, tower, inputs)
        floor[tower] = compare(exact, embed(model, tower, inputs)).relative
        embeddings[tower] = exact.astype(np.float32)
    return Reference(inputs, embeddings, is_folded(model), floor)


def compute_again(model: MobileCLIP, stored: Reference) -> tuple[Reference, Reference]:
    """Embeds the inputs of a stored reference again, at a third of the cost of `compute_reference`.

    The checkpoint's own float32 embeddings are compared with the stored ones. The EXACT inputs that differ most are
    embedded in float64. If the stored embeddings are right, these inputs decide the noise floor. If some are wrong,
    they are among these inputs, and all inputs are embedded in float64.

    Returns:
        The model's embeddings, in float64 for these inputs and in float32 elsewhere; and the stored ones with the
            float64 ones in their place, as a reference. Both have the floor.
    """
    answers: dict[TowerName, npt.NDArray[np.float32]] = {}
    reference: dict[TowerName, npt.NDArray[np.float32]] = {}
    floor: dict[TowerName, float] = {}
    for tower in (tower for tower in TOWERS if tower in model.towers):
        float32_embeddings = embed(model, tower, stored.inputs)
        stored_embeddings = stored.embeddings.get(tower)
        if stored_embeddings is None or stored_embeddings.shape != float32_embeddings.shape:
            stored_embeddings = float32_embeddings
        apart = np.linalg.norm(flat(float32_embeddings - stored_embeddings), axis=1) / np.linalg.norm(
            flat(float32_embeddings), axis=1
        )
        # Negated, so that a NaN is furthest.
        rows = np.sort(np.argsort(np.where(np.isfinite(apart), -apart, -np.inf), kind="stable")[:EXACT])
        exact = embed_exactly(model, tower, stored.inputs.some(tower, rows))
        floor[tower] = compare(exact, float32_embeddings[rows]).relative
        answers[tower], reference[tower] = float32_embeddings.copy(), stored_embeddings.copy()
        answers[tower][rows] = reference[tower][rows] = exact.astype(np.float32)
        if not compare(answers[tower], stored_embeddings).relative <= max(MULTIPLE * floor[tower], LEAST):
            # The stored ones are wrong, which the check `golden` reports; all other checks need right ones.
            whole = embed_exactly(model, tower, stored.inputs)
            floor[tower] = compare(whole, float32_embeddings).relative
            answers[tower] = reference[tower] = whole.astype(np.float32)
    folded = is_folded(model)
    return Reference(stored.inputs, answers, folded, floor), Reference(stored.inputs, reference, folded, floor)
