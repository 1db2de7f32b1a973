"""Our own layout: folded models as safetensors, named as our modules are, with their provenance in the metadata."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.errors import REASON, CheckpointError, InvalidInput, UsageError, reraising
from mobileclip_deploy.network.checkpoints.keymap import KeyMap, KeyRule
from mobileclip_deploy.network.checkpoints.vocabulary import described
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.variants import Variant, load_variant

NAME = "folded"
KEYS = re.compile(r"image\.|text\.(blocks|final_norm)\.")
TOWERS = {"image": "image.", "text": "text."}
METADATA = "mobileclip_deploy"


def keymap(variant: Variant) -> KeyMap:
    """Returns the identity: this layout uses our keys."""
    return KeyMap([KeyRule(r"^", "")])


def provenance(metadata: Mapping[str, str], path: Path) -> Provenance:
    """Reads the source checkpoint of a folded file from its metadata.

    Raises:
        CheckpointError: the metadata is missing, malformed, or names an unknown variant or layout; or `recover` of an
            earlier version trained the weights.
    """
    text = metadata.get(METADATA)
    if text is None:
        raise CheckpointError(
            f"{path} has this package's keys, but its metadata is missing; write it with `reparameterize`"
        )
    damaged = f"{path}: damaged metadata ({REASON}); write it again with `reparameterize`"
    other = f"{path} was written by another version of this package"
    with reraising(damaged, ValidationError, into=CheckpointError), reraising(other, UsageError, into=CheckpointError):
        source = parse_model(Provenance, text)
        load_variant(source.variant).for_layout(source.layout)
    if source.recovered is not None:
        raise CheckpointError(source.recovered.refusal(path))
    return source


def save(model: MobileCLIP, path: Path) -> None:
    """Writes a folded model; the file appears whole or not at all.

    The metadata holds the provenance as JSON. It also has `variant`, `source_sha256` and `folded`, for readers of the
    file without this package.

    Raises:
        CheckpointError: the model is not folded, or has no provenance (it was not loaded by this package).
        InvalidInput: the path is not a .safetensors file's, or cannot be written.
    """
    if model.provenance is None:
        raise CheckpointError("only models that were loaded from a checkpoint can be saved: provenance is unknown")
    if path.suffix != ".safetensors":
        raise InvalidInput(f"folded models are written as .safetensors, not {path.name}; rename the output")
    if not is_folded(model):
        raise CheckpointError("only folded models are saved in this layout; fold it first")
    metadata = {
        METADATA: json.dumps(model.provenance.model_dump(exclude_none=True), sort_keys=True),
        "variant": model.provenance.variant,
        "source_sha256": model.provenance.sha256,
        "folded": "true",
    } | described(model.variant.tokenizer, model.provenance.distilled)
    save_tensors(path, model.state_dict(), metadata)
