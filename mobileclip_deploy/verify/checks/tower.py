"""Check of the module that a target converts, in float32."""

from collections.abc import Iterator

import torch

from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import TowerProof


def check_tower(tower: TowerProof) -> Iterator[Check]:
    """Checks the answers of the tower with its head. Yields nothing if the checkpoint is not available."""
    subject = tower.subject
    if subject.source is None:
        return
    module = subject.head.module(subject.source.model, tower.name)
    with torch.no_grad():
        answers = torch.cat([module(batch) for batch in torch.from_numpy(tower.inputs).split(32)]).numpy()
    engine = f"torch {torch.__version__}"
    yield Check.of_answers("tower", tower.name, tower.expected, answers, tower.exact_bound, engine)
