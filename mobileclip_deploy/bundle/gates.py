"""The gates that a bundle was exported with."""

from __future__ import annotations

from mobileclip_deploy.bundle.manifest import Manifest
from mobileclip_deploy.parity.gates import Gates

__all__ = ["bundle_gates"]


def bundle_gates(manifest: Manifest) -> Gates:
    """The bounds that the bundle's artifacts have to hold: the table's, as no override is recorded yet."""
    return Gates()
