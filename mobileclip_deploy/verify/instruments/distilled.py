"""The image tower whose space a distilled text tower claims, if the package contains it."""

from __future__ import annotations

from functools import cache

from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.vocabulary import image_sha256
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.provenance import Distilled


def image_tower_of(claimed: Distilled) -> str | None:
    """Returns the SHA-256 of the image tower of the claimed space. None if the space is not the built-in
    checkpoint's."""
    weights, images = _builtin()
    return images if claimed.source_weights == weights else None


@cache
def _builtin() -> tuple[str | None, str | None]:
    model = load(builtin_checkpoint(), "nano")
    assert model.provenance is not None
    return model.provenance.weights, image_sha256(model.state_dict())
