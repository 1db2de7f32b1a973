"""Which preprocessing a checkpoint was trained with: its variant's own, or what open_clip used when it was fine-tuned.

open_clip takes mean, std and interpolation from the pretrained weights that it knows by name. Of weights from a local
file it knows nothing, and trains with OpenAI's mean and std and bicubic, unless `--image-mean`, ... say otherwise. The
file that it writes does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mobileclip_deploy.base.files import json_value, read_json
from mobileclip_deploy.errors import WHY, CheckpointError, InvalidInput, UsageError, refusing, suggestion
from mobileclip_deploy.network.checkpoints import open_clip, siglip
from mobileclip_deploy.network.checkpoints.identity import Identity
from mobileclip_deploy.network.checkpoints.transformers import FORM
from mobileclip_deploy.network.checkpoints.weights_files import CONFIG, PREPROCESSOR
from mobileclip_deploy.network.model.provenance import TakenPreprocess
from mobileclip_deploy.network.model.variants import Preprocess

CARD, OPENAI = "card", "openai"
METADATA = "preprocess_cfg"
"""What open_clip's file calls it, and the metadata of what `convert` writes."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RESIZE_MODES = {"shorter_side": "shortest", "squash": "squash"}
# What open_clip leaves out of its file has these values (open_clip.transform.PreprocessCfg, version 3).
DEFAULTS = {"mean": MEAN, "std": STD, "interpolation": "bicubic"}


def chosen_preprocess(
    identity: Identity, asked: str | Path | TakenPreprocess | None, repository: str | None = None
) -> TakenPreprocess | None:
    """What a checkpoint's pictures are made with, if anything but the variant's card says so.

    Args:
        asked: "openai", "card", a JSON file such as open_clip_config.json, or what was taken before; None: told from
            the checkpoint, from its metadata or from an open_clip_config.json of the same network beside it.
        repository: where on the hub it came from.

    Raises:
        UsageError: what is asked for is neither a word that is known nor a file.
        InvalidInput: the file cannot be used.
        CheckpointError: the checkpoint was fine-tuned with open_clip, and nothing says on which pictures.
    """
    card = identity.candidate.definition.preprocess
    if isinstance(asked, TakenPreprocess):
        return asked
    if asked is not None:
        return _asked(card, asked)
    if identity.source is not None:
        return identity.source.preprocess
    if (text := identity.file.metadata.get(METADATA)) is not None:
        where = f"its metadata ({METADATA})"
        return _read(card, _parsed(f"{identity.file.path}: {where}", text), where, identity.file.path)
    if identity.layout not in (open_clip.NAME, siglip.NAME):
        return None
    folder = identity.file.path.parent
    processor = folder / PREPROCESSOR
    of_transformers = identity.layout == siglip.NAME or identity.file.metadata.get(FORM)
    if of_transformers and processor.is_file():
        return _read(card, _parsed(processor), processor.name, processor)
    beside = folder / CONFIG
    if beside.is_file():
        told = _parsed(beside)
        network = told.get("model_cfg")
        if isinstance(network, dict) and network.get("embed_dim") == identity.variant.embed_dim:
            return _read(card, told, CONFIG, beside)
    _refuse_untold(identity, card, repository)
    return None


def _asked(card: Preprocess, asked: str | Path) -> TakenPreprocess:
    name = str(asked).lower()
    if name == CARD:
        return TakenPreprocess(taken_from=CARD, mean=card.mean, std=card.std, interpolation=card.interpolation)
    if name == OPENAI:
        return _named(card, TakenPreprocess(taken_from=OPENAI, mean=MEAN, std=STD, interpolation="bicubic"))
    path = Path(asked)
    if not path.is_file():
        close = suggestion(name, (CARD, OPENAI))
        raise UsageError(f"`preprocess` {str(asked)!r} is no file{close}; say {OPENAI}, {CARD}, or give {CONFIG}")
    return _read(card, _parsed(path), path.name, path)


def _parsed(where: Path | str, text: str | None = None) -> dict[str, Any]:
    """The object in a file, or in a text that stands where it says."""
    with refusing(f"{where} is no JSON ({WHY}); say {OPENAI} or {CARD} with `preprocess`", ValueError):
        told = json_value(where, text) if text is not None else read_json(Path(where))
    if not isinstance(told, dict):
        raise InvalidInput(f"{where} holds no JSON object; say {OPENAI} or {CARD} with `preprocess`")
    return told


def _read(card: Preprocess, told: Mapping[str, Any], name: str, path: Path) -> TakenPreprocess:
    """Preprocessing as open_clip's file says it, or transformers' (`preprocessor_config.json`), or the values alone."""
    said = told.get(METADATA, told)
    if not isinstance(said, dict):
        raise InvalidInput(f"{path}: {METADATA} holds no JSON object; give open_clip's {CONFIG}")
    if "image_mean" in said:
        way = {2: "bilinear", 3: "bicubic"}.get(said.get("resample", 3), "another")
        said = {"mean": said["image_mean"], "std": said.get("image_std"), "interpolation": way}
    elif not {"mean", "std", "interpolation"} & said.keys() and METADATA not in told:
        raise InvalidInput(f"{path} says no mean, std or interpolation; give open_clip's {CONFIG}")
    said = DEFAULTS | {key: value for key, value in said.items() if value is not None}
    own = RESIZE_MODES[card.resize]
    if said.get("resize_mode", own) != own:
        raise InvalidInput(
            f"{path}: resize_mode {said['resize_mode']!r} is not this network's, {own!r}: a picture is "
            f"{card.described}; train and export with {own!r}"
        )
    with refusing(f"{path}", ValidationError):
        values = {key: said[key] for key in ("mean", "std", "interpolation")}
        return _named(card, TakenPreprocess(taken_from=name, **values))


def _named(card: Preprocess, taken: TakenPreprocess) -> TakenPreprocess:
    """It is the card's, whoever said it, where its values are."""
    same = (taken.mean, taken.std, taken.interpolation) == (card.mean, card.std, card.interpolation)
    return taken.model_copy(update={"taken_from": CARD}) if same else taken


def _refuse_untold(identity: Identity, card: Preprocess, repository: str | None) -> None:
    """Where open_clip trained on and the card has another mean or std than open_clip's own, nobody can tell."""
    file, variant = identity.file, identity.variant
    published = {(source.repository, source.file) for source in variant.sources}
    if not file.traces or (card.mean, card.std) == (MEAN, STD):
        return
    if any(repository == place or file.path.name == name for place, name in published):
        return
    raise CheckpointError(
        f"{file.path} was trained with open_clip (it holds {', '.join(file.traces)}), and does not say on which "
        f"pictures: on those of {variant.name}'s card (mean {card.mean[0]:g}, std {card.std[0]:g}, "
        f"{card.interpolation}), or on OpenAI's (mean {MEAN[0]:.3g}, std {STD[0]:.3g}, bicubic), which open_clip takes "
        f"where it starts from a local file; say which with `preprocess={OPENAI!r}` or `preprocess={CARD!r}`, or give "
        f"the {CONFIG}"
    )
