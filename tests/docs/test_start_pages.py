"""What the start pages say of pictures is what happens, and they begin with a clone and an environment."""

import re

import numpy as np
import pytest
import torch
from conversions import ROOT
from PIL import Image
from torch.nn.functional import interpolate

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.preprocessing import load_image, preprocess
from mobileclip_deploy.network.samples import image_paths

PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("start_ios.md", "start_android.md")}
LITERT = (ROOT / "docs" / "litert.md").read_text(encoding="utf-8")


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy()).float() / 255


def told(cosines: list[float]) -> tuple[str, str]:
    return f"{np.median(cosines):.2f}", f"{min(cosines):.2f}"


@pytest.mark.slow
def test_wrong_pictures_cost_what_the_pages_say() -> None:
    model = mcd.load_model()
    spec = model.variant.preprocess
    size = spec.size
    stretched, aliased, last = [], [], []

    def embedding(picture: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.nn.functional.normalize(model.encode_image(picture[None])[0], dim=0)

    for path in image_paths():
        image = load_image(path)
        given = torch.from_numpy(preprocess(image, spec))
        right = embedding(given)
        stretched.append(float(right @ embedding(pixels(image.resize((size, size), Image.Resampling.BILINEAR)))))
        shape = [int(size * side / min(image.size)) for side in (image.height, image.width)]
        small = interpolate(pixels(image)[None], size=shape, mode="bilinear", antialias=False)[0]
        top, left = (round((side - size) / 2) for side in shape)
        aliased.append(float(right @ embedding(small[:, top : top + size, left : left + size])))
        last.append(float(right @ embedding(given.permute(1, 2, 0).reshape(3, size, size))))
    flat = {name: " ".join(page.split()) for name, page in PAGES.items()}
    (middle, worst), (soft, hard), (other, least) = told(stretched), told(aliased), told(last)
    for text in flat.values():
        assert f"a cosine of {middle} with the right one at the median and {worst} at worst" in text
        assert re.search(rf"antialiasing,? {soft} and {hard}|{soft} and {hard} without antialiasing", text)
    for text in (flat["start_android.md"], " ".join(LITERT.split())):
        assert re.search(rf"a cosine of {other} with the right one at the median .*and {least} at worst", text)
