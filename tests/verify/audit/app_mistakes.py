"""Apps that make one mistake, written with PIL and torchvision alone; and the table of them that `audit` names.

    python tests/verify/audit/app_mistakes.py OUT [--pictures N] [--bundle BUNDLE] [--only REGEX]

prints a row for each mistake, and how many were named. With a bundle its image or text tower computes the embeddings,
so that the mistake is mixed with the loss of a precision.
"""

import argparse
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

SIZE = 64
"""Input of nano, which crops the shorter side and takes 0 to 1."""
Pixels = npt.NDArray[np.float32]
BILINEAR, BICUBIC = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC


def upright(path: Path) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def stored(path: Path) -> Image.Image:
    """The picture as its bytes are: EXIF ignored, transparency dropped."""
    return Image.open(path).convert("RGBA").convert("RGB")


def unturned(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def hidden_colours(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGBA").convert("RGB")


def on_black(path: Path) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def cropped(image: Image.Image, resized: int = SIZE, how: InterpolationMode = BILINEAR) -> Pixels:
    image = tv.center_crop(tv.resize(image, [resized], how), [SIZE])
    return tv.to_tensor(image).numpy()


def stretched(image: Image.Image, how: InterpolationMode = BILINEAR) -> Pixels:
    return tv.to_tensor(tv.resize(image, [SIZE, SIZE], how)).numpy()


def rough(image: Image.Image, how: InterpolationMode) -> Pixels:
    """Resized as bytes, without antialias."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    x = tv.center_crop(tv.resize(x, [SIZE], how, antialias=False), [SIZE])
    return (x.float() / 255).numpy()


def barred(image: Image.Image, grey: int) -> Pixels:
    side = max(image.size)
    board = Image.new("RGB", (side, side), (grey,) * 3)
    board.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return stretched(board)


def normalised(x: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    return (x - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]


CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = np.array([0.299, 0.587, 0.114], np.float32)

MISTAKES: dict[str, tuple[str, Callable[[Path], Pixels]]] = {
    "stretch": ("stretched instead of cropped", lambda path: stretched(upright(path))),
    "crop of 224 of 256": ("central crop of 87.5%", lambda path: cropped(upright(path), 73)),
    "bicubic": ("bicubic", lambda path: cropped(upright(path), how=BICUBIC)),
    "nearest": ("nearest", lambda path: cropped(upright(path), how=InterpolationMode.NEAREST)),
    "area": ("area", lambda path: cropped(upright(path), how=InterpolationMode.BOX)),
    "Lanczos": ("Lanczos", lambda path: cropped(upright(path), how=InterpolationMode.LANCZOS)),
    "bilinear, no antialias": ("bilinear without antialias", lambda path: rough(upright(path), BILINEAR)),
    "bicubic, no antialias": ("bicubic without antialias", lambda path: rough(upright(path), BICUBIC)),
    "black bars": ("black bars", lambda path: barred(upright(path), 0)),
    "white bars": ("white bars", lambda path: barred(upright(path), 255)),
    "BGR": ("BGR", lambda path: cropped(upright(path))[::-1]),
    "grey": ("grey", lambda path: np.repeat(np.tensordot(GREY, cropped(upright(path)), 1)[None], 3, 0)),
    "mirrored": ("mirrored", lambda path: cropped(upright(path))[:, :, ::-1]),
    "upside down": ("upside down", lambda path: cropped(upright(path))[:, ::-1]),
    "width and height exchanged": ("rows and columns exchanged", lambda path: cropped(upright(path)).swapaxes(1, 2)),
    "NHWC buffer as NCHW": (
        "interleaved channels read as planes",
        lambda path: np.ascontiguousarray(cropped(upright(path)).transpose(1, 2, 0)).reshape(3, SIZE, SIZE),
    ),
    "CLIP's mean": ("CLIP's mean and std", lambda path: normalised(cropped(upright(path)), *CLIP)),
    "ImageNet's mean": ("ImageNet's mean and std", lambda path: normalised(cropped(upright(path)), *IMAGENET)),
    "-1 to 1": ("-1 to 1", lambda path: cropped(upright(path)) * 2 - 1),
    "0 to 255": ("0 to 255", lambda path: cropped(upright(path)) * 255),
    "divided twice": ("divided by 255 twice", lambda path: cropped(upright(path)) / 255),
    "JPEG 75": ("JPEG compressed again at quality 75", lambda path: cropped(recompressed(upright(path), 75))),
    "JPEG 40": ("JPEG compressed again at quality 40", lambda path: cropped(recompressed(upright(path), 40))),
    "EXIF ignored": ("EXIF orientation ignored$", lambda path: cropped(unturned(path))),
    "transparency dropped": ("transparency dropped", lambda path: cropped(hidden_colours(path))),
    "as open_clip reads": ("EXIF orientation ignored, transparency dropped", lambda path: cropped(stored(path))),
    "transparency on black": ("transparency on black", lambda path: cropped(on_black(path))),
    "stretch and BGR": ("stretched.*BGR|BGR.*stretched", lambda path: stretched(upright(path))[::-1]),
    "bicubic and CLIP's mean": (
        "CLIP's mean.*bicubic|bicubic.*CLIP's mean",
        lambda path: normalised(cropped(upright(path), how=BICUBIC), *CLIP),
    ),
}
"""Name -> words of the cause in the verdict, and the app."""


def pictures(folder: Path, sources: list[Path]) -> list[Path]:
    """Writes copies of photographs, of which one in four is turned by EXIF and one in four has transparent parts."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index, source in enumerate(sources):
        image = Image.open(source).convert("RGB")
        path = folder / f"{index:02}.{'png' if index % 4 == 3 else 'jpg'}"
        if index % 4 == 3:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
            image.save(path)
        else:
            exif = Image.Exif()
            if index % 4 == 1:
                exif[0x0112] = 6
            image.save(path, quality=97, exif=exif)
        written.append(path)
    return written


def embeddings(model: object, tower: str, inputs: npt.NDArray[np.generic]) -> Pixels:
    """The checkpoint's embeddings, without the preprocessing of the package; nano has neither mean nor std."""
    encode = model.encode_image if tower == "image" else model.encode_text  # type: ignore[attr-defined]
    with torch.no_grad():
        return np.asarray(encode(torch.from_numpy(np.ascontiguousarray(inputs))).numpy())


SOT, EOT = 49406, 49407


def moved(ids: npt.NDArray[np.int64], by: int) -> npt.NDArray[np.int64]:
    rolled = np.roll(ids, by, axis=1)
    rolled[:, slice(0, by) if by > 0 else slice(by, None)] = 0
    return rolled


def cut(ids: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    kept = ids.copy()
    kept[:, length:] = 0
    return kept


TEXTS = (
    "a photo of a CAT on the Sofa",
    "a photo of two dogs, playing in the snow near a café",
    "a photo of Paris at night",
    "a photo of an astronaut riding a horse through the desert while the sun sets over the far mountains",
    "a photo of a cup of coffee",
    "a photo of the Milky Way above a lake",
)
IDS: dict[str, tuple[str, Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]]] = {
    "no end": ("no end token", lambda ids: np.where(ids == EOT, 0, ids)),
    "no start": ("no start token", lambda ids: moved(ids, -1)),
    "neither": ("neither start nor end token", lambda ids: moved(np.where(ids == EOT, 0, ids), -1)),
    "shifted": ("shifted by a position", lambda ids: moved(ids, 1)),
    "ids one too high": ("every id one too high", lambda ids: np.minimum(ids + 1, 49407)),
    "ids one too low": ("every id one too low", lambda ids: np.maximum(ids - 1, 0)),
    "padded with the end token": (
        "padded with 49407",
        lambda ids: np.where((ids == 0) & (np.arange(77) > (ids == EOT).argmax(1)[:, None]), EOT, ids),
    ),
    "cut after 16": ("cut after 16 tokens without an end token", lambda ids: cut(ids, 16)),
    "float16 ids": ("ids rounded to float16", lambda ids: ids.astype(np.float16).astype(np.int64).clip(0, 49407)),
}
PROMPTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "template left out": ("template left out", lambda text: text.removeprefix("a photo of ")),
    "another template": ("template 'a picture of {}' added", lambda text: f"a picture of {text}"),
    "no punctuation": ("punctuation dropped", lambda text: text.replace(",", "")),
    "no accents": ("accents dropped", lambda text: text.replace("é", "e")),
}


def cased(texts: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Ids of an app that makes no letters small."""
    from open_clip.tokenizer import SimpleTokenizer

    return np.asarray(SimpleTokenizer(clean="whitespace")(list(texts), 77).numpy())


def main() -> None:
    from mobileclip_deploy import load_model, load_runner, tokenize, verify_embeddings
    from mobileclip_deploy.network.samples import image_paths

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--only", default="", help="a regular expression of `image` or `text` and the name")
    chosen = parser.parse_args()
    model = load_model()

    def run(tower: str, inputs: npt.NDArray[np.generic]) -> Pixels:
        if chosen.bundle is None:
            return embeddings(model, tower, inputs)
        runner = load_runner(chosen.bundle, tower)  # type: ignore[arg-type]
        return np.concatenate([runner(row[None]) for row in inputs])

    files = pictures(chosen.out / "pictures", image_paths()[: chosen.pictures])
    texts = chosen.out / "texts.txt"
    texts.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    ids = tokenize(TEXTS)

    def of_images(app: Callable[[Path], Pixels]) -> Callable[[], Pixels]:
        return lambda: run("image", np.stack([app(file) for file in files]).astype(np.float32))

    def of_ids(change: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]) -> Callable[[], Pixels]:
        return lambda: run("text", change(ids))

    def of_prompts(change: Callable[[str], str]) -> Callable[[], Pixels]:
        return lambda: run("text", tokenize([change(text) for text in TEXTS]))

    cases = [("clean", "", of_ids(lambda ids: ids), "text")]
    cases += [("capitals", "capitals kept", of_ids(lambda _: cased(TEXTS)), "text")]
    cases += [(name, words, of_ids(change), "text") for name, (words, change) in IDS.items()]
    cases += [(name, words, of_prompts(change), "text") for name, (words, change) in PROMPTS.items()]
    cases += [("clean", "", of_images(lambda file: cropped(upright(file))), "image")]
    cases += [(name, words, of_images(app), "image") for name, (words, app) in MISTAKES.items()]
    cases = [case for case in cases if re.search(chosen.only, f"{case[3]} {case[0]}")]
    named = 0
    for name, words, make, tower in cases:
        np.save(chosen.out / "theirs.npy", make())
        place = {"images": chosen.out / "pictures"} if tower == "image" else {"texts": texts}
        report = verify_embeddings(chosen.out / "theirs.npy", checkpoint=model, **place)
        wanted = "same" if name == "clean" else "differs"
        right = report.verdict == wanted and re.search(words, ", ".join(report.causes)) is not None
        named += right
        print(f"{'named' if right else 'MISSED':7}{tower:6}{name:28}{'; '.join(report.causes) or report.sentence}")
        sys.stdout.flush()
    print(f"{named} of {len(cases)}")


if __name__ == "__main__":
    main()
