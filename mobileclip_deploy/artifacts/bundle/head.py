"""The head of a bundle's image tower."""

from __future__ import annotations

from mobileclip_deploy.artifacts.bundle.opening import Bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.base.files.names import within


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
