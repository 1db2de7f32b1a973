"""The preprocessing of a checkpoint: its variant's own, or open_clip's when it was fine-tuned.

open_clip takes mean, std and interpolation from the pretrained weights that it knows by name. For weights from a local
file it trains with OpenAI's mean and std and bicubic, unless `--image-mean`, ... set others. The file that it writes
does not record them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mobileclip_deploy.base.files import json_value, read_json
from mobileclip_deploy.errors import REASON, CheckpointError, InvalidInput, UsageError, reraising, suggestion
from mobileclip_deploy.network.checkpoints import open_clip, siglip
from mobileclip_deploy.network.checkpoints.identity import Identity
from mobileclip_deploy.network.checkpoints.transformers import FORM
from mobileclip_deploy.network.checkpoints.weights_files import CONFIG, PREPROCESSOR
from mobileclip_deploy.network.model.provenance import TakenPreprocess
from mobileclip_deploy.network.model.variants import CLIP_MEAN, CLIP_STD, Preprocess

CARD, OPENAI = "card", "openai"
METADATA = "preprocess_cfg"
"""Key in open_clip's file, and in the metadata that `convert` writes."""
RESIZE_MODES = {"shorter_side": "shortest", "squash": "squash"}
# Values of keys that open_clip leaves out of its file (open_clip.transform.PreprocessCfg, version 3).
DEFAULTS = {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic"}


class UnknownPreprocess(CheckpointError):
    """Raised if a checkpoint was trained further and nothing records its mean, std and interpolation."""


def chosen_preprocess(
    identity: Identity, asked: str | Path | TakenPreprocess | None, repository: str | None = None
) -> TakenPreprocess | None:
    """Chooses a checkpoint's preprocessing. None if only the variant's card sets it.

    Args:
        asked: "openai", "card", a JSON file such as open_clip_config.json, or an earlier choice. None: read from the
            checkpoint's metadata, or from an open_clip_config.json of the same network next to it. transformers'
            checkpoints have a preprocessor_config.json instead.
        repository: its repository on the hub.

    Raises:
        UsageError: an unknown word, or a file that does not exist.
        InvalidInput: the file cannot be used.
        UnknownPreprocess: the checkpoint was trained further with open_clip, and its preprocessing is unknown.
    """
    card = identity.candidate.definition.preprocess
    if isinstance(asked, TakenPreprocess):
        return asked
    if asked is not None:
        return _asked(card, asked)
    if identity.source is not None:
        return identity.source.preprocess
    if (text := identity.file.metadata.get(METADATA)) is not None:
        source = f"its metadata ({METADATA})"
        return _read(card, _parsed(f"{identity.file.path}: {source}", text), source, identity.file.path)
    if identity.layout not in (open_clip.NAME, siglip.NAME):
        return None
    folder = identity.file.path.parent
    processor = folder / PREPROCESSOR
    of_transformers = identity.layout == siglip.NAME or identity.file.metadata.get(FORM)
    if of_transformers and processor.is_file():
        return _read(card, _parsed(processor), processor.name, processor)
    config_file = folder / CONFIG
    if config_file.is_file():
        config = _parsed(config_file)
        network = config.get("model_cfg")
        if isinstance(network, dict) and network.get("embed_dim") == identity.variant.embed_dim:
            return _read(card, config, CONFIG, config_file)
    _refuse_unrecorded(identity, card, repository)
    return None


def _asked(card: Preprocess, asked: str | Path) -> TakenPreprocess:
    name = str(asked).lower()
    if name == CARD:
        return TakenPreprocess(taken_from=CARD, mean=card.mean, std=card.std, interpolation=card.interpolation)
    if name == OPENAI:
        return _named(card, TakenPreprocess(taken_from=OPENAI, mean=CLIP_MEAN, std=CLIP_STD, interpolation="bicubic"))
    path = Path(asked)
    if not path.is_file():
        close = suggestion(name, (CARD, OPENAI))
        raise UsageError(f"`preprocess` {str(asked)!r} is not a file{close}; say {OPENAI}, {CARD}, or give {CONFIG}")
    return _read(card, _parsed(path), path.name, path)


def _parsed(where: Path | str, text: str | None = None) -> dict[str, Any]:
    """Parses the JSON object in a file, or in a text whose source is `where`."""
    with reraising(f"{where} is not JSON ({REASON}); say {OPENAI} or {CARD} with `preprocess`", ValueError):
        parsed = json_value(where, text) if text is not None else read_json(Path(where))
    if not isinstance(parsed, dict):
        raise InvalidInput(f"{where} has no JSON object; say {OPENAI} or {CARD} with `preprocess`")
    return parsed


def _read(card: Preprocess, told: Mapping[str, Any], name: str, path: Path) -> TakenPreprocess:
    """Reads preprocessing from open_clip's file, from transformers' (`preprocessor_config.json`), or from the bare
    values."""
    settings = told.get(METADATA, told)
    if not isinstance(settings, dict):
        raise InvalidInput(f"{path}: {METADATA} holds no JSON object; give open_clip's {CONFIG}")
    if "image_mean" in settings:
        interpolation = {"2": "bilinear", "3": "bicubic"}.get(str(settings.get("resample", 3)), "another")
        settings = {"mean": settings["image_mean"], "std": settings.get("image_std"), "interpolation": interpolation}
    elif not {"mean", "std", "interpolation"} & settings.keys() and METADATA not in told:
        raise InvalidInput(f"{path} has no mean, std or interpolation; give open_clip's {CONFIG}")
    settings = DEFAULTS | {key: value for key, value in settings.items() if value is not None}
    resize = RESIZE_MODES[card.resize]
    if settings.get("resize_mode", resize) != resize:
        raise InvalidInput(
            f"{path}: resize_mode {settings['resize_mode']!r} does not match this network's, {resize!r}: a picture is "
            f"{card.described}; train and export with {resize!r}"
        )
    with reraising(f"{path}", ValidationError):
        values = {key: settings[key] for key in ("mean", "std", "interpolation")}
        return _named(card, TakenPreprocess(taken_from=name, **values))


def _named(card: Preprocess, taken: TakenPreprocess) -> TakenPreprocess:
    """Returns the choice, marked as the card's if it has the card's values."""
    same = (taken.mean, taken.std, taken.interpolation) == (card.mean, card.std, card.interpolation)
    return taken.model_copy(update={"taken_from": CARD}) if same else taken


def card_notes(identity: Identity, repository: str | None) -> tuple[str, ...]:
    """Returns a note if the card sets the preprocessing of an open_clip checkpoint that no publisher named."""
    card, variant = identity.candidate.definition.preprocess, identity.variant
    if identity.layout != open_clip.NAME or not _ambiguous(identity, card, repository):
        return ()
    return (
        f"pictures as {variant.name}'s card says (mean {card.mean[0]:g}, std {card.std[0]:g}, {card.interpolation}): "
        f"{identity.file.path.name} does not record its own; `preprocess` sets others",
    )


def _ambiguous(identity: Identity, card: Preprocess, repository: str | None) -> bool:
    """Returns whether a checkpoint with pictures may have been trained on another mean and std than its card's."""
    file, sources = identity.file, identity.variant.sources
    published = any(repository == source.repository or file.path.name == source.file for source in sources)
    return "image" in identity.towers and not published and (card.mean, card.std) != (CLIP_MEAN, CLIP_STD)


def _refuse_unrecorded(identity: Identity, card: Preprocess, repository: str | None) -> None:
    """Refuses a checkpoint that was trained further if the card's mean or std are not open_clip's own: nothing records
    which were used."""
    file, signs = identity.file, (*identity.file.traces, *(["a head"] if identity.head else []))
    if signs and _ambiguous(identity, card, repository):
        raise UnknownPreprocess(
            f"{file.path} seems to be trained further (it holds {', '.join(signs)}), and does not record its "
            f"preprocessing: that of {identity.variant.name}'s card (mean {card.mean[0]:g}, std {card.std[0]:g}, "
            f"{card.interpolation}), or OpenAI's (mean {CLIP_MEAN[0]:.3g}, std {CLIP_STD[0]:.3g}, bicubic), which "
            f"open_clip takes where it starts from a local file; say which with `preprocess={OPENAI!r}` or "
            f"`preprocess={CARD!r}`, or give the {CONFIG}"
        )
