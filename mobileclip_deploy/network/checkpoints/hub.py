"""Checkpoints from the Hugging Face hub: `hf:owner/name[@revision][:file]`, or a variant's usual repository."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.errors import (
    REASON,
    CheckpointError,
    InvalidInput,
    UsageError,
    import_optional,
    reraising,
)
from mobileclip_deploy.network.checkpoints.hub_reader import (
    SUFFIXES,
    Fetched,
    HubFile,
    Progress,
    download,
    from_hub,
    held,
    listing,
)
from mobileclip_deploy.network.checkpoints.weights_files import (
    CONFIG,
    HUB,
    INDEX_SUFFIX,
    MODEL_CONFIG,
    PREPROCESSOR,
    TOKENIZER_FILE,
)
from mobileclip_deploy.network.model.variants import Variant, load_variant, variant_cards

# Files taken from a repository if none is named, the preferred first; a lone .pt or .safetensors comes after these.
USUAL_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
Announce = Callable[[str], None]


def usual_source(variant: str) -> HubFile:
    """Returns the published file of a variant's checkpoint, from its card.

    Raises:
        UsageError: unknown variant, or its card names no source.
    """
    card = load_variant(variant)
    if not card.sources:
        raise UsageError(f"{card.name} is not published on the hub; give `checkpoint`")
    source = card.sources[0]
    return HubFile(source.repository, source.revision, source.file, source.sha256)


def fetch(
    source: HubFile, *, announce: Announce | None = None, progress: Progress | None = None, cache: Path | None = None
) -> Fetched:
    """Downloads a checkpoint, or takes it from the cache.

    Args:
        source: from `parse` or `usual_source`.
        announce: called with one line that names the licence of the weights, before anything is downloaded; raising
            there stops it.
        progress: called with bytes done and bytes in all (None when unknown).
        cache: a folder other than huggingface_hub's own.

    Raises:
        CheckpointError: hub unreachable, no such repository, revision or file, no access, disk full, a page for
            browsers instead of weights, a path outside of the cache, or another sha256 than expected. No partial file
            is kept.
        DependencyMissing: huggingface_hub is not installed.
    """
    hub = import_optional("huggingface_hub", "mobileclip-deploy[hub]")
    if announce is not None:
        announce(_licence(source))
    with reraising(REASON, InvalidInput, into=CheckpointError):
        if source.file is None:
            source = replace(source, file=_usual_file(hub.constants.HF_HUB_OFFLINE, source))
        with from_hub(source) as api:
            fetched = download(api, source, cache=cache, progress=progress)
            for companion in _beside(source):
                with contextlib.suppress(hub.errors.EntryNotFoundError):
                    download(api, replace(source, file=companion), cache=cache)
    if source.sha256 is not None and source.sha256 != fetched.sha256:
        raise CheckpointError(
            f"{source} changed on the hub: its sha256 is {fetched.sha256}, not {source.sha256}; "
            "name the @revision you trust, or the new sha256"
        )
    return fetched


def _licence(source: HubFile) -> str:
    card = published_card(source)
    if card is None:
        return f"{source.repository}: its licence is not known to this package; read it on the repository's page"
    return f"{source.repository}: {card.licence.name}" + (f", {card.licence.url}" if card.licence.url else "")


def published_card(source: HubFile | Path) -> Variant | None:
    """Returns the variant that is published in the repository. None if no variant is, and for a local file."""
    repository = source.repository if isinstance(source, HubFile) else None
    return next((card for card in variant_cards() if repository in {s.repository for s in card.sources}), None)


def _beside(source: HubFile) -> Iterator[str]:
    """Yields names of files with data that the weights lack: preprocessing, activation, a vocabulary. An unknown
    repository may have any of them."""
    from mobileclip_deploy.network.checkpoints import siglip  # imports torch: a wrong reference is refused before it

    card = published_card(source)
    if card is None:
        yield CONFIG
    layouts = (
        ()
        if card is None
        else {published.layout for published in card.sources if published.repository == source.repository}
    )
    if card is None or siglip.NAME in layouts:
        yield from (MODEL_CONFIG, PREPROCESSOR)
    if card is None or card.tokenizer.kind is not None:
        yield TOKENIZER_FILE


def _usual_file(offline: bool, source: HubFile) -> str:
    card = published_card(source)
    if card is not None:
        return next(published.file for published in card.sources if published.repository == source.repository)
    if offline:
        raise CheckpointError(f"{source}: its files cannot be listed offline; write {HUB}{source.repository}:FILE")
    files = listing(source)
    for usual in USUAL_FILES:
        if usual in files:
            return usual
    if any(file.endswith(INDEX_SUFFIX) for file in files):
        raise CheckpointError(
            f"{source.repository} has a checkpoint in shards, which are not downloaded here; download them and their "
            "index into a folder, and give the folder"
        )
    candidates = [file for file in files if file.endswith(SUFFIXES)]
    if len(candidates) == 1:
        return candidates[0]
    raise CheckpointError(f"{source.repository} {held(source)}")
