"""A bundle of the layout `immich` in Immich's own machine learning service, from a checkout of it.

mobileclip-deploy export --layout immich -o out/
python benchmarks/real/immich.py ~/immich out/nano-immich-fp32

Runs the encoders of machine-learning/immich_ml on every picture and every class of the built-in dataset, and prints the
service's version, the cosines with our embeddings of the same pictures and texts, and the top-1 accuracy of both. Needs
what its pyproject.toml lists; of insightface and rapidocr, which find faces and text, nothing is called, so they may be
missing. The dataset's pictures have the network's size, which no filter changes: they are put on white and enlarged
four times by Lanczos first.
"""

import importlib
import json
import sys
import tomllib
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset

Floats = npt.NDArray[np.float32]
BATCH = 64
NAME = "ViT-B-32__openai"
"""A model that the service knows, whose folder the bundle takes in its cache."""
UNCALLED = ("insightface", "rapidocr")


class Uncalled(MetaPathFinder, Loader):
    """Imports packages that find faces and text, of which nothing is called, as modules of anything."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Returns a module of these packages, found or not on this machine."""
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in UNCALLED else None

    def create_module(self, spec: ModuleSpec) -> Any:
        """Returns what has every name."""
        return mock.MagicMock()

    def exec_module(self, module: ModuleType) -> None:
        """Runs nothing."""


def encoder(part: str, bundle: mcd.Bundle) -> Any:
    """Returns the service's encoder of a tower, with the bundle as the model's folder in its cache."""
    module = importlib.import_module(f"immich_ml.models.clip.{part}")
    return getattr(module, f"OpenClip{part.capitalize()}Encoder")(NAME, cache_dir=bundle.path)


def unit(rows: npt.ArrayLike) -> Floats:
    values = np.asarray(rows, np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True))


def enlarged(path: Any) -> Image.Image:
    picture = Image.open(path).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return opaque.resize((4 * picture.width, 4 * picture.height), Image.Resampling.LANCZOS)


def cosines(first: Floats, second: Floats) -> dict[str, float]:
    each = (first * second).sum(axis=1)
    return {"median": float(np.median(each)), "least": float(each.min())}


def main() -> None:
    """Embeds by both, and prints how they compare."""
    service, bundle = Path(sys.argv[1]) / "machine-learning", mcd.Bundle.open(Path(sys.argv[2]))
    sys.path.insert(0, str(service))
    sys.meta_path.insert(0, Uncalled())
    visual, textual = encoder("visual", bundle), encoder("textual", bundle)
    data = builtin_dataset()
    image, text = mcd.load_runner(bundle, "image"), mcd.load_runner(bundle, "text")
    ours, theirs = [], []
    for start in range(0, len(data.images), BATCH):
        pictures = [enlarged(file) for file in data.images[start : start + BATCH]]
        ours.append(image(np.asarray(mcd.preprocess(pictures, bundle), np.float32)))
        theirs += [json.loads(visual.predict(picture)) for picture in pictures]
    prompts = [bundle.manifest.template.format(name) for name in data.classes]
    pictures_of = {"ours": unit(np.concatenate(ours)), "immich": unit(theirs)}
    classes_of = {
        "ours": unit(text(mcd.tokenize(prompts, bundle))),
        "immich": unit([json.loads(textual.predict(prompt)) for prompt in prompts]),
    }
    nearest = {name: (rows @ classes_of[name].T).argmax(axis=1) for name, rows in pictures_of.items()}
    figures = {
        "immich": tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        "pictures": cosines(*pictures_of.values()),
        "texts": cosines(*classes_of.values()),
        "top1": {name: round(100 * float((found == data.labels).mean()), 2) for name, found in nearest.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
