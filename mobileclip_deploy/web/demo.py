"""The page that shows a bundle: served from this machine, or written into a folder that any web server can host."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.arguments import Bounds
from mobileclip_deploy.base.escaping import writable
from mobileclip_deploy.base.files import StrPath, check_bundle_destination, replacing
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.pages.runtime import FILES, LICENCE, RUNTIME, VERSION, runtime_folder
from mobileclip_deploy.base.pages.server import PageServer, serving
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed, UsageError
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.variants import TOWERS, models_dir

PAGE = Path(__file__).parent / "page"
SETTINGS = "settings.json"
# Files of the plain build: WebGPU's would take twice as long to load.
PLAIN = tuple(name for name in FILES if "webgpu" not in name and "asyncify" not in name)
EMOJI = "nano/evaluation/images/1f[34]??.png"  # weather, food, plants, animals, places, sports, things; no skin tones
LABELS = ("a cat", "a dog", "a pizza", "a car", "a rocket")
MOST_IMAGES = 10_000


@dataclass(frozen=True)
class DemoPage:
    """Everything that the page of a bundle loads. `files`: name in the page -> file; `settings`: settings.json."""

    files: dict[str, Path]
    settings: dict[str, Any]

    @classmethod
    def of(cls, bundle: Bundle, images: Path | None, offline: bool, progress: Progress) -> DemoPage:
        """Makes the page of a bundle.

        Args:
            images: a folder whose pictures the page searches from the start.
            offline: True if the browser may keep the page, to open it again without a network.

        Raises:
            InvalidInput: the bundle does not have two towers, or its tensors do not match the page's.
            UsageError: the bundle's target does not run in browsers; `images` is not a folder, or has too many
                pictures.
            RuntimeFailed: the runtime is not available.
        """
        manifest = bundle.manifest
        if manifest.target != "onnx":  # the page has ONNX Runtime alone
            raise UsageError(f"{bundle.path.name}: {manifest.target} does not run in browsers; export another target")
        if manifest.tokens.kind is not None:
            raise UsageError(
                f"{bundle.path.name}: the page supports CLIP's vocabulary only, and this bundle has another one; embed "
                "its texts with `embed` or `search`"
            )
        if set(manifest.towers) != set(TOWERS):
            raise InvalidInput(f"{bundle.path.name}: the page needs an image and a text tower; export both")
        if any(entry.function for entry in manifest.towers.values()):
            raise InvalidInput(f"{bundle.path.name}: the page needs a file of each tower; export with `joint='also'`")
        _check_tensors(bundle)
        pictures = _pictures(images)
        runtime = runtime_folder(progress)
        files = {file.name: file for file in PAGE.iterdir()}
        files |= {f"mobileclip/{file.name}": file for file in client_sources().glob("*.js")}
        files |= {f"runtime/{name}": runtime / name for name in PLAIN}
        names = [manifest.towers[tower].file for tower in TOWERS]
        names += [
            "manifest.json",
            "golden.safetensors",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "MODEL_CARD.md",
        ]
        files |= {f"bundle/{name}": bundle.path / name for name in names}
        files |= {f"images/{number}": file for number, file in enumerate(pictures)}
        missing = [name for name, file in files.items() if not file.is_file()]
        if missing:
            raise InvalidInput(f"{bundle.path}: {missing[0].partition('/')[2]} is missing; export the bundle again")
        shown = [writable(file.relative_to(images).as_posix()) for file in pictures] if images else []
        return cls(files, _settings(bundle, shown, offline))


def client_sources() -> Path:
    """Returns the folder of the scripts of the package `mobileclip` (clients/js), which the page runs.

    They are next to the modules in a wheel, and at the top of the repository in a checkout.

    Raises:
        RuntimeFailed: this installation came without them.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "clients", package.parent / "clients"):
        if (folder / "js" / "src" / "mobileclip.js").is_file():
            return folder / "js" / "src"
    raise RuntimeFailed(
        "the page's scripts are not part of this installation; install mobileclip-deploy from its wheel"
    )


def demo(
    bundle: Bundle | StrPath | None = None,
    *,
    images: StrPath | None = None,
    port: Annotated[int, Bounds(0, 65535)] = 0,
    ready: Callable[[str], None] = print,
    progress: Progress = silent,
) -> None:
    """Serves a page that runs a bundle in the browser, until the process is interrupted.

    It is served on the loopback address only, and the address contains a secret.

    Args:
        bundle: an ONNX bundle of both towers. None: the built-in checkpoint, for as long as the page is served.
        images: a folder whose pictures the page searches from the start; they do not leave this machine. None: no
            pictures, or, without `bundle`, 460 emoji that the built-in checkpoint was not trained on.
        port: 0: any that is free.
        ready: called with the page's address as soon as it is served.

    Raises:
        InvalidInput, UsageError, RuntimeFailed: see `DemoPage.of`; UsageError also if the port is taken.
        DependencyMissing: there is no `bundle`, and ONNX is not installed.
    """
    with _page(bundle, images, False, progress) as page, _served(page, port) as server:
        try:
            ready(server.address)
            threading.Event().wait()
        except KeyboardInterrupt as stopped:
            stopped.add_note("the page has ended")
            raise


def write_opening(address: str, folder: Path) -> Path:
    """Writes a page that redirects to an address.

    Every user of a machine can see the arguments of a browser's command, but only this user can read the file.
    """
    page = folder / "open.html"
    page.touch(mode=0o600)
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">', encoding="utf-8")
    return page


def write_demo(
    bundle: Bundle | StrPath | None,
    folder: StrPath,
    *,
    images: StrPath | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Path:
    """Writes the page into a folder that any web server can host.

    Args:
        bundle, images: as for `demo`. The pictures are copied into the folder.
        folder: replaced with `force` if it already has a page.

    Returns:
        The folder.

    Raises:
        InvalidInput, UsageError, RuntimeFailed: see `DemoPage.of`; UsageError also if the folder exists.
        DependencyMissing: see `demo`.
    """
    path = Path(folder)
    check_bundle_destination(path, SETTINGS, force)
    with (
        sole_writer(path, "demo", force=force),
        _page(bundle, images, True, progress) as page,
        replacing(path) as partial,
    ):
        for name, file in page.files.items():
            destination = partial / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, destination)
        licence = f"{RUNTIME} {VERSION}: {LICENCE.read_text(encoding='utf-8')}"
        (partial / "runtime/LICENSE.txt").write_text(licence, encoding="utf-8")
        (partial / SETTINGS).write_text(_json(page.settings), encoding="utf-8")
    return path


@contextlib.contextmanager
def _page(
    bundle: Bundle | StrPath | None, images: StrPath | None, offline: bool, progress: Progress
) -> Iterator[DemoPage]:
    """Yields the page of a bundle, or of the built-in checkpoint with its emoji.

    The built-in one is exported unverified: the page itself compares its embeddings with the checkpoint's.
    """
    pictures = None if images is None else Path(images)
    if bundle is not None:
        yield DemoPage.of(Bundle.of(bundle), pictures, offline, progress)
        return
    _pictures(pictures)  # refuses before anything is exported
    runtime_folder(progress)
    with temporary_folder() as folder:
        from mobileclip_deploy import export_all, load_model

        (built_in,) = export_all(load_model(), "onnx", "fp32", folder, verify=False, progress=progress)
        if not pictures:  # some that nano's accuracy is measured on; all 1,911 would take the page two minutes
            pictures = folder / "emoji"
            pictures.mkdir()
            for file in models_dir().glob(EMOJI):
                shutil.copyfile(file, pictures / file.name)
        yield DemoPage.of(built_in, pictures, offline, progress)


@contextlib.contextmanager
def _served(page: DemoPage, port: int = 0) -> Iterator[PageServer]:
    """Serves the page on a port of this machine, and yields the server."""
    with temporary_folder() as folder:
        settings = folder / SETTINGS
        settings.write_text(_json(page.settings), encoding="utf-8")
        try:
            server = PageServer({**page.files, SETTINGS: settings}, {}, port)
        except OSError as error:
            raise UsageError(f"`port` {port} cannot be used ({error.strerror}): leave `port` out") from error
        with serving(server):
            yield server


def _check_tensors(bundle: Bundle) -> None:
    """Refuses tensors that the page cannot make: it makes pixels [N, 3, S, S] in [0, 1] and ids [N, L]."""
    manifest = bundle.manifest
    image, text = (manifest.towers[tower].input for tower in TOWERS)
    size, length = manifest.preprocess.size, manifest.tokens.context_length
    fits = image.dtype == "float32" and image.shape[1:] == (3, size, size) and image.range in (None, (0.0, 1.0))
    if not (fits and text.dtype in ("int64", "int32") and text.shape[1:] == (length,)):
        raise InvalidInput(f"{bundle.path.name}: the page makes float32 pixels and whole ids; export without a layout")


def _pictures(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise UsageError(f"`images` {folder} is not a folder")
    files = [file for file in image_files(folder) if not file.is_symlink()]
    if not files:
        raise UsageError(f"`images` {folder} has no pictures")
    if len(files) > MOST_IMAGES:
        raise UsageError(f"`images` {folder} has {len(files)} pictures; give at most {MOST_IMAGES}")
    return files


def _settings(bundle: Bundle, images: list[str], offline: bool) -> dict[str, Any]:
    manifest = bundle.manifest
    gates = manifest.gates
    bounds = {tower: gates.shipped(manifest.towers[tower].precision) for tower in TOWERS}
    precisions = " and ".join(dict.fromkeys(manifest.towers[tower].precision for tower in TOWERS))
    megabytes = sum(manifest.towers[tower].bytes for tower in TOWERS) / 1e6
    return {
        "title": f"{manifest.variant}, {precisions}, {megabytes:.1f} MB",
        "licence": f"Weights: {manifest.checkpoint.licence}. {RUNTIME} {VERSION}: MIT.",
        "embedding_space": manifest.embedding_space,
        "template": manifest.template,
        "logit_scale": manifest.logit_scale,
        "gates": {tower: {"metric": bound.metric, "bound": bound.value} for tower, bound in bounds.items()},
        "labels": LABELS,
        "images": images,
        "offline": offline,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
