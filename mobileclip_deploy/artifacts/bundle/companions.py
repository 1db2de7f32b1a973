"""Files next to the artifacts of a bundle: tokenizer, preprocessing, files for apps."""

from pathlib import Path

from mobileclip_deploy.artifacts.bundle.manifest import MANIFEST
from mobileclip_deploy.artifacts.bundle.model_card import MODEL_CARD, PREPROCESSOR_CONFIG, write_preprocessor_config
from mobileclip_deploy.artifacts.bundle.opening import SEARCH_LOG, Bundle
from mobileclip_deploy.artifacts.layouts import Layout, default_layout, write_side_files
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.base.files import files_of
from mobileclip_deploy.network.model.tokenizer import Padding, tokenizer_names, write_tokenizer_files
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


def sorted_files(bundle: Bundle) -> tuple[list[str], list[str]]:
    """Returns the names of the files that an export writes, and of all others in the bundle's folder."""
    entries = _listed_files(bundle)
    names = [path.relative_to(bundle.path).as_posix() for path in files_of(bundle.path)]
    unlisted = [name for name in names if not any(name == entry or name.startswith(f"{entry}/") for entry in entries)]
    return [name for name in names if name not in unlisted], unlisted


def _listed_files(bundle: Bundle) -> set[str]:
    manifest = bundle.manifest
    names = {MANIFEST, MODEL_CARD, PREPROCESSOR_CONFIG, SEARCH_LOG, bundle.golden.name}
    names |= {entry.file for entry in manifest.towers.values()} | {entry.file for entry in manifest.attached_files}
    if manifest.measurements is not None:
        names.add(manifest.measurements)
    if manifest.classifier is not None:
        return names | {str(Path(entry.file).with_name("labels.json")) for entry in manifest.towers.values()}
    if manifest.tokenizer is not None:
        names |= {f"tokenizer/{name}" for name in tokenizer_names(manifest.tokenizer)}
    layout = manifest.layout or (None if manifest.tokenizer is None else default_layout(manifest.target))
    return names if layout is None else names | set(layout.files)
