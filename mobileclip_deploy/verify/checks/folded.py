"""Check of the folded checkpoint against the unfolded one, in float32. In an artifact, rounding would hide a small
mistake."""

from collections.abc import Iterator

import torch

from mobileclip_deploy.network.embedding import embed
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import TowerProof


def check_folded(tower: TowerProof) -> Iterator[Check]:
    """Checks the embeddings of the folded checkpoint. Yields nothing if the checkpoint came folded, or is not
    available."""
    subject, reference = tower.subject, tower.subject.evidence.reference
    if subject.source is None or reference.folded:
        return
    folded = embed(subject.source.model, tower.name, reference.inputs)
    bound = subject.gates.exact(reference.floor[tower.name])
    yield Check.of_answers("folded", tower.name, reference.of(tower.name), folded, bound, f"torch {torch.__version__}")
