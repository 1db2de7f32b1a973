"""Immich's pixels: what the resizing in a checkout of its machine learning service costs a bundle of its layout.

mobileclip-deploy export --layout immich -o out/
python benchmarks/real/immich.py ~/immich out/nano-immich-fp32

Loads the service's machine-learning/immich_ml/models/transforms.py (needs opencv-python-headless and orjson), makes the
pixels of every picture of the built-in dataset by it as models/clip/visual.py does, and embeds them. Prints the cosines
with the embeddings of our pixels, and the top-1 accuracy of both. The dataset's pictures have the network's size, which
no filter changes: they are put on white and enlarged four times by Lanczos first.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset

Floats = npt.NDArray[np.float32]
BATCH = 64
SERVICE = "machine-learning/immich_ml/models/transforms.py"


def transforms(checkout: Path) -> Any:
    spec = importlib.util.spec_from_file_location("immich_transforms", checkout / SERVICE)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def service_pixels(service: Any, settings: dict[str, Any], picture: Image.Image) -> Floats:
    """`OpenClipVisualEncoder.transform`, of a checkout that obeys `interpolation` or of an older one."""
    size = settings["size"][0]
    filters: tuple[Any, ...] = ()
    if "resample" in inspect.signature(service.resize_pil).parameters:
        filters = (service.get_pil_resampling(settings["interpolation"]),)
    image = service.crop_pil(service.resize_pil(picture, size, *filters), size)
    mean, std = (np.array(settings[name], dtype=np.float32) for name in ("mean", "std"))
    return np.asarray(service.normalize(service.to_numpy(image), mean, std).transpose(2, 0, 1))


def unit(rows: npt.ArrayLike) -> Floats:
    values = np.asarray(rows, np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True))


def enlarged(path: Any) -> Image.Image:
    picture = Image.open(path).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return opaque.resize((4 * picture.width, 4 * picture.height), Image.Resampling.LANCZOS)


def main() -> None:
    checkout, bundle = Path(sys.argv[1]), mcd.Bundle.open(Path(sys.argv[2]))
    settings = json.loads((bundle.path / "visual" / "preprocess_cfg.json").read_text(encoding="utf-8"))
    service, data = transforms(checkout), builtin_dataset()
    image, text = mcd.load_runner(bundle, "image"), mcd.load_runner(bundle, "text")
    ours, theirs = [], []
    for start in range(0, len(data.images), BATCH):
        pictures = [enlarged(file) for file in data.images[start : start + BATCH]]
        ours.append(image(np.asarray(mcd.preprocess(pictures, bundle), np.float32)))
        theirs.append(image(np.stack([service_pixels(service, settings, picture) for picture in pictures])))
    prompts = [bundle.manifest.template.format(name) for name in data.classes]
    classes, labels = unit(text(mcd.tokenize(prompts, bundle))), np.asarray(data.labels)
    rows = {"ours": unit(np.concatenate(ours)), "immich": unit(np.concatenate(theirs))}
    cosines = (rows["ours"] * rows["immich"]).sum(axis=1)
    top1 = {
        name: round(100 * float(((of @ classes.T).argmax(axis=1) == labels).mean()), 2) for name, of in rows.items()
    }
    print(json.dumps({"cosine": {"median": float(np.median(cosines)), "least": float(cosines.min())}, "top1": top1}))


if __name__ == "__main__":
    main()
