"""Check of the file of both towers together, which zero-shot pipelines load: its towers, embeddings and logits."""

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.pictures.embedding import unit
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.verify.subject import Subject

STEP = "joint"
LOGITS = Bound("relative", 1e-5)
"""Bound of logits, against the products of the file's embeddings in float64."""

LENGTH = 1e-5
"""Largest deviation of an embedding's length from 1; in float32 it is 2e-7."""


def check_joint(subject: Subject) -> Iterator[Check]:
    """Checks the joint file, if the bundle has or requires one.

    Its towers must be those of the towers' files, weights included, and its outputs the checkpoint's embeddings at
    length 1 and their products times the logit scale.
    """
    manifest, target = subject.bundle.manifest, subject.target
    if ("joint" in manifest.options) != (manifest.joint is not None):
        yield Check.failed(STEP, "both", "the options and the manifest's `joint` do not agree; export it again")
    if manifest.joint is None:
        return
    path = subject.bundle.path / manifest.joint.file
    try:
        for name, entry in manifest.towers.items():
            if entry.function is None:  # else all checks of the tower have read the joint file
                graphs = [target.open(path, name).graph, target.open(subject.bundle.artifact(name)).graph]
                difference = first_difference(*(graph for graph in graphs if graph is not None))
                fault = None if difference is None else difference.describe()
                yield Check.of_fault(STEP, name, fault, f"{manifest.joint.file} holds the tower of {entry.file}")
        inputs = subject.evidence.reference.inputs
        outputs, engine = target.joint_answers(path, inputs.of("image"), inputs.of("text"))
        embeddings = {name: outputs[manifest.towers[name].output.name] for name in manifest.towers}
        for name, tower in subject.towers.items():
            expected = unit(tower.expected)
            check = Check.of_answers(STEP, name, expected, embeddings[name], tower.bound, engine)
            if check.status == "passed" and abs(np.linalg.norm(embeddings[name], axis=1) - 1).max() > LENGTH:
                check = Check.failed(STEP, name, "embeddings are not of length 1", engine)
            yield check
        exact = manifest.logit_scale * embeddings["image"].astype(np.float64) @ embeddings["text"].T.astype(np.float64)
        for logits, products in (("logits_per_image", exact), ("logits_per_text", exact.T)):
            check = Check.of_answers(STEP, "both", products.astype(np.float32), outputs[logits], LOGITS, engine)
            yield check.model_copy(update={"detail": logits})
    except NotRun as error:
        yield Check.not_run(STEP, "both", str(error))
    except (InvalidInput, RuntimeFailed) as error:
        yield Check.failed(STEP, "both", str(error))
    except KeyError as error:
        yield Check.failed(STEP, "both", f"{manifest.joint.file} has no output {error}; export it again")
