"""Files next to the artifacts of a bundle: tokenizer, preprocessing, files for apps."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.artifacts.bundle.model_card import write_preprocessor_config
from mobileclip_deploy.artifacts.layouts import Layout, default_layout, write_side_files
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.network.model.tokenizer import Padding, write_tokenizer_files
from mobileclip_deploy.network.model.variants import Variant


def write_companions(
    folder: Path, target: str, variant: Variant, head: Head, layout: Layout | None, padding: Padding
) -> None:
    """Writes the tokenizer, the preprocessing, and files for an app's layout or for clients of the format. A
    classifier gets no tokenizer.

    Args:
        target: its name.
        padding: of the layout's tokenizer files; "inside" only if the text tower pads ids itself.
    """
    if not head.names:
        write_tokenizer_files(folder / "tokenizer", variant.tokens)
    layout = layout or default_layout(target)
    if not head.names and layout is not None:
        write_side_files(folder, layout, variant, padding)
    write_preprocessor_config(folder, variant.preprocess)
