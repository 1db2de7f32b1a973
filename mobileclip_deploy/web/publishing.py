"""Repository of proven bundles for the Hugging Face hub: its files, its card with the hub's metadata, its licence
rules."""

import getpass
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.companions import sorted_files
from mobileclip_deploy.artifacts.bundle.licences import own_text
from mobileclip_deploy.artifacts.bundle.manifest import LicenceEntry, Manifest
from mobileclip_deploy.artifacts.bundle.model_card import MODEL_CARD
from mobileclip_deploy.artifacts.bundle.opening import TEXTS
from mobileclip_deploy.artifacts.layouts import default_layout
from mobileclip_deploy.base.arguments import checked
from mobileclip_deploy.base.escaping import in_code, in_markdown
from mobileclip_deploy.base.files import StrPath, content_sha256, file_sha256, replacing
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.errors import InvalidInput, UsageError, import_optional, listed
from mobileclip_deploy.network.model.variants import load_variant

CARD = "README.md"
LIBRARIES = {
    "onnx": "transformers.js",
    "coreml": "coreml",
    "litert": "litert",
    "executorch": "executorch",
    "mlx": "mlx",
}
"""The hub's `library_name` by target. Others have none."""
METRICS = {"top1": ("accuracy", "Top-1"), "image_to_text_recall@1": ("recall", "Recall@1, image to text")}
"""The hub's metric type and a name, by figure of the check `task`."""


@dataclass(frozen=True)
class Repository:
    """Files of a repository, by path in it: a bundle's own file, or the text of the card."""

    bundles: tuple[str, ...]
    """Folder of each bundle; "." is the root."""
    files: Mapping[str, Path | bytes] = field(repr=False)
    hashes: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """SHA-256 by path in the repository, of the files that were hashed already."""

    def size(self, name: str) -> int:
        """Returns a file's size in bytes."""
        content = self.files[name]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def read(self, name: str) -> bytes:
        """Returns a file's content."""
        content = self.files[name]
        return content if isinstance(content, bytes) else content.read_bytes()

    def sha256(self, name: str) -> str:
        """Returns a file's SHA-256. Reads the file once."""
        if name not in self.hashes:
            content = self.files[name]
            self.hashes[name] = content_sha256(content) if isinstance(content, bytes) else file_sha256(content)
        return self.hashes[name]


@checked
def repository_of(bundles: Sequence[StrPath], *, name: str, leave_out: bool = False) -> Repository:
    """Returns the repository of proven bundles of one checkpoint, without writing anything.

    A single bundle is at the root. Of several, the one that transformers.js reads is; each other has a folder. Only
    files that an export writes are in it.

    Args:
        bundles: paths; each was verified at its export and may be passed on.
        name: title of the card, as OWNER/NAME.
        leave_out: leave out other files in a bundle's folder, instead of refusing the bundle.

    Raises:
        UsageError: none, two of one name or of different checkpoints, weights that must not be passed on, or other
            files.
        InvalidInput: a damaged bundle, one that was not verified or failed, or one that names this machine.
    """
    opened = [Bundle.open(path) for path in bundles]
    if not opened:
        raise UsageError("no bundle to publish; give at least one that `export` wrote")
    folders = _folders(opened)
    names: list[list[str]] = []
    for bundle in opened:
        _require_permission(bundle)
        _require_proof(bundle)
        own, others = sorted_files(bundle)
        if others and not leave_out:
            remedy = "remove what must not be published, or leave all of it out with `leave_out=True`"
            raise UsageError(f"{bundle.path} has files that its manifest does not list ({listed(others)}); {remedy}")
        _refuse_names_of_this_machine(bundle, own)
        names.append(own)
    weights = {bundle.manifest.checkpoint.sha256 for bundle in opened}
    if len(weights) > 1:
        raise UsageError("these bundles are of different checkpoints; publish those of each in a repository of its own")
    files: dict[str, Path | bytes] = {CARD: _card(opened, folders, name).encode()}
    for bundle, folder, own in zip(opened, folders, names, strict=True):
        files |= {inside if folder == "." else f"{folder}/{inside}": bundle.path / inside for inside in own}
    return Repository(tuple(folders), files)


@checked
def write_repository(repository: Repository, folder: StrPath, *, force: bool = False) -> Path:
    """Writes the files into a folder, which is new unless `force` is given, and returns it.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    destination = Path(folder)
    with sole_writer(destination, "publish", force=force), replacing(destination) as staging:
        for name in repository.files:
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(repository.read(name))
    return destination


def _folders(bundles: Sequence[Bundle]) -> list[str]:
    """Returns each bundle's folder in the repository."""
    names = [bundle.path.resolve().name for bundle in bundles]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two bundles are named {twice}; rename the folder of one")
    if len(bundles) == 1:
        return ["."]
    readable = [name for name, bundle in zip(names, bundles, strict=True) if _is_default_onnx(bundle.manifest)]
    return ["." if readable[:1] == [name] else name for name in names]


def _is_default_onnx(manifest: Manifest) -> bool:
    default = default_layout(manifest.target)
    return manifest.target == "onnx" and default is not None and manifest.layout in (None, default)


def _require_permission(bundle: Bundle) -> None:
    """Refuses weights that must not be passed on, and a bundle without the text that goes with every copy.

    Raises:
        UsageError: the licence forbids it, does not clearly permit it, or its text is not in the bundle.
    """
    entry = bundle.manifest.licence
    if entry is None:
        raise UsageError(f"{bundle.path} was written before 0.4 and has no licence texts; export it again")
    answer = entry.redistribution
    if answer.answer != "yes":
        source = f" ({answer.source})" if answer.source else ""
        raise UsageError(
            f"{bundle.path} must not be published: whether its weights may be passed on is {answer.answer!r}: "
            f"{answer.words}{source}; see docs/licences.md"
        )
    packaged = load_variant(bundle.manifest.variant).licence.text
    if (packaged is None or packaged.text is None) and own_text(entry) is None:
        raise UsageError(
            f"{bundle.path} has no copy of the licence {entry.name!r}, which goes with every copy of the weights; "
            "export it again with `licence_text`"
        )


def _require_proof(bundle: Bundle) -> None:
    """Refuses a bundle that no verification passed.

    Raises:
        InvalidInput: it was not verified, or a check failed or is undecided.
    """
    checks = bundle.parity
    if not checks:
        raise InvalidInput(f"{bundle.path} was not verified at its export; export it again without `no_verify`")
    if open_check := next((check for check in checks if check.status in ("failed", "undecided")), None):
        raise InvalidInput(
            f"{bundle.path} is not proven: its check {open_check.step} ({open_check.tower}) is {open_check.status}"
        )


def _refuse_names_of_this_machine(bundle: Bundle, files: Sequence[str]) -> None:
    """Refuses a bundle whose texts contain this user's home folder or this host's name.

    Raises:
        InvalidInput: a text contains one.
    """
    names = {str(Path.home()), f"/{getpass.getuser()}/", socket.gethostname()} - {"/", "/root", "/root/", "localhost"}
    for path in (bundle.path / file for file in files):
        if path.suffix not in TEXTS or path.parent.name == "tokenizer":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if name := next((name for name in sorted(names) if len(name) > 3 and name in text), None):
            raise InvalidInput(f"{path} contains {name!r} of this machine; export the bundle again from another folder")


def _card(bundles: Sequence[Bundle], folders: Sequence[str], name: str) -> str:
    """Returns the repository's README.md: the hub's metadata, a table of the bundles, and the root's own card."""
    first = bundles[0]
    lines = ["---", _metadata(bundles, folders, name).to_yaml(), "---", "", f"# {in_markdown(name)}", ""]
    lines += [
        "Each bundle was verified against its checkpoint by mobileclip-deploy: `parity.json` has every check with its "
        "figures, `manifest.json` the hash of every artifact.",
        "",
        "| bundle | format | precision | MB | top-1 | lost against the checkpoint |",
        "|---|---|---|---:|---:|---|",
    ]
    for bundle, folder in zip(bundles, folders, strict=True):
        precisions = "; ".join(f"{tower} {entry.precision}" for tower, entry in bundle.manifest.towers.items())
        top1, lost = _accuracy(bundle)
        path = in_code(folder) if folder != "." else "this folder"
        cells = [in_markdown(bundle.manifest.target), precisions, f"{bundle.bytes / 1e6:.1f}", top1, lost]
        lines.append(f"| {' | '.join([path, *cells])} |")
    entry = first.manifest.licence
    if entry is not None:
        lines += ["", "## Licence", "", *_licence(entry)]
    root = bundles[folders.index(".")] if "." in folders else first
    card = root.path / MODEL_CARD
    if card.is_file():
        lines += ["", f"#{card.read_text(encoding='utf-8').strip()}"]
    return "\n".join(lines) + "\n"


def _licence(entry: LicenceEntry) -> Iterator[str]:
    """Yields the sentences that go with every copy, and the answer for products."""
    yield f"{in_markdown(entry.name)}. The text is in `LICENSES/`, the changes made to the weights in its NOTICE.txt."
    if entry.sentence:
        yield f"\n{in_markdown(entry.sentence)}"
    yield f"\nIn a product: {entry.product.answer}. {in_markdown(entry.product.words)}"


def _accuracy(bundle: Bundle) -> tuple[str, str]:
    """Returns top-1 and its loss with the interval, both in points; dashes where no task was measured."""
    task = next((check for check in bundle.parity if check.step == "task" and check.figures), None)
    if task is None or task.figures is None or "top1" not in task.figures:
        return "-", "-"
    lost = (task.losses or {}).get("top1")
    return f"{task.figures['top1']:.1f}%", "-" if lost is None else f"{lost.points:+.2f} ± {lost.error:.2f}"


def _metadata(bundles: Sequence[Bundle], folders: Sequence[str], name: str) -> Any:
    """Returns the hub's metadata, a `ModelCardData`."""
    hub = import_optional("huggingface_hub", "mobileclip-deploy[hub]")
    first = bundles[0].manifest
    variant, entry = load_variant(first.variant), first.licence
    root = bundles[folders.index(".")].manifest if "." in folders else first
    spdx = None if entry is None else entry.spdx
    licence: dict[str, Any] = {"license": spdx.lower()} if spdx else {"license": "other"}
    if not spdx and entry is not None:
        licence |= {"license_name": _slug(entry.name), "license_link": variant.licence.url}
    tags = ["clip", "mobileclip-deploy", *dict.fromkeys(bundle.manifest.target for bundle in bundles)]
    if entry is not None and entry.product.answer == "no":
        tags.append("research-only")
    results = [result for bundle in bundles for result in _results(hub, bundle)]
    return hub.ModelCardData(
        **licence,
        base_model=variant.sources[0].repository if variant.sources else None,
        language=["en"] if variant.languages == "English" else ["multilingual"],
        library_name=LIBRARIES.get(root.target),
        pipeline_tag="image-classification" if root.classifier else "zero-shot-image-classification",
        tags=tags,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _results(hub: Any, bundle: Bundle) -> Iterator[Any]:
    """Yields the measured figures of a bundle as the hub's `EvalResult`."""
    builtin = bundle.manifest.checkpoint.builtin
    for check in bundle.parity:
        if check.step != "task":
            continue
        pictures = next((f"{lost.examples:,} " for lost in (check.losses or {}).values()), "")
        dataset = f"{pictures}held-out emoji of mobileclip-deploy" if builtin else f"{pictures}pictures of the exporter"
        for figure, value in (check.figures or {}).items():
            if figure in METRICS:
                metric, title = METRICS[figure]
                yield hub.EvalResult(
                    task_type="zero-shot-image-classification",
                    dataset_type=_slug(dataset),
                    dataset_name=dataset,
                    metric_type=metric,
                    metric_name=f"{title}, {bundle.path.name}, {check.engine}",
                    metric_value=round(value, 2),
                )


def _slug(name: str) -> str:
    """Returns a licence's name as the hub wants it: lower case, digits, dashes."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
