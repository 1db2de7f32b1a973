"""A distilled text tower is tied to the image tower of the space that it claims."""

from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.model.provenance import Distilled
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.verify.checks.settings import image_tower_of


def test_the_built_in_languages_claim_the_image_tower_of_their_space() -> None:
    metadata = open_tensors(models_dir() / "nano" / "languages" / "weights.safetensors").metadata
    claimed = parse_model(Distilled, metadata["distilled"])
    assert image_tower_of(claimed) == claimed.image_sha256
    assert image_tower_of(claimed.model_copy(update={"source_weights": "0" * 64})) is None
