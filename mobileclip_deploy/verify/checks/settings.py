"""Check of the settings in a manifest."""

import math
from collections.abc import Iterator
from functools import cache

from mobileclip_deploy.artifacts.bundle.licences import licence_entry
from mobileclip_deploy.artifacts.bundle.manifest import Manifest, TensorEntry
from mobileclip_deploy.artifacts.layouts import packaged_layout
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.vocabulary import image_sha256
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.provenance import Distilled
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.int8 import scale_of
from mobileclip_deploy.verify.instruments.versions import written_by_this_version
from mobileclip_deploy.verify.subject import OpenedSubject

OF_SOURCE = (
    *("variant", "licence", "builtin", "towers", "image_size"),
    *("preprocess", "weights", "compacted", "distilled"),
)
"""Fields of `checkpoint` in the manifest that must equal those of the checkpoint."""


def check_settings(subject: OpenedSubject) -> list[Check]:
    """Checks the manifest's settings against the checkpoint: preprocessing, tokens, logit scale, dimensions, names,
    licence.

    A wrong interpolation or padding moves no golden output, since those inputs are already preprocessed. An app that
    follows the manifest would still be wrong.
    """
    if subject.source is None:
        return [Check.not_run("settings", "both", subject.needs_checkpoint)]
    differing = _settings(subject, subject.source)
    wrong = [f"{name} is {actual}, the checkpoint has {expected}" for name, actual, expected in differing]
    sound = "preprocessing, tokens, logit scale, names and licence are the checkpoint's"
    return [Check.of_faults("settings", "both", wrong, sound)]


def _settings(subject: OpenedSubject, source: Source) -> Iterator[tuple[str, object, object]]:
    """Yields each setting of the manifest that differs from the checkpoint's: its name, its value, the expected
    value."""
    manifest, variant, origin = subject.bundle.manifest, source.variant, source.provenance
    if manifest.checkpoint.weights is None or origin.weights is None:
        # An earlier version wrote one of them, and its spaces were those of files.
        origin = with_fields(origin, weights=manifest.checkpoint.weights)
    pairs: list[tuple[str, object, object]] = [
        ("variant", manifest.variant, variant.name),
        ("embedding_space", manifest.embedding_space, origin.embedding_space),
        ("embed_dim", manifest.embed_dim, variant.embed_dim),
        ("template", manifest.template, variant.template),
    ]
    pairs += [(f"checkpoint.{name}", getattr(manifest.checkpoint, name), getattr(origin, name)) for name in OF_SOURCE]
    if written_by_this_version(subject.bundle):  # other versions may have other texts, or none
        pairs.append(("schema_version", manifest.schema_version, Manifest.model_fields["schema_version"].default))
        if manifest.checkpoint.sha256 == origin.sha256 and manifest.checkpoint.preprocess is None:
            pairs.append(("checkpoint.notes", manifest.checkpoint.notes, origin.notes))  # the same file
        if manifest.licence is None:
            pairs.append(("licence", None, variant.licence.name))
        else:
            expected = licence_entry(variant.licence, manifest.licence.files)
            pairs += [(f"licence.{name}", getattr(manifest.licence, name), value) for name, value in expected]
        pairs.append(("checkpoint.research_only", manifest.checkpoint.research_only, origin.research_only))
    if manifest.layout is not None and written_by_this_version(subject.bundle):
        packaged = packaged_layout(manifest.layout.name)
        if packaged is not None and packaged != manifest.layout:
            yield f"layout {packaged.name}", "another", "what this version packages, by that name"
    for group, have, want in (
        ("preprocess", manifest.preprocess, variant.preprocess),
        ("tokenizer", manifest.tokenizer, variant.tokenizer),
    ):
        fields = want.model_dump()
        pairs += [(f"{group}.{name}", getattr(have, name, None), value) for name, value in fields.items()]
    for tower, entry in manifest.towers.items():
        ports = subject.target.ports(variant, tower, subject.form)
        pairs.append((f"{tower} input", entry.input, TensorEntry.of(ports[0])))
        pairs.append((f"{tower} output", entry.output, TensorEntry.of(ports[1])))
        inside = subject.target.capabilities.ports.pads_inside and tower == "text" and variant.ends_texts
        pairs.append((f"{tower} pads_inside", entry.pads_inside, entry.pads_inside if inside else None))
        if entry.function is not None:  # apps load the function by this name
            pairs.append((f"{tower} function", entry.function, tower))
    yield from (pair for pair in pairs if pair[1] != pair[2])
    distilled = manifest.checkpoint.distilled
    if distilled is not None and (image := image_tower_of(distilled)) not in (None, distilled.image_sha256):
        recorded = f"in the embedding space that it records {image}"
        yield "checkpoint.distilled.image_sha256", distilled.image_sha256, recorded
    has_scale = "image" in manifest.towers and not subject.head.names
    if manifest.int8_scale is None and has_scale and written_by_this_version(subject.bundle):
        yield "int8_scale", None, scale_of(subject.stored.of("image"))
    if manifest.int8_scale is not None:  # from the golden pictures, which `golden` compares with the checkpoint
        compacted = manifest.checkpoint.compacted
        int8_scale = scale_of(subject.stored.of("image")) if compacted is None else compacted.int8_scale
        if manifest.int8_scale != int8_scale:
            yield "int8_scale", manifest.int8_scale, int8_scale
    scale, bias = source.model.scores.scale, source.model.scores.bias
    if not math.isclose(manifest.logit_scale, scale, rel_tol=1e-6):  # exp() on other processors differs in its last bit
        yield "logit_scale", manifest.logit_scale, scale
    if manifest.logit_bias != bias:
        yield "logit_bias", manifest.logit_bias, bias


@cache
def image_tower_of(claimed: Distilled) -> str | None:
    """Returns the SHA-256 of the image tower of the claimed space. None if the space is not the built-in
    checkpoint's."""
    model = load(builtin_checkpoint(), "nano")
    assert model.provenance is not None
    return image_sha256(model.state_dict()) if claimed.source_weights == model.provenance.weights else None
