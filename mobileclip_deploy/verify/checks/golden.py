"""Check of the inputs and answers that a bundle stores."""

import numpy as np
import torch

from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.samples import calibration_prompts
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.instruments.versions import written_by
from mobileclip_deploy.verify.subject import OpenedSubject


def check_golden(subject: OpenedSubject) -> list[Check]:
    """Checks the bundle's inputs against the packaged samples, and its embeddings against the checkpoint's."""
    fresh, stored, towers = subject.fresh, subject.stored, subject.bundle.manifest.towers
    if fresh is None or subject.source is None:
        return [Check.not_run("golden", tower, subject.needs_checkpoint) for tower in towers]
    engine, gates, floor = f"torch {torch.__version__}", subject.gates, fresh.floor
    inputs, prompts_until_0_3 = stored.inputs, tuple(calibration_prompts())
    samples = sample_inputs(
        subject.source.model, texts=prompts_until_0_3 if inputs.prompts == prompts_until_0_3 else ()
    )
    checks = []
    for tower in towers:
        names = (inputs.images, samples.images) if tower == "image" else (inputs.prompts, samples.prompts)
        have, want = inputs.of(tower), samples.of(tower)
        # Pixels come from bytes: another version of Pillow may round one of them differently.
        alike = have.shape == want.shape and np.allclose(have, want, rtol=0, atol=1.5 / 255)
        if names[0] != names[1] or not alike:
            detail = f"its {tower} inputs are not the packaged samples, preprocessed for this checkpoint"
            checks.append(Check.failed("golden", tower, detail))
            continue
        bound = gates.exact(floor[tower])
        checks.append(Check.of_answers("golden", tower, fresh.of(tower), stored.of(tower), bound, engine))
        if tower != "image" or not subject.head.names:
            continue
        if stored.probabilities is None:
            if written_by(subject.bundle) >= (0, 3):
                detail = "it has no image_probabilities, which benchmarks need to check a classifier's answers"
                checks.append(Check.failed("golden probabilities", tower, detail))
        else:
            answers = subject.head.answers(subject.source.model, fresh.of(tower))
            bound = gates.exact(None, probabilities=True)
            checks.append(Check.of_answers("golden probabilities", tower, answers, stored.probabilities, bound, engine))
    return checks
