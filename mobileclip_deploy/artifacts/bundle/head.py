"""The head of a bundle's artifacts, and the answers that the bundle stores for them."""

from mobileclip_deploy.artifacts.bundle.opening import Bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference


def head_of(bundle: Bundle) -> Head:
    """Returns the head of a bundle's artifacts."""
    classifier = bundle.manifest.classifier
    if classifier is not None:
        labels, tags = LabelSet(classifier.labels, classifier.template), classifier.tags
        if tags is None:
            return Head(labels)
        learned = LabelHead.read(within(bundle.path, tags.file.file))
        return Head(labels, learned=learned.fitting(bundle.manifest.embed_dim))
    return Head(normalised=any(entry.output.normalised for entry in bundle.manifest.towers.values()))


def stored_answers(head: Head, reference: Reference, tower: TowerName) -> Floats:
    """Returns the expected answers of a tower to the stored inputs, by the bundle alone: [N, D], or probabilities
    [N, L].

    Raises:
        InvalidInput: the reference has no embeddings of the tower.
    """
    if head.names and reference.probabilities is not None:
        return reference.probabilities
    return head.scaled(reference.of(tower))
