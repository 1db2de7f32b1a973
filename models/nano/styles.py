"""Drawing styles of emoji: the npm packages that hold them, and their images at nano's size."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["SOURCES", "Source", "fetch", "fit", "on_white", "plain", "read_json", "source_images"]

SIZE = 64


@dataclass(frozen=True)
class Source:
    """One drawing style: which npm package holds it, how its files are laid out, and who it belongs to."""

    style: str
    package: str
    layout: str
    folder: str = ""
    zoom: float = 1.0
    licence: str = ""
    coloured: bool = True


SOURCES = (
    Source("noto", "emoji-datasource-google@16.0.0", "hexcode", "img/google/64", 1.0, "Apache-2.0"),
    Source("openmoji", "openmoji@17.0.0", "hexcode", "color/svg", 1.15, "CC-BY-SA-4.0"),
    Source("openmoji-black", "openmoji@17.0.0", "hexcode", "black/svg", 1.15, "CC-BY-SA-4.0", coloured=False),
    Source("fluent-3d", "@lobehub/fluent-emoji-3d@1.1.0", "hexcode", "assets", 1.0, "MIT"),
    Source("fluent", "@iconify-json/fluent-emoji@1.2.7", "iconify", "", 1.0, "MIT"),
    Source("fluent-flat", "@iconify-json/fluent-emoji-flat@1.2.6", "iconify", "", 1.0, "MIT"),
    Source("fluent-mono", "@iconify-json/fluent-emoji-high-contrast@1.2.6", "iconify", "", 1.0, "MIT", coloured=False),
    Source("emojione", "@iconify-json/emojione@1.2.3", "iconify", "", 1.0, "CC-BY-4.0"),
    Source("emojione-v1", "@iconify-json/emojione-v1@1.2.3", "iconify", "", 1.0, "CC-BY-SA-4.0"),
    Source("noto-v1", "@iconify-json/noto-v1@1.2.5", "iconify", "", 1.0, "Apache-2.0"),
    Source("fxemoji", "@iconify-json/fxemoji@1.2.2", "iconify", "", 1.0, "Apache-2.0"),
    Source("streamline", "@iconify-json/streamline-emojis@1.2.4", "iconify", "", 1.0, "CC-BY-4.0"),
    Source("flag-icons", "flag-icons@7.5.0", "flags", "flags/4x3", 1.0, "MIT"),
)


def fetch(package: str, work: Path) -> tarfile.TarFile:
    """Opens the tarball of NAME@VERSION, downloading it into `work` with `npm pack` when it is not there yet."""
    name, version = package.rsplit("@", 1)
    tarball = work / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not tarball.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=work, check=True, stdout=subprocess.DEVNULL)
    return tarfile.open(tarball)


def read_json(package: tarfile.TarFile, path: str) -> Any:
    """One JSON file of a package."""
    member = package.extractfile(f"package/{path}")
    assert member is not None, f"{path} is not a file"
    return json.load(member)


def plain(hexcode: str) -> str:
    """`1F600-FE0F` or `1f600` as the identity of a concept: upper case, without variation selectors."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def iconify_svgs(package: tarfile.TarFile, names: dict[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Yields (hexcode, svg, mirrored) for every icon and alias named as a concept; a trailing number is a variant."""
    icons = read_json(package, "icons.json")
    aliases = icons.get("aliases", {})
    for name in sorted([*icons["icons"], *aliases]):
        hexcode = names.get(name.replace("-", "")) or names.get(re.sub(r"-?\d+$", "", name).replace("-", ""))
        alias = aliases.get(name, {})
        icon = icons["icons"].get(alias.get("parent", name))
        if hexcode is None or icon is None or set(alias) - {"parent", "hFlip"}:
            continue
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        yield (
            hexcode,
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#222" '
                f'viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
            ),
            bool(alias.get("hFlip")),
        )


def fit(image: Image.Image, zoom: float) -> np.ndarray:
    """Scales an image's longer side to SIZE * zoom, centred on a transparent square; uint8 [SIZE, SIZE, 4]."""
    image = image.convert("RGBA")
    scale = SIZE * zoom / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIZE, SIZE))
    square.paste(image, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2))
    return np.asarray(square)


def rasterise(svg: str, zoom: float) -> np.ndarray:
    """Draws an SVG at its final size; uint8 [SIZE, SIZE, 4]."""
    import resvg_py  # not for what is built of the packages' texts

    png = resvg_py.svg_to_bytes(svg_string=svg, width=round(SIZE * zoom), skip_system_fonts=True)
    return fit(Image.open(io.BytesIO(bytes(png))), zoom)


def flag_hexcode(code: str) -> str:
    """`de` -> `1F1E9-1F1EA`; `gb-eng` -> the tag sequence of England's flag."""
    if "-" not in code:
        return "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):X}" for letter in code)
    return "-".join(["1F3F4", *(f"E00{ord(letter):X}" for letter in code.replace("-", "")), "E007F"])


def folder_images(source: Source, package: tarfile.TarFile) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (hexcode, pixels) for packages that hold one file an emoji."""
    prefix = f"package/{source.folder}/"
    for path in sorted(name for name in package.getnames() if name.startswith(prefix)):
        stem, suffix = path[len(prefix) :].rsplit(".", 1)
        hexcode = flag_hexcode(stem) if source.layout == "flags" else plain(stem)
        content = package.extractfile(path).read()  # type: ignore[union-attr]
        if suffix == "svg":
            yield hexcode, rasterise(content.decode(), source.zoom)
        else:
            yield hexcode, fit(Image.open(io.BytesIO(content)), source.zoom)


def source_images(source: Source, package: tarfile.TarFile, names: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (hexcode, RGBA pixels uint8 [SIZE, SIZE, 4]) for one style."""
    if source.layout != "iconify":
        yield from folder_images(source, package)
        return
    for hexcode, svg, mirrored in iconify_svgs(package, names):
        pixels = rasterise(svg, source.zoom)
        yield hexcode, pixels[:, ::-1] if mirrored else pixels


def on_white(pixels: np.ndarray) -> np.ndarray:
    """RGBA uint8 [..., 4] composited on white; float32 [..., 3] in [0, 255]."""
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)
