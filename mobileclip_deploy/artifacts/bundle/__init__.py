"""The bundle: a folder with artifacts and a manifest that has everything a later step needs."""

from mobileclip_deploy.artifacts.bundle.manifest import MANIFEST, ClassifierEntry, Manifest, TowerEntry
from mobileclip_deploy.artifacts.bundle.opening import Bundle, staged_bundle

__all__ = ["MANIFEST", "Bundle", "ClassifierEntry", "Manifest", "TowerEntry", "staged_bundle"]
