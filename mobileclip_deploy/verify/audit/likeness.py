"""Layout of an app that uses a foreign file: our file with the same names, types and form of inputs."""

import re
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.artifacts.layouts.layout import ArtifactLayout, Layout, TensorLayout
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import TokenizerSpec, load_variant
from mobileclip_deploy.targets import Target
from mobileclip_deploy.verify.audit.conventions import BYTES, UNIT, ImageConvention, TextConvention
from mobileclip_deploy.verify.audit.opening import foreign_target
from mobileclip_deploy.verify.audit.report import ForeignReport, ForeignTower

BYTES_OPTION = "nhwc_bytes"
"""Option of a target whose image tower may take bytes [N, S, S, 3]."""


def layout_like(report: ForeignReport, file: Path) -> Layout:
    """Returns the layout under which an export replaces the files of a report; `file` is the first of them.

    Raises:
        UsageError: the convention of the files is not known, or our files cannot have it; the text says what differs.
    """
    target, tokens = foreign_target(file), load_variant(report.variant).tokenizer
    assert target is not None
    towers = {tower.tower: tower for tower in report.towers}
    name = ", ".join(report.files)
    if report.verdict not in ("same", "defect"):
        raise UsageError(f"{name}: its convention is not known, as it has other weights; name one with these weights")
    if len(towers) > len(report.files):
        raise UsageError(f"{name} has both towers in one file; exports write a file for each, so the app must load two")
    if differences := [text for tower in report.towers for text in _differences(tower, target, tokens)]:
        raise UsageError(f"{name}: the app gives its file {'; '.join(differences)}; change that, or name a `layout`")
    lengths = {tower.output.length for tower in report.towers}
    if len(lengths) > 1:
        raise UsageError(f"{name}: only one tower's embeddings have length 1; normalise both in the app")
    image, text = towers.get("image"), towers.get("text")
    in_bytes = image is not None and _by_option(image.input.convention, target)
    return Layout(
        name="like-" + re.sub(r"[^a-z0-9._+-]", "-", report.files[0].rpartition(".")[0].lower())[:30],
        title=f"As {name}",
        target=target.name,
        normalised=lengths == {"normalised"},
        options={BYTES_OPTION: True} if in_bytes else {},
        suffixes={},
        files={},
        image=None if image is None else _artifact(image, target),
        text=None if text is None else _artifact(text, target),
    )


def _artifact(tower: ForeignTower, target: Target) -> ArtifactLayout:
    ports, is_text = target.capabilities.ports, tower.tower == "text"
    source, result = tower.input.name, tower.output.name
    if not ports.named:
        source, result = ports.text if is_text else ports.image, ports.embedding
    has_types = is_text and ports.input_types.get("text")
    named = {"name": source, "dtype": tower.input.convention.dtype if has_types else None}
    return ArtifactLayout(file=tower.file, input=TensorLayout.model_validate(named), output=TensorLayout(name=result))


def _by_option(convention: object, target: Target) -> bool:
    """Returns whether the target takes these pictures as bytes if an option is set."""
    bytes_in = isinstance(convention, ImageConvention) and convention.dtype == "uint8"
    return bytes_in and hasattr(target.options, BYTES_OPTION)


def _differences(tower: ForeignTower, target: Target, tokens: TokenizerSpec | None) -> Iterator[str]:
    """Yields each part of a convention that no export has, in words."""
    convention = tower.input.convention
    if isinstance(convention, ImageConvention):
        in_bytes = target.capabilities.ports.pixels == "uint8" or _by_option(convention, target)
        if convention.colours != "RGB":
            yield f"{convention.colours} instead of RGB"
        if convention.encoding.name != (BYTES if in_bytes else UNIT).name:
            yield f"pixels as {convention.encoding.name} instead of {(BYTES if in_bytes else UNIT).name}"
        if (convention.axes == "NCHW") == in_bytes:
            yield f"the axes {convention.axes}"
        if convention.dtype != ("uint8" if in_bytes else "float32"):
            yield f"pixels of type {convention.dtype}"
    else:
        assert tokens is not None
        usual = TextConvention(tokens.context_length, convention.dtype, tokens.pad, convention.pad_name)
        if convention != usual:
            yield f"{convention.describe()} instead of {tokens.context_length} ids, padding {tokens.pad}"
    if tower.output.length == "varying" or tower.output.factor != 1:
        yield f"embeddings times {tower.output.factor:.4g}"
